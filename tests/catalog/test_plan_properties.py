"""What holds of every revision: who decides, who moves when it changes, and with which probability."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from catalog import assignment, plan, rules
from catalog.conditions import Field, FieldKind
from catalog.plan import Choice
from catalog.routing import Routing, Rule, Share
from catalog.view import Completion, Revision, Variant
from tests.catalog.choices import choose

UIDS = [f"var_{letter}" for letter in "abcdef"]
DEPLOYMENT = "dep_1"
KEYS = [f"user-{number}" for number in range(150)]
FIELDS = (Field("vip", FieldKind.BOOLEAN), Field("age", FieldKind.NUMBER))
CONTEXT = {"vip": True}
TRUE = ("true", "context.vip", "present.vip && !present.age", "context.vip || context.age > 1.0")
NOT_TRUE = ("false", "!context.vip", "context.age > 1.0", "1 / 0 == 1", "context.gone", "context.vip &&")
"""False, missing, an error, and what no revision could hold."""

# Scores of smaller weights round to nothing.
weights = st.one_of(st.just(0.0), st.floats(1e-6, 100), st.integers(1, 100).map(float))
above_0 = st.one_of(st.floats(1e-6, 100), st.integers(1, 100).map(float))
splits = st.dictionaries(st.sampled_from(UIDS), weights, min_size=1).map(
    lambda shares: tuple(Share(uid, weight) for uid, weight in shares.items())
)
shared = st.fixed_dictionaries(dict.fromkeys(UIDS[:3], above_0), optional=dict.fromkeys(UIDS[3:], above_0))


@st.composite
def revisions(draw: st.DrawFn) -> Revision:
    """Any that the registry lets be."""
    uids = draw(st.lists(st.sampled_from(UIDS), unique=True, min_size=1))
    variants = tuple(_variant(uid, draw(weights), active=draw(st.booleans())) for uid in uids)
    conditions = draw(st.lists(st.sampled_from(TRUE + NOT_TRUE), max_size=6))
    rules = tuple(
        Rule(f"rul_{number}", f"Rule {number}", condition, draw(st.booleans()), draw(splits))
        for number, condition in enumerate(conditions)
    )
    coverage = draw(st.one_of(st.just(1.0), st.floats(0, 1)))
    baseline = draw(st.sampled_from(uids)) if coverage < 1 else ""
    salt = draw(st.sampled_from([DEPLOYMENT, "summer", "Ünïcode"]))
    return Revision("rev_1", "1.0", salt, variants, Routing(FIELDS, rules, coverage, baseline))


def _variant(uid: str, weight: float, *, active: bool = True) -> Variant:
    return Variant(uid, 1, uid, uid, active, weight, Completion("ver_1", 0, None))


def _choose(revision: Revision, key: str) -> Choice:
    return choose(revision, DEPLOYMENT, key, CONTEXT)


def _served(revision: Revision, key: str) -> str | None:
    variant = _choose(revision, key).variant
    return variant.uid if variant else None


def _with_coverage(revision: Revision, coverage: float, baseline: str) -> Revision:
    return replace(revision, routing=replace(revision.routing, coverage=coverage, baseline=baseline))


def _with_weights(revision: Revision, given: dict[str, float]) -> Revision:
    """The weights of the split that decides: that of the rule that matches, or the variants' own."""
    rule = _choose(revision, "anybody").rule
    if rule is None:
        return replace(revision, variants=tuple(_variant(uid, weight) for uid, weight in given.items()))
    changed = replace(rule, shares=tuple(Share(uid, weight) for uid, weight in given.items()))
    rules = tuple(changed if each.uid == rule.uid else each for each in revision.routing.rules)
    return replace(revision, routing=replace(revision.routing, rules=rules))


@given(revisions(), st.sampled_from(KEYS))
def test_the_first_active_true_rule_decides_and_no_other(revision: Revision, key: str) -> None:
    expected = next((rule for rule in revision.routing.rules if rule.active and rule.condition in TRUE), None)

    choice = _choose(revision, key)

    assert choice.rule == expected
    again = plan.choose(revision, DEPLOYMENT, key, rules.match(revision, CONTEXT))
    assert choice == again, "it depends on what was decided before"


@given(revisions(), st.sampled_from(KEYS))
def test_only_active_variants_of_what_was_picked_serve_or_the_baseline(revision: Revision, key: str) -> None:
    choice = _choose(revision, key)
    split = (
        {share.variant: share.weight for share in choice.rule.shares}
        if choice.rule
        else {variant.uid: variant.weight for variant in revision.variants}
    )
    able = {variant.uid for variant in revision.variants if variant.active}

    assert {(variant.uid, weight) for variant, weight in choice.candidates} == {
        (uid, weight) for uid, weight in split.items() if weight > 0 and uid in able
    }
    served = choice.variant.uid if choice.variant else None
    if choice.outside_coverage:
        assert served == (revision.routing.baseline if revision.routing.baseline in able else None)
    elif choice.candidates:
        assert served in {variant.uid for variant, _ in choice.candidates}
    else:
        assert served is None


@given(revisions(), st.sampled_from(KEYS))
def test_propensities_sum_to_1(revision: Revision, key: str) -> None:
    choice, routing = _choose(revision, key), revision.routing
    parts = [plan.propensity(revision, choice, variant) for variant in revision.variants]

    assert all(0 <= part <= 1 for part in parts)
    # Less what would be refused: those inside coverage if nothing is active there.
    assert math.fsum(parts) == pytest.approx(1 if choice.candidates else 1 - routing.coverage)
    if choice.variant is not None:
        assert plan.propensity(revision, choice, choice.variant) > 0


@pytest.mark.parametrize("condition", ["false", "true"], ids=["by weights", "by a rule"])
@pytest.mark.parametrize("coverage", [1.0, 0.35, 0.0])
@pytest.mark.parametrize("baseline", ["var_a", "var_d"], ids=["in the split", "outside the split"])
def test_a_propensity_is_the_share_that_is_seen(condition: str, coverage: float, baseline: str) -> None:
    count = 10_000
    variants = (
        *(_variant(uid, weight) for uid, weight in zip(UIDS, (50, 12.5, 37.5), strict=False)),
        _variant("var_d", 0),
    )
    rule = Rule("rul_1", "Rule", condition, True, (Share("var_a", 0.5), Share("var_b", 99.5)))
    revision = Revision("rev_1", "1.0", "salt", variants, Routing(FIELDS, (rule,), coverage, baseline))

    choices = [_choose(revision, f"unit-{number}") for number in range(count)]

    seen = Counter(choice.variant.uid for choice in choices if choice.variant)
    assert seen.total() == count
    for variant in variants:
        [share] = {plan.propensity(revision, choice, variant) for choice in choices}
        assert abs(seen[variant.uid] - count * share) <= 4 * math.sqrt(count * share * (1 - share))


@settings(max_examples=40)
@given(revisions(), st.floats(0, 1), st.floats(0, 1))
def test_enlarging_coverage_never_moves_an_admitted_unit(revision: Revision, one: float, other: float) -> None:
    less, more = sorted((one, other))
    baseline = revision.variants[0].uid
    before, after = (_with_coverage(revision, coverage, baseline) for coverage in (less, more))

    for key in KEYS:
        was, now = _choose(before, key), _choose(after, key)
        if not was.outside_coverage:
            assert now == was
        elif now.outside_coverage:
            assert now.variant == was.variant
        else:
            assert less <= assignment.uniform(revision.salt, "admit", DEPLOYMENT, key) < more


@settings(max_examples=40)
@given(revisions(), shared, st.data())
def test_raising_one_weight_moves_units_only_to_that_variant(
    revision: Revision, given_weights: dict[str, float], data: st.DataObject
) -> None:
    raised = data.draw(st.sampled_from(sorted(given_weights)))
    more = data.draw(st.floats(1e-6, 100))
    before = _with_weights(revision, given_weights)
    after = _with_weights(revision, given_weights | {raised: given_weights[raised] + more})

    for key in KEYS:
        was, now = _served(before, key), _served(after, key)
        assert now in (was, raised)


@settings(max_examples=40)
@given(revisions(), shared, st.data())
def test_removing_or_deactivating_one_moves_only_its_units(
    revision: Revision, given_weights: dict[str, float], data: st.DataObject
) -> None:
    removed = data.draw(st.sampled_from(sorted(given_weights)))
    before = _with_weights(_with_coverage(revision, 1.0, ""), given_weights)
    without = _with_weights(before, {uid: weight for uid, weight in given_weights.items() if uid != removed})
    inactive = replace(
        before, variants=tuple(replace(each, active=each.active and each.uid != removed) for each in before.variants)
    )

    for key in KEYS:
        was = _served(before, key)
        for after in (without, inactive):
            assert was in (_served(after, key), removed)


@settings(max_examples=40)
@given(shared, shared, st.sampled_from(["dep_1", "summer"]))
def test_two_rules_that_share_variants_keep_a_units_variant_where_weights_allow(
    one: dict[str, float], other: dict[str, float], salt: str
) -> None:
    assume(one != other)
    variants = tuple(_variant(uid, 1.0) for uid in UIDS)

    def by(split: dict[str, float]) -> Revision:
        shares = tuple(Share(uid, weight) for uid, weight in split.items())
        rule = Rule(f"rul_{len(split)}", "Rule", "true", True, shares)
        return Revision("rev_1", "1.0", salt, variants, Routing(FIELDS, (rule,)))

    for key in KEYS:
        was, now = _served(by(one), key), _served(by(other), key)
        assert was is not None
        # Nobody has gained on the winner: not it has lost, nor has another got more.
        if other.get(was, 0) >= one[was] and all(
            weight <= one.get(uid, 0) for uid, weight in other.items() if uid != was
        ):
            assert now == was


def test_rules_with_equal_weights_for_the_variants_that_they_share_agree_on_most_units() -> None:
    """The promise in figures: who moves is who must, a third here, where independent draws would move two thirds."""
    variants = tuple(_variant(uid, 1.0) for uid in UIDS)
    rules = [
        Rule("rul_1", "Three", "true", True, tuple(Share(uid, 10) for uid in UIDS[:3])),
        Rule("rul_2", "Two", "true", True, tuple(Share(uid, 10) for uid in UIDS[:2])),
    ]
    one, other = (Revision("rev_1", "1.0", "salt", variants, Routing(FIELDS, (rule,))) for rule in rules)
    count = 5000

    moved = sum(_served(one, f"unit-{number}") != _served(other, f"unit-{number}") for number in range(count))

    assert abs(moved - count / 3) < 4 * math.sqrt(count * 2 / 9)


def test_another_salt_reshuffles_everybody() -> None:
    variants = tuple(_variant(uid, 50.0) for uid in UIDS[:2])
    one, other = (Revision("rev_1", "1.0", salt, variants) for salt in ("dep_1", "summer"))
    count = 5000

    moved = sum(_served(one, f"unit-{number}") != _served(other, f"unit-{number}") for number in range(count))

    assert abs(moved - count / 2) < 4 * math.sqrt(count / 4)
