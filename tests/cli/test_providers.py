"""`turnout providers`, `turnout models archive` and `turnout credentials`, against a whole installation."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from typer.testing import Result

from cli import providers
from stack.services import Installation

pytestmark = pytest.mark.slow

CREDENTIAL = "sk-planted"


class Lists(BaseHTTPRequestHandler):
    """Lists models to those who show the credential."""

    def do_GET(self) -> None:
        is_known = self.headers["authorization"] == f"Bearer {CREDENTIAL}"
        listed = {"data": [{"id": "gpt-4o", "context_window": 128000}, {"id": "gpt-4o-mini", "created": 1715367049}]}
        body = json.dumps(listed if is_known and self.path == "/v1/models" else {}).encode()
        self.send_response(200 if is_known else 401)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def lists_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Lists) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def done(result: Result) -> str:
    assert result.exit_code == 0, result.stderr
    return result.stdout


def told(result: Result) -> str:
    assert result.exit_code == 1, result.stdout
    assert result.stdout == ""
    return result.stderr


def test_a_provider_is_checked_and_its_models_are_listed(shop: Callable[..., Result], lists_url: str) -> None:
    made = shop("providers", "create", "main", "--base-url", lists_url, TURNOUT_PROVIDER_CREDENTIAL=CREDENTIAL)
    assert "providers check main" in done(made)

    assert "offers 2 models" in done(shop("providers", "check", "main"))
    shown = done(shop("providers", "models", "main")).splitlines()
    assert [line.split()[0] for line in shown] == ["model", "gpt-4o", "gpt-4o-mini"]
    assert "128,000" in shown[1]
    assert "2024-05-10" in shown[2]
    [mini] = json.loads(done(shop("--json", "providers", "models", "main", "--refresh", "--containing", "MINI")))
    assert mini["model"] == "gpt-4o-mini"


def test_a_provider_that_refuses_its_credential_is_told_in_a_sentence(
    shop: Callable[..., Result], lists_url: str
) -> None:
    done(shop("providers", "create", "main", "--base-url", lists_url, TURNOUT_PROVIDER_CREDENTIAL="sk-wrong"))

    for command in ("check", "models"):
        sentence = told(shop("providers", command, "main"))
        assert "refused its credential" in sentence
        assert "sk-wrong" not in sentence
    assert json.loads(told(shop("--json", "providers", "check", "main")))["error"]["reason"] == "CREDENTIAL_REFUSED"


def test_a_model_that_is_not_offered_is_refused_with_the_nearest_and_taken_on_demand(
    shop: Callable[..., Result], lists_url: str
) -> None:
    done(shop("providers", "create", "main", "--base-url", lists_url, TURNOUT_PROVIDER_CREDENTIAL=CREDENTIAL))
    create = ("deployments", "create", "guide", "--provider", "main", "--user", "Hello", "--model")

    assert "'gpt-4o'" in told(shop(*create, "gpt4o"))
    assert "warning" not in shop(*create, "gpt4o", "--skip-model-check").stderr


def test_a_model_that_could_not_be_checked_is_a_warning(shop: Callable[..., Result], llm_url: str) -> None:
    done(shop("providers", "create", "local", "--base-url", llm_url))

    made = shop("deployments", "create", "guide", "--provider", "local", "--user", "Hello", "--model", "m")

    assert "created" in done(made)
    assert "warning: the model 'm' was not checked" in made.stderr


def test_a_provider_is_archived_unless_it_is_in_use_and_comes_back(shop: Callable[..., Result], llm_url: str) -> None:
    done(shop("providers", "create", "local", "--base-url", llm_url))
    done(shop("deployments", "create", "guide", "--provider", "local", "--user", "Hello", "--model", "m"))

    assert "deployments/guide (alias live)" in told(shop("providers", "archive", "local"))
    done(shop("deployments", "archive", "guide"))
    assert "is archived" in done(shop("providers", "archive", "local"))
    assert "local" not in done(shop("providers", "list"))
    assert "local (archived)" in done(shop("providers", "list", "--archived"))
    assert "in use again" in done(shop("providers", "unarchive", "local"))
    assert "NOT_FOUND" in told(shop("models", "archive", "mod_none"))


def test_credentials_are_rotated_by_who_may(shop: Callable[..., Result], installation: Installation) -> None:
    assert "PERMISSION_DENIED" in told(shop("credentials", "rotate"))

    platform = {"TURNOUT_API_KEY": installation.secrets.platform_key}
    assert "credentials encrypted anew" in done(shop("credentials", "rotate", **platform))
    answer = json.loads(done(shop("--json", "credentials", "rotate", **platform)))
    assert answer["key_id"]
    assert "remaining_count" not in answer


def test_what_models_cost_and_hold_is_told_and_the_calls_are_bounded(shop: Callable[..., Result], llm_url: str) -> None:
    done(shop("providers", "create", "local", "--base-url", llm_url))

    update = ("providers", "update", "local")
    assert "at most 200 calls" in done(shop(*update, "--max-concurrent", "200"))
    facts = ("--price", "m=2.5/10", "--price", "n=1/0.5/4", "--context-window", "m=8192")
    shown = done(shop(*update, *facts, "--structured-output", "m=json_object"))
    assert "at most 200 calls" in shown
    assert shown.splitlines()[2].split() == ["m", "$2.5", "–", "$10", "8,192", "json_object"]
    changed = json.loads(done(shop("--json", *update, "--forget", "m", "--max-concurrent", "0")))
    assert [each["model"] for each in changed["model_facts"]] == ["n"]
    assert "max_concurrent_calls" not in changed
    assert shop(*update).exit_code == 2
    assert shop(*update, "--price", "m").exit_code == 2
    assert shop(*update, "--forget", "m").exit_code == 2
    assert "NOT_FOUND" in told(shop("providers", "update", "nope", "--max-concurrent", "1"))


def test_a_provider_is_shown_moved_and_given_another_credential(shop: Callable[..., Result], lists_url: str) -> None:
    done(
        shop("providers", "create", "main", "--base-url", "http://127.0.0.1:1/v1", TURNOUT_PROVIDER_CREDENTIAL="sk-no")
    )
    update = ("providers", "update", "main")
    known = {"TURNOUT_PROVIDER_CREDENTIAL": CREDENTIAL}

    assert "could be updated" in done(shop(*update, "--base-url", lists_url, "--set-credential", "--dry-run", **known))
    assert "TURNOUT_PROVIDER_CREDENTIAL" in shop(*update, "--set-credential").stderr
    assert "http://127.0.0.1:1/v1" in done(shop("providers", "show", "main"))
    moved = ("--base-url", lists_url, "--display-name", "Main", "--set-credential")
    assert lists_url in done(shop(*update, *moved, **known))
    assert "offers 2 models" in done(shop("providers", "check", "main"))
    shown = done(shop("providers", "show", "main"))
    assert ["credential", "stored"] in [line.split() for line in shown.splitlines()]
    assert "Main" in shown
    assert CREDENTIAL not in shown
    # Without the option the variable is not taken: it may be another provider's.
    done(shop(*update, "--display-name", "First", TURNOUT_PROVIDER_CREDENTIAL="sk-other"))
    assert "offers 2 models" in done(shop("providers", "check", "main"))
    done(shop(*update, "--no-credential"))
    assert ["credential", "none"] in [line.split() for line in done(shop("providers", "show", "main")).splitlines()]
    assert shop(*update, "--no-credential", "--set-credential").exit_code == 2


def test_a_credential_is_read_from_standard_input(
    shop: Callable[..., Result], lists_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = ("providers", "create", "paid", "--base-url", f"{lists_url}", "--credential", "-")
    assert shop(*create).exit_code == 2
    monkeypatch.setattr(providers, "_standard_input", lambda: io.StringIO(f"{CREDENTIAL}\n"))
    assert shop(*create).exit_code == 0
    assert shop("providers", "check", "paid").exit_code == 0
    assert shop("providers", "update", "paid", "-").exit_code == 2
    monkeypatch.setattr(providers, "_standard_input", lambda: io.StringIO("other\n"))
    assert shop("providers", "update", "paid", "--set-credential", "-").exit_code == 0
    assert shop("providers", "check", "paid").exit_code == 1
