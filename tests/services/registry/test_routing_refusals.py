"""What is wrong with rules, coverage or baseline is refused where it is."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest

from kit.errors import Invalid
from tests.services.registry.routes import story, update, violations


@pytest.fixture
async def made(shop: Any, deployment_request: Any) -> Any:
    """A deployment with three variants and no rules."""
    texts = tuple(f"{letter} {{{{ name }}}}" for letter in "ABC")
    return await shop.call("CreateDeployment", deployment_request(shop.project, "helper", texts))


def condition(text: str) -> Any:
    return lambda wanted: setattr(wanted.rules[1], "condition", text)


def share(index: int, **fields: Any) -> Any:
    def change(wanted: Any) -> None:
        for name, value in fields.items():
            setattr(wanted.rules[0].split.shares[index], name, value)

    return change


REFUSED = [
    (condition("context.contry == 'ES'"), "CONDITION_INVALID", "rules[1].condition"),
    (condition("context.country"), "CONDITION_INVALID", "rules[1].condition"),
    (condition("(" * 900 + "true" + ")" * 900), "CONDITION_INVALID", "rules[1].condition"),
    (condition("context.country.matches(r'(a{99}){99}')"), "CONDITION_INVALID", "rules[1].condition"),
    (condition("x" * 5000), "", "rules[1].condition"),
    (condition(""), "", "rules[1].condition"),
    (lambda wanted: setattr(wanted.rules[1], "variant", "nope"), "VARIANT_NOT_FOUND", "rules[1].variant"),
    (lambda wanted: wanted.rules[1].ClearField("variant"), "", "rules[1].destination"),
    (share(1, variant="nope"), "VARIANT_NOT_FOUND", "rules[0].split.shares[1].variant"),
    (share(1, variant="variant-2"), "SHARE_DUPLICATE", "rules[0].split.shares[1].variant"),
    (share(1, weight=math.nan), "", "rules[0].split.shares[1].weight"),
    (share(1, weight=101), "", "rules[0].split.shares[1].weight"),
    (lambda wanted: wanted.rules[0].split.ClearField("shares"), "", "rules[0].split.shares"),
    (lambda wanted: setattr(wanted.rules[1], "uid", "rul_1"), "RULE_NOT_FOUND", "rules[1].uid"),
    (lambda wanted: setattr(wanted, "coverage", math.nan), "", "coverage"),
    (lambda wanted: setattr(wanted, "coverage", 1.5), "", "coverage"),
    (lambda wanted: wanted.ClearField("baseline"), "BASELINE_REQUIRED", "baseline"),
    (lambda wanted: setattr(wanted, "baseline", "nope"), "VARIANT_NOT_FOUND", "baseline"),
    (lambda wanted: wanted.fields.add(name="Bad", kind=1), "FIELD_INVALID", "fields[1].name"),
    (lambda wanted: wanted.fields.add(name="country", kind=1), "FIELD_INVALID", "fields[1].name"),
    (lambda wanted: wanted.fields.add(name="while", kind=1), "FIELD_INVALID", "fields[1].name"),
    (lambda wanted: wanted.fields.add(name="age"), "", "fields[1].kind"),
    (lambda wanted: wanted.fields.extend([wanted.fields[0]] * 64), "", "fields"),
    (lambda wanted: wanted.rules.extend([wanted.rules[0]] * 199), "", "rules"),
]


async def test_what_is_wrong_is_refused_with_its_path_soon_and_changes_nothing(
    registry: Any, shop: Any, made: Any, state_of: Any
) -> None:
    before = await state_of(registry.url)
    for number, (change, reason, path) in enumerate(REFUSED):
        wanted = story()
        change(wanted)
        begun = time.process_time()

        failure = await shop.fails("UpdateDeployment", update(made, wanted))

        assert time.process_time() - begun < 0.5, number
        assert isinstance(failure, Invalid), number
        assert violations(failure) == [f"deployment.routing.{path}"], number
        assert failure.reason == reason or not reason, number
    assert await state_of(registry.url) == before


async def test_a_refusal_says_where_in_the_condition_it_is_wrong(shop: Any, made: Any) -> None:
    wanted = story()
    wanted.rules[1].condition = "present.country &&\n  context.contry == 'ES'"
    failure = await shop.fails("UpdateDeployment", update(made, wanted))
    assert failure.violations[0].message == (
        "line 2, column 11: there is no declared field 'contry'; did you mean 'country'?"
    )


async def test_two_rules_cannot_have_one_uid(shop: Any, made: Any) -> None:
    now = await shop.call("UpdateDeployment", update(made, story()))
    now.routing.rules[1].uid = now.routing.rules[0].uid
    failure = await shop.fails("UpdateDeployment", update(made, now.routing))
    assert (failure.reason, violations(failure)) == ("RULE_DUPLICATE", ["deployment.routing.rules[1].uid"])
