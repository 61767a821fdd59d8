"""`turnout providers`, `turnout models archive` and `turnout credentials`, against a whole installation."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from typer.testing import Result

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
