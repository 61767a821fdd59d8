"""`turnout keys update`, and finding deployments, against a whole installation."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

pytestmark = pytest.mark.slow


def done(result: Result) -> str:
    """What was shown, if all went well."""
    assert result.exit_code == 0, result.stderr
    return result.stdout


def told(result: Result, exit_code: int = 1) -> str:
    """What was said about a failure."""
    assert result.exit_code == exit_code, result.stdout
    assert "Traceback" not in result.stderr
    return result.stderr


def answer(shop: Callable[..., Result], *arguments: str) -> Any:
    """The same as JSON."""
    return json.loads(done(shop("--json", *arguments)))


def test_a_key_is_renamed_given_other_scopes_and_an_end(shop: Callable[..., Result]) -> None:
    made = answer(shop, "keys", "create", "robot", "--until", "2091-01-31")
    assert made["expire_time"] == "2091-01-31T00:00:00Z"
    uid = made["uid"]

    said = done(shop("keys", "update", uid, "--display-name", "[b]bot[/b]", "--scope", "predict"))
    assert "([b]bot[/b]): predict; until 2091-01-31T00:00:00Z" in said
    moved = answer(shop, "keys", "update", uid, "--until", "2092-01-31T18:00:00+01:00")
    assert moved["expire_time"] == "2092-01-31T17:00:00Z"
    endless = answer(shop, "keys", "update", uid, "--forever")
    assert (endless["display_name"], endless["scopes"], "expire_time" in endless) == ("[b]bot[/b]", ["predict"], False)

    assert "EXPIRE_TIME_PAST" in told(shop("keys", "update", uid, "--until", "2001-01-01"))
    for wrong in ((), ("--until", "2091-01-31", "--forever"), ("--until", "tomorrow")):
        assert told(shop("keys", "update", uid, *wrong), 2)
    done(shop("keys", "revoke", uid))
    assert "API_KEY_REVOKED" in told(shop("keys", "update", uid, "--display-name", "x"))


def test_the_list_says_when_a_key_was_last_used(shop: Callable[..., Result]) -> None:
    uid = answer(shop, "keys", "create", "robot")["uid"]

    lines = done(shop("keys", "list")).splitlines()

    assert "last used" in lines[0]
    assert next(line for line in lines if uid in line).split()[-3:] == ["never", "in", "use"]


def test_deployments_are_filtered_and_sorted(shop: Callable[..., Result], llm_url: str) -> None:
    done(shop("providers", "create", "local", "--base-url", llm_url))
    for slug, model in (("bell", "m2"), ("ape", "m1"), ("apple", "m3")):
        common = ("--provider", "local", "--model", model, "--system", "Hi", "--skip-model-check")
        done(shop("deployments", "create", slug, *common))

    def slugs(*arguments: str) -> list[str]:
        return [each["name"].rpartition("/")[2] for each in answer(shop, "deployments", "list", *arguments)]

    assert slugs() == ["bell", "ape", "apple"]
    assert slugs("--order-by", "model desc") == ["apple", "bell", "ape"]
    assert slugs("--filter", "AP local", "--order-by", "name") == ["ape", "apple"]
    assert slugs("--filter", "m2", "--limit", "1") == ["bell"]
    assert "ORDER_BY_INVALID" in told(shop("deployments", "list", "--order-by", "weight"))


def test_a_keys_calls_are_bounded_and_set_free(shop: Callable[..., Result]) -> None:
    done(shop("keys", "create", "robot", "--requests-per-minute", "600"))
    [uid] = [each["uid"] for each in answer(shop, "keys", "list") if each["display_name"] == "robot"]

    assert "600" in done(shop("keys", "list"))
    assert "at most 6 calls a minute" in done(shop("keys", "update", uid, "--requests-per-minute", "6"))
    renamed = answer(shop, "keys", "update", uid, "--display-name", "other")
    assert renamed["requests_per_minute"] == 6
    assert "requests_per_minute" not in answer(shop, "keys", "update", uid, "--requests-per-minute", "0")
