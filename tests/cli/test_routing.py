"""Rules, decisions and simulations by commands, against a whole installation."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from typer.testing import Result

pytestmark = pytest.mark.slow

Shop: TypeAlias = Callable[..., Result]

ROUTING = """\
fields:
  country: string
rules:
- name: Spanish
  when: context.country in ["ES", "MX"]
  split:
    spanish: 30
    iberian: 70
- name: English
  when: context.country == "GB"
  variant: english
coverage: 0.9
baseline: plain
"""


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


def known(shop: Shop, revision: str) -> None:
    """Wait until the router has heard of a revision."""
    deadline = time.monotonic() + 10
    while revision not in shop("route", "guide", "--key", "k").stdout:
        assert time.monotonic() < deadline


@pytest.fixture
def guide(shop: Shop, llm_url: str) -> Shop:
    """A deployment of four variants, of which one serves."""
    done(shop("providers", "create", "local", "--base-url", llm_url))
    done(shop("deployments", "create", "guide", "--provider", "local", "--model", "m", "--system", "Hi."))
    done(shop("deployments", "update", "guide", "variant-1", "--display-name", "Plain"))
    for name in ("Spanish", "Iberian", "English"):
        done(
            shop(
                *("deployments", "create-variant", "guide", "--like", "variant-1", "--display-name", name),
                *("--weight", "0"),
            )
        )
    return shop


def set_rules(guide: Shop, text: str = ROUTING, *options: str) -> Result:
    text = text.replace("plain", "variant-1")
    Path("routing.yaml").write_text(text)
    return guide("deployments", "routing", "guide", "--file", "routing.yaml", *options)


def test_rules_are_set_from_a_file_and_shown(guide: Shop) -> None:
    dry = set_rules(guide, ROUTING, "--dry-run")
    unasked = set_rules(guide)
    shown = done(set_rules(guide, ROUTING, "--yes", "--description", "by country"))

    assert 'routing.rules[Spanish].when: "context.country in' in done(dry)
    assert "nothing was changed" in dry.stdout
    assert "--yes" in told(unasked)
    assert "routing.coverage: 0.9" in shown
    assert "live → " in shown
    printed = done(guide("deployments", "routing", "guide"))
    assert printed == ROUTING.replace("plain", "variant-1")
    assert "nothing to do" in done(set_rules(guide, printed))
    listed = done(guide("deployments", "show", "guide"))
    assert "country (string)" in listed
    assert "90 % of units; variant-1 serves the others" in listed
    assert listed.index("Spanish  context.country in") < listed.index("English  context.country")
    assert "spanish 30, iberian 70" in listed
    assert "by country" in done(guide("deployments", "history", "guide"))
    assert "2 rules, variant-1 100%" in done(guide("deployments", "list"))
    assert "nothing" not in done(guide("deployments", "diff", "guide", "1.0"))
    done(set_rules(guide, "{}", "--yes"))
    assert done(guide("deployments", "routing", "guide")) == "{}\n"


def test_what_is_wrong_with_rules_is_told_with_its_place(guide: Shop) -> None:
    for before, after, said in (
        ('context.country == "GB"', "context.city == 'X'", "routing.yaml:10 routing.rules[1].when"),
        ("iberian: 70", "lively: 70", "routing.yaml:8 routing.rules[0].split"),
        ("baseline: plain", "baseline: nobody", "routing.yaml:13 routing.baseline"),
        ("coverage: 0.9", "coverage: 9", "routing.yaml:12 routing.coverage: must be a number from 0 to 1"),
    ):
        refused = told(set_rules(guide, ROUTING.replace(before, after), "--yes"))
        assert said in refused, (said, refused)
        assert "deployment.routing" not in refused
    assert done(guide("deployments", "routing", "guide")) == "{}\n"
    assert "nowhere.yaml" in told(guide("deployments", "routing", "guide", "-f", "nowhere.yaml"))


def test_a_decision_is_shown_with_its_rule(guide: Shop) -> None:
    number = answer_revision(set_rules(guide, ROUTING.replace("coverage: 0.9\nbaseline: plain\n", ""), "--yes"), guide)
    known(guide, number)

    spanish = done(guide("route", "guide", "--context", "country=ES", "--key", "user-42"))
    other = done(guide("route", "guide", "--context", '{"country": "FR"}', "--key", "user-42"))

    assert "why         rule Spanish matched" in spanish
    assert "sticks to   the routing key" in spanish
    assert "runs        local/m (ver_" in spanish
    assert "variant     variant-1 (Plain)" in other
    assert "100 % of random keys" in other
    assert "DEPLOYMENT_NOT_FOUND" in told(guide("route", "nope"))
    deep = guide("route", "guide", "--context", "a=" + "[" * 30 + "]" * 30)
    assert (deep.exit_code, "'--context' / '-c'" in deep.stderr) == (2, True)


def answer_revision(result: Result, shop: Shop) -> str:
    """The number of the live revision, after a write."""
    done(result)
    revision: str = answer(shop, "deployments", "show", "guide")["revision"]
    return revision


def test_a_draft_is_tried_before_anybody_is_served_by_it(guide: Shop) -> None:
    drafted = done(set_rules(guide, ROUTING, "--draft"))
    number = drafted.partition("--revision ")[2].split()[0]

    one = done(guide("simulate", "guide", "--revision", number, "-c", "country=ES", "--key", "k", "--compare", "live"))
    many = done(
        guide(
            "simulate", "guide", "--revision", number, "--compare", "live", "--population", "1000", "-c", "country=ES"
        )
    )

    assert f"guide, revision {number}" in one
    assert "✓ Spanish" in one
    assert 'country = "ES"' in one
    assert "· English" in one
    assert "by revision" in one
    assert f"1,000 decided by revision {number}: 1,000 by a rule" in many
    assert "of 1,000 (" in many
    assert ") would get another variant than by revision" in many
    assert done(guide("deployments", "routing", "guide")) == "{}\n"


def test_a_served_request_is_replayed(guide: Shop) -> None:
    known(guide, answer_revision(set_rules(guide, ROUTING, "--yes"), guide))
    served = answer(guide, "run", "guide", "Hola", "--context", "country=MX", "--key", "user-7")
    deadline = time.monotonic() + 20
    while served["request_id"] not in done(guide("logs", "guide")):
        assert time.monotonic() < deadline
    done(set_rules(guide, "{}", "--yes"))

    shown = done(guide("simulate", "guide", "--replay", served["request_id"]))
    found = answer(guide, "simulate", "guide", "--replay", served["request_id"])

    assert f"got {served['decision']['variant_slug']} by revision" in shown
    assert "the same variant comes out" in shown
    assert found["replayed"]["same"] is True
    assert found["trace"]["key"] == "user-7"
    assert "REQUEST_NOT_FOUND" in told(guide("simulate", "guide", "--replay", "req_00000000000000000000000000"))
