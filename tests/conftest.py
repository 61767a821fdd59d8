"""The real servers that tests share: started when the first test asks, stopped after the last."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from stack.llm import Llm
from stack.nats import Nats
from stack.postgres import Postgres

# Whole servers and whole installations: `make test` runs them, `make check` does not.
_SLOW_FOLDERS = {"stack", "system"}
# Seconds each, for every rpc, interleaving or outage: `make test` runs them side by side, `make check` does not.
_THOROUGH = {
    "bench/test_recommend.py",
    "catalog/test_assignment.py",
    "catalog/test_explain.py",
    "catalog/test_plan_properties.py",
    "catalog/test_watch.py",
    "cli/test_main.py",
    "cli/test_proposals.py",
    "completions/contract/test_document.py",
    "completions/contract/test_hostile_inputs.py",
    "completions/contract/test_properties.py",
    "completions/test_template_limits.py",
    "kit/changelog/test_feed.py",
    "kit/changelog/test_listener.py",
    "kit/changelog/test_log.py",
    "kit/events/test_consumer.py",
    "recommenders/test_training.py",
    "services/analytics/store/test_ingest.py",
    "services/analytics/test_module.py",
    "services/analytics/test_subscriber.py",
    "services/executor/test_store.py",
    "services/executor/test_store_outage.py",
    "services/registry/test_api_keys.py",
    "services/registry/test_archives.py",
    "services/registry/test_bootstrap.py",
    "services/registry/test_change_requests.py",
    "services/registry/test_contracts.py",
    "services/registry/test_credentials.py",
    "services/registry/test_deployments.py",
    "services/registry/test_execution.py",
    "services/registry/test_fallbacks.py",
    "services/registry/test_finding.py",
    "services/registry/test_history.py",
    "services/registry/test_history_walk.py",
    "services/registry/test_list_deployments.py",
    "services/registry/test_model_lists.py",
    "services/registry/test_models.py",
    "services/registry/test_other_projects.py",
    "services/registry/test_projects.py",
    "services/registry/test_prompts.py",
    "services/registry/test_protection_walk.py",
    "services/registry/test_provenance.py",
    "services/registry/test_provider_models.py",
    "services/registry/test_providers.py",
    "services/registry/test_routing.py",
    "services/registry/test_routing_refusals.py",
    "services/registry/test_servicer.py",
    "services/registry/test_snippets.py",
    "services/registry/test_store.py",
    "services/registry/test_upgrade.py",
    "services/registry/test_variants.py",
    "services/registry/test_versions.py",
    "services/registry/test_watch_catalog.py",
    "services/router/test_agreement.py",
}

# How long an example takes says how busy the machine is. What promises to be quick measures itself; tests have limits.
settings.register_profile("turnout", deadline=None)
settings.load_profile("turnout")

# The asserts of these explain themselves as those of tests do.
pytest.register_assert_rewrite("tests.system.clients", "tests.system.load")


def pytest_configure() -> None:
    """A shell that runs us in the background has us ignore Ctrl-C, and what tests start would inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what is slow by where it lies."""
    tests = config.rootpath / "tests"
    for item in items:
        if item.path.is_relative_to(tests) and item.path.relative_to(tests).parts[0] in _SLOW_FOLDERS:
            item.add_marker(pytest.mark.slow)
        elif item.path.is_relative_to(tests) and str(item.path.relative_to(tests)) in _THOROUGH:
            item.add_marker(pytest.mark.thorough)


@pytest.fixture(scope="session")
def open_folder() -> Iterator[Path]:
    """A folder that Postgres' unprivileged user can reach; pytest's own are closed to it."""
    folder = Path(tempfile.mkdtemp(prefix="turnout-tests-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(open_folder: Path) -> Iterator[Postgres]:
    """One Postgres for all tests; each takes databases of its own."""
    with Postgres(open_folder / "postgres") as server:
        yield server


@pytest.fixture(scope="session")
def nats(open_folder: Path) -> Iterator[Nats]:
    """One NATS for all tests that do not kill it."""
    with Nats(open_folder / "nats") as server:
        yield server


@pytest.fixture(scope="session")
def llm(open_folder: Path) -> Iterator[Llm]:
    """A real LLM."""
    with Llm(open_folder / "llm") as server:
        yield server
