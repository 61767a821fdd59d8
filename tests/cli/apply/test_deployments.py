"""Deployments from files, against a whole installation."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from typer.testing import Result

from stack.services import Installation
from tests.cli.apply.files import FILE, Shop, actions, answer, changed, done, revisions, told, written

pytestmark = pytest.mark.slow


def test_aliases_are_managed_where_a_file_names_them(shop: Shop, llm_url: str, tmp_path: Path) -> None:
    text = FILE.format(url=llm_url)
    file = written(tmp_path, text)
    done(shop("apply", "-f", file, "--yes"))
    done(shop("deployments", "alias", "guide", "other", "1.0"))
    written(tmp_path, text + 'aliases:\n  production: "1.0"\n')

    assert 'aliases.production: "1.0"' in done(shop("apply", "-f", file, "--yes"))
    assert set(actions(shop, "-f", file).values()) == {"keep"}
    exported = done(shop("deployments", "export", "guide", "--aliases"))
    assert 'production: "1.0"' in exported
    assert 'other: "1.0"' in exported
    written(tmp_path, text + 'aliases:\n  production: "7.0"\n')
    refused = told(shop("apply", "-f", file, "--yes"))
    assert refused.startswith("guide.yaml:35 aliases.production points to revision 7.0, which there is not\n")


def test_a_change_that_breaks_callers_is_refused_with_every_path(shop: Shop, llm_url: str, tmp_path: Path) -> None:
    text = FILE.format(url=llm_url)
    file = written(tmp_path, text)
    done(shop("apply", "-f", file, "--yes"))
    written(tmp_path, changed(text, "{{ country }}, loudly", "{{ country }}, {{ city }} and {{ street }}"))

    refused = shop("apply", "-f", file, "--yes")

    assert "CONTRACT_BROKEN" in told(refused)
    assert [line.split(":")[0].strip() for line in refused.stderr.splitlines()[1:3]] == [
        "variables.city",
        "variables.street",
    ], refused.stderr
    assert revisions(shop) == ["1.0"]


def approver(shop: Shop, installation: Installation) -> Shop:
    """The same command with another key, which may approve."""
    scopes = ("registry:read", "registry:write", "deployments:approve")
    made = shop(
        "keys",
        "create",
        "approver",
        *(word for scope in scopes for word in ("--scope", scope)),
        TURNOUT_API_KEY=installation.secrets.platform_key,
    )
    key = done(made).strip()

    def run(*arguments: str, **environment: str) -> Result:
        return shop(*arguments, TURNOUT_API_KEY=key, **environment)

    deadline = time.monotonic() + 5
    while "KEY_UNKNOWN" in run("deployments", "list").stderr:
        assert time.monotonic() < deadline
    return run


def test_a_change_of_a_protected_deployment_waits_and_is_asked_for_once(
    shop: Shop, installation: Installation, llm_url: str, tmp_path: Path
) -> None:
    text = changed(FILE.format(url=llm_url), "name: guide\n", "name: guide\nprotected: true\n")
    file = written(tmp_path, text)
    done(shop("apply", "-f", file, "--yes"))
    both = changed(changed(text, "weight: 90", "weight: 80"), "weight: 10", "weight: 20")
    written(tmp_path, both)

    asked = done(shop("apply", "-f", file, "--yes"))
    again = done(shop("apply", "-f", file, "--yes"))
    [change] = answer(shop, "changes", "list")

    assert "waits for approval" in asked
    assert f"changes approve {change['uid']}" in asked
    assert "not asked for yet: variant lively" in asked
    assert f"waits for approval as {change['uid']}" in again
    assert actions(shop, "-f", file)["Deployment guide"] == "wait"
    assert answer(shop, "deployments", "show", "guide")["variants"][0]["weight"] == 90
    manager = approver(shop, installation)
    done(manager("changes", "approve", change["uid"]))
    done(shop("apply", "-f", file, "--yes"))
    [change] = answer(shop, "changes", "list")
    done(manager("changes", "approve", change["uid"]))
    assert [each["weight"] for each in answer(shop, "deployments", "show", "guide")["variants"]] == [80, 20]
    assert "nothing to do" in done(shop("apply", "-f", file, "--yes"))


def test_what_is_archived_is_brought_back_by_the_command_that_is_told(shop: Shop, llm_url: str, tmp_path: Path) -> None:
    text = FILE.format(url=llm_url)
    file = written(tmp_path, text)
    done(shop("apply", "-f", file, "--yes"))
    done(shop("deployments", "archive", "guide"))

    refused = told(shop("apply", "-f", file, "--yes"))

    assert "`turnout deployments unarchive guide`" in refused
    done(shop("deployments", "unarchive", "guide"))
    assert set(actions(shop, "-f", file).values()) == {"keep"}
