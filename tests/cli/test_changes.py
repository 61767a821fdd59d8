"""Changes of protected deployments, decided on from the command line, against a whole installation."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

from stack.services import Installation

pytestmark = pytest.mark.slow

Shop = Callable[..., Result]


def done(result: Result) -> str:
    """What was shown, if all went well."""
    assert result.exit_code == 0, result.stderr + result.stdout
    return result.stdout


def told(result: Result) -> str:
    """What was said about a failure."""
    assert result.exit_code == 1, result.stdout
    assert "Traceback" not in result.stderr
    return result.stderr


def answer(shop: Shop, *arguments: str) -> Any:
    """The same as JSON."""
    return json.loads(done(shop("--json", *arguments)))


@pytest.fixture
def manager(shop: Shop, installation: Installation) -> Shop:
    """The same command with a key that may approve."""
    scopes = ("registry:read", "registry:write", "deployments:approve")
    asked = [word for scope in scopes for word in ("--scope", scope)]
    key = done(shop("keys", "create", "manager", *asked, TURNOUT_API_KEY=installation.secrets.platform_key)).strip()

    def run(*arguments: str, **environment: str) -> Result:
        return shop(*arguments, TURNOUT_API_KEY=key, **environment)

    deadline = time.monotonic() + 5
    while "KEY_UNKNOWN" in run("deployments", "list").stderr:
        assert time.monotonic() < deadline
    return run


@pytest.fixture
def guide(shop: Shop, llm_url: str) -> str:
    """A protected deployment."""
    done(shop("providers", "create", "local", "--base-url", llm_url))
    words = ("--provider", "local", "--model", "m", "--system", "On {{ country }}.", "--protected")
    done(shop("deployments", "create", "guide", *words))
    return "guide"


def ask(shop: Shop, weight: str = "50") -> str:
    """A change that waits; its uid."""
    change = ("guide", "variant-1", "--weight", weight, "--description", "less of it")
    return str(answer(shop, "deployments", "update", *change)["change_request"].rpartition("/")[2])


def test_a_change_of_a_protected_deployment_waits_and_says_how_to_approve_it(shop: Shop, guide: str) -> None:
    shown = done(shop("deployments", "update", guide, "variant-1", "--weight", "50"))

    [change] = answer(shop, "changes", "list")
    assert "nothing has changed yet" in shown
    assert f"changes approve {change['uid']}" in shown
    assert answer(shop, "deployments", "show", guide)["variants"][0]["weight"] == 100
    assert "protected  yes" in done(shop("deployments", "show", guide))


def test_a_change_is_shown_with_its_difference_its_author_and_its_end(shop: Shop, guide: str) -> None:
    uid = ask(shop)

    shown = done(shop("changes", "show", uid))

    assert "live: 1.0 → 1.1" in shown
    assert "less of it" in shown
    assert "weight" in shown.split("until")[1]
    assert f"changes approve {uid}" in shown
    assert uid in done(shop("changes", "list", guide))
    whole = answer(shop, "changes", "show", uid)
    assert done(shop("changes", "show", whole["name"])) == shown
    assert done(shop("changes", "show", f"guide/{uid}")) == shown


def test_a_change_whose_alias_has_moved_is_marked_in_the_list_and_offers_no_approval(
    shop: Shop, manager: Shop, guide: str
) -> None:
    moved, uid = ask(shop), ask(shop, "40")
    assert "by now" not in done(shop("changes", "list"))
    done(manager("changes", "approve", uid))

    [line] = [line for line in done(shop("changes", "list")).splitlines() if moved in line]
    assert "pending, but live is 1.2 by now" in line
    shown = done(shop("changes", "show", moved))
    assert "live is 1.2 by now" in shown
    assert "changes approve" not in shown
    assert "by now" not in done(shop("changes", "list", "--state", "approved"))


def test_another_key_approves_and_the_author_cannot(shop: Shop, manager: Shop, guide: str) -> None:
    uid = ask(shop)

    refused = told(shop("changes", "approve", uid))
    approved = done(manager("changes", "approve", uid, "--note", "as agreed"))

    assert "deployments:approve" in refused
    assert "guide:live is revision 1.1 now" in approved
    assert answer(shop, "deployments", "show", guide)["variants"][0]["weight"] == 50
    assert answer(shop, "changes", "list") == []
    assert uid in done(shop("changes", "list", "--state", "approved"))
    assert "as agreed" in done(shop("changes", "show", uid))
    assert "CHANGE_REQUEST_DECIDED" in told(manager("changes", "approve", uid))


def test_changes_are_rejected_and_withdrawn(shop: Shop, manager: Shop, guide: str) -> None:
    assert "stays as it is" in done(manager("changes", "reject", ask(shop), "--note", "no"))
    assert "stays as it is" in done(shop("changes", "cancel", ask(shop, "40")))
    assert "NOT_THE_AUTHOR" in told(manager("changes", "cancel", ask(shop, "30")))

    states = [
        each["state"].removeprefix("CHANGE_REQUEST_STATE_")
        for each in answer(shop, "changes", "list", "--state", "all")
    ]
    assert states == ["PENDING", "CANCELLED", "REJECTED"]
    assert answer(shop, "deployments", "show", guide)["variants"][0]["weight"] == 100


def test_changes_that_are_not_there_are_told(shop: Shop, guide: str) -> None:
    assert "CHANGE_REQUEST_NOT_FOUND" in told(shop("changes", "show", "chg_0123456789abcdefghjkmnpqrs"))
    assert "chg_" in told(shop("changes", "show", "guide"))
    assert "DEPLOYMENT_NOT_FOUND" in told(shop("changes", "list", "nope"))


def test_who_may_approve_ends_the_protection_and_changes_at_once(shop: Shop, manager: Shop, guide: str) -> None:
    assert "APPROVAL_REQUIRED" in told(shop("deployments", "update", guide, "--no-protected"))
    assert "weight 60" in done(manager("deployments", "update", guide, "variant-1", "--weight", "60"))
    assert "protected" not in done(manager("deployments", "update", guide, "--no-protected"))
    assert "protected" in done(shop("deployments", "update", guide, "--protected"))
