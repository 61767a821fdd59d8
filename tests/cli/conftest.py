"""`turnout` against a whole installation."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from typer.testing import CliRunner, Result

from cli.app import app
from stack.nats import Nats
from stack.postgres import Postgres
from stack.services import Installation
from tests.system.processes import installed, upstream

Turnout: TypeAlias = Callable[..., Result]


@pytest.fixture(scope="session")
def installation(open_folder: Path, postgres: Postgres) -> Iterator[Installation]:
    """All services in one process, with a NATS of its own: installations on one would take each other's events."""
    with Nats(open_folder / "nats-cli") as nats, installed(open_folder, postgres, nats, "all") as running:
        yield running


@pytest.fixture(scope="session")
def llm_url(open_folder: Path) -> Iterator[str]:
    """Base URL of an instant upstream."""
    with upstream(open_folder / "cli-upstream") as base_url:
        yield base_url


@pytest.fixture
def turnout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Turnout:
    """The command in an empty folder, with no settings but those given. A bug is raised, not shown."""
    monkeypatch.chdir(tmp_path)
    services = [f"{each}_ADDRESS" for each in ("REGISTRY", "ROUTER", "EXECUTOR", "INFERENCE", "ANALYTICS")]
    for name in ("ADDRESS", "API_KEY", "PROJECT", *services):
        monkeypatch.delenv(f"TURNOUT_{name}", raising=False)

    def run(*arguments: str, **environment: str) -> Result:
        result = CliRunner().invoke(app, arguments, env={**environment})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def shop(turnout: Turnout, installation: Installation) -> Turnout:
    """The command with an address, a project of its own, and a key of it."""
    project = f"p{uuid.uuid4().hex[:12]}"
    admin = {
        "TURNOUT_ADDRESS": installation.address("registry"),
        "TURNOUT_API_KEY": installation.secrets.platform_key,
        "TURNOUT_PROJECT": project,
    }
    made = turnout("projects", "create", project, "--display-name", "[red]Shop[/red]", **admin)
    assert made.exit_code == 0, made.stderr
    scopes = ("deployments:run", "predict", "registry:read", "registry:write", "keys:admin", "analytics:read")
    asked = [word for scope in scopes for word in ("--scope", scope)]
    key = turnout("keys", "create", "tests", *asked, **admin)
    assert key.exit_code == 0, key.stderr

    def run(*arguments: str, **environment: str) -> Result:
        return turnout(*arguments, **(admin | {"TURNOUT_API_KEY": key.stdout.strip()} | environment))

    # A new key is known everywhere within a fraction of a second; a person's next command takes longer than that.
    deadline = time.monotonic() + 5
    while "KEY_UNKNOWN" in run("stats").stderr:
        assert time.monotonic() < deadline
    return run
