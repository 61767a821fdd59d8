"""Rules from files, against a whole installation."""

from __future__ import annotations

from pathlib import Path

import pytest

from stack.services import Installation
from tests.cli.apply.files import FILE, Shop, actions, answer, changed, done, revisions, told, written
from tests.cli.apply.test_deployments import approver

pytestmark = pytest.mark.slow

RULES = """\
routing:
  fields: {{country: string}}
  rules:
    - name: Spanish
      when: context.country in ["ES", "MX"]
      split: {{calm: 30, lively: 70}}
    - name: English
      when: context.country == "GB"
      variant: lively
      active: false
  coverage: 0.5
  baseline: calm
"""
ROUTED = FILE + RULES


def routing(shop: Shop) -> object:
    return answer(shop, "deployments", "show", "guide").get("routing")


def uids(shop: Shop) -> dict[str, str]:
    """Of rules, by name."""
    return {
        each["display_name"]: each["uid"] for each in answer(shop, "deployments", "show", "guide")["routing"]["rules"]
    }


def test_rules_become_what_a_file_says_and_nothing_twice(shop: Shop, llm_url: str, tmp_path: Path) -> None:
    text = ROUTED.format(url=llm_url)
    file = written(tmp_path, text)

    first = done(shop("apply", "-f", file, "--yes"))
    again = done(shop("apply", "-f", file, "--yes"))

    assert 'routing.rules[Spanish].when: "context.country in [' in first
    assert "deployment guide: created, revision 1.0" in first
    assert "nothing to do" in again
    assert revisions(shop) == ["1.0"]
    before = uids(shop)
    edited = changed(changed(text, "calm: 30", "calm: 40"), "name: English", "name: British")
    written(tmp_path, edited)
    second = done(shop("apply", "-f", file, "--yes", "--description", "more of the calm"))
    assert "routing.rules[Spanish].split.calm: 30 → 40" in second
    assert 'routing.rules[English].name: "English" → "British"' in second
    assert "deployment guide, routing: changed, revision 1.1" in second
    assert "nothing to do" in done(shop("apply", "-f", file, "--yes"))
    assert uids(shop) == {"Spanish": before["Spanish"], "British": before["English"]}
    assert "more of the calm" in done(shop("deployments", "history", "guide"))
    exported = written(tmp_path, done(shop("deployments", "export", "guide")), "exported.yaml")
    assert set(actions(shop, "-f", exported).values()) == {"keep"}


def test_a_file_that_does_not_speak_of_rules_leaves_them_and_an_empty_one_takes_them_away(
    shop: Shop, llm_url: str, tmp_path: Path
) -> None:
    file = written(tmp_path, ROUTED.format(url=llm_url))
    done(shop("apply", "-f", file, "--yes"))
    there = routing(shop)

    written(tmp_path, FILE.format(url=llm_url))
    assert set(actions(shop, "-f", file).values()) == {"keep"}
    assert routing(shop) == there
    written(tmp_path, FILE.format(url=llm_url) + "routing: {}\n")
    done(shop("apply", "-f", file, "--yes"))

    assert routing(shop) is None
    assert set(actions(shop, "-f", file).values()) == {"keep"}
    assert "routing" not in done(shop("deployments", "export", "guide"))


def test_rules_may_name_variants_that_come_with_them_and_let_go_of_those_that_go(
    shop: Shop, llm_url: str, tmp_path: Path
) -> None:
    text = ROUTED.format(url=llm_url)
    new = "  loud:\n    display_name: Loud & Clear\n    provider: local\n    model: m\n    messages: []\nrouting:"
    file = written(tmp_path, changed(changed(text, "routing:", new), "variant: lively", "variant: loud"))
    done(shop("apply", "-f", file, "--yes"))

    slugs = [each["slug"] for each in answer(shop, "deployments", "show", "guide")["variants"]]
    assert slugs == ["calm", "lively", "loud-clear"]
    assert answer(shop, "deployments", "show", "guide")["routing"]["rules"][1]["variant"] == "loud-clear"
    assert set(actions(shop, "-f", file).values()) == {"keep"}

    later = changed(Path(file).read_text(), "  loud:\n    display_name: Loud & Clear", "  new:\n    display_name: Über")
    written(tmp_path, changed(later, "variant: loud", "variant: new"))
    shown = done(shop("apply", "-f", file, "--yes", "--prune"))

    found = answer(shop, "deployments", "show", "guide")
    assert [each["slug"] for each in found["variants"]] == ["calm", "lively", "uber"]
    assert found["routing"]["rules"][1]["variant"] == "uber"
    assert shown.index("variant new: created") < shown.index("routing: changed")
    assert shown.index("routing: changed") < shown.index("variant loud-clear: deleted")
    assert set(actions(shop, "-f", file, "--prune").values()) == {"keep"}


def test_mistakes_in_rules_are_told_with_their_place_before_anything_is_written(
    shop: Shop, llm_url: str, tmp_path: Path
) -> None:
    text = ROUTED.format(url=llm_url)
    file = written(tmp_path, text)
    mistakes = (
        ("baseline: calm", "baseline: nobody", "guide.yaml:45 routing.baseline names a variant that there is not"),
        ("calm: 30,", "calmer: 30,", "guide.yaml:39 routing.rules[0].split.calmer names a variant that there is not"),
        ('context.country == "GB"', "context.city == 'X'", "guide.yaml:41 routing.rules[1].when"),
        ("coverage: 0.5", "coverage: 5", "guide.yaml:44 routing.coverage: must be a number from 0 to 1"),
    )

    for before, after, said in mistakes:
        written(tmp_path, changed(text, before, after))
        refused = told(shop("apply", "-f", file, "--yes"))
        assert said in refused, refused
    assert answer(shop, "deployments", "list") == []
    written(tmp_path, text)
    done(shop("apply", "-f", file, "--yes"))
    for before, after, said in mistakes:
        # Beside a change that could be made.
        written(tmp_path, changed(changed(text, before, after), "weight: 10", "weight: 11"))
        refused = told(shop("apply", "-f", file, "--yes"))
        assert said in refused, refused
        assert "deployment.routing" not in refused
    assert revisions(shop) == ["1.0"]


def test_rules_of_a_protected_deployment_wait_and_are_asked_for_once(
    shop: Shop, installation: Installation, llm_url: str, tmp_path: Path
) -> None:
    text = changed(ROUTED.format(url=llm_url), "name: guide\n", "name: guide\nprotected: true\n")
    file = written(tmp_path, text)
    done(shop("apply", "-f", file, "--yes"))
    written(tmp_path, changed(text, "coverage: 0.5", "coverage: 0.6"))

    asked = done(shop("apply", "-f", file, "--yes"))
    again = done(shop("apply", "-f", file, "--yes"))
    [change] = answer(shop, "changes", "list")

    assert f"changes approve {change['uid']}" in asked
    assert f"waits for approval as {change['uid']}" in again
    assert actions(shop, "-f", file)["Deployment guide"] == "wait"
    done(approver(shop, installation)("changes", "approve", change["uid"]))
    assert "nothing to do" in done(shop("apply", "-f", file, "--yes"))
