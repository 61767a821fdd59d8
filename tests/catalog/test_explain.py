from __future__ import annotations

import json
import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog import explain, plan
from catalog.conditions import Field, FieldKind, State, read_context
from catalog.explain import Explainer, RuleOutcome
from catalog.routing import Routing, Rule, Share
from catalog.view import Completion, Revision, Variant
from kit.json import Json
from tests.catalog import plans
from tests.catalog.choices import choose
from turnout.registry.v1 import catalog_pb2

EXPLAINER = Explainer()
ASKED = (RuleOutcome.TRUE, RuleOutcome.FALSE, RuleOutcome.MISSING, RuleOutcome.ERROR)


def variant(slug: str, weight: float = 100, *, active: bool = True) -> Variant:
    return Variant(f"var_{slug}", 1, slug, "", active, weight, Completion("ver_1", 0, None))


def rule(name: str, condition: str, *shares: Share, active: bool = True) -> Rule:
    return Rule(f"rul_{name}", name, condition, active, shares or (Share("var_a", 100),))


def revision(variants: tuple[Variant, ...], *rules: Rule, **routing: object) -> Revision:
    fields = (Field("age", FieldKind.NUMBER), Field("country", FieldKind.STRING))
    return Revision("rev_1", "1.0", "salt", variants, Routing(fields, rules, **routing))  # type: ignore[arg-type]  # of Routing


def outcomes(of: Revision, context: dict[str, Json]) -> list[tuple[str, RuleOutcome]]:
    choice = choose(of, "dep_1", "ada", context)
    return [(each.rule.display_name, each.outcome) for each in EXPLAINER.rules(of, choice, context)]


def test_every_rule_says_what_became_of_it() -> None:
    tried = revision(
        (variant("a"),),
        rule("false", "context.age > 50.0"),
        rule("missing", 'context.country == "ES"'),
        rule("error", "10 / int(context.age - 7.0) > 1"),
        rule("off", "context.age > 1.0", active=False),
        rule("true", "context.age > 1.0"),
        rule("late", "context.age > 1.0"),
        rule("late and off", "context.age > 1.0", active=False),
    )

    assert outcomes(tried, {"age": 7}) == [
        ("false", RuleOutcome.FALSE),
        ("missing", RuleOutcome.MISSING),
        ("error", RuleOutcome.ERROR),
        ("off", RuleOutcome.INACTIVE),
        ("true", RuleOutcome.TRUE),
        ("late", RuleOutcome.NOT_REACHED),
        ("late and off", RuleOutcome.INACTIVE),
    ]


def test_a_rule_that_says_nothing_says_why_and_what_it_saw() -> None:
    tried = revision((variant("a"),), rule("both", 'context.country == "ES" && context.age > 1.0'))
    choice = choose(tried, "dep_1", "ada", {"country": ["ES"], "age": "old"})

    (trace,) = EXPLAINER.rules(tried, choice, {"country": ["ES"], "age": "old"})

    assert trace.outcome is RuleOutcome.MISSING
    assert "present.age" in trace.message
    assert [(seen.field, seen.state, seen.value) for seen in trace.seen] == [
        ("country", State.BOUND, "ES"),
        ("age", State.UNFIT, None),
    ]


def test_a_condition_that_no_checker_took_is_told_as_an_error() -> None:
    tried = revision((variant("a"),), rule("odd", "context.nothing == 1.0"))
    (trace,) = EXPLAINER.rules(tried, choose(tried, "dep_1", "ada", {}), {})
    assert (trace.outcome, trace.seen) == (RuleOutcome.ERROR, ())
    assert "line 1" in trace.message


def test_the_candidates_are_the_splits_also_those_that_take_no_part() -> None:
    tried = revision(
        (variant("a"), variant("b", active=False), variant("c")),
        rule("all", "true", Share("var_c", 30), Share("var_b", 50), Share("var_a", 0), Share("var_gone", 1)),
    )
    found = explain.candidates_of(tried, choose(tried, "dep_1", "ada", {}), "ada")

    assert [(each.variant.slug, each.weight, each.score > 0, each.propensity) for each in found] == [
        ("c", 30, True, 1.0),
        ("b", 50, False, 0.0),
        ("a", 0, False, 0.0),
    ]


def test_a_baseline_that_is_not_active_serves_nobody() -> None:
    tried = revision((variant("a"), variant("b", active=False)), coverage=0.25, baseline="var_b")
    choice = choose(tried, "dep_1", "ada", {})

    outlook = explain.outlook(tried, choice)

    assert outlook.propensities == {"var_a": 0.25}


@settings(max_examples=400, deadline=None)
@given(made=plans.revisions(), context_json=plans.CONTEXTS, key=plans.KEYS)
def test_the_trace_explains_exactly_what_the_planner_chooses(
    made: catalog_pb2.CatalogRevision, context_json: str, key: str
) -> None:
    tried, context = plans.in_view(made), read_context(context_json)
    choice = choose(tried, "dep_agent", key, context)

    rules = list(EXPLAINER.rules(tried, choice, context))
    assert tuple(each.rule for each in rules) == tried.routing.rules
    true = [each.rule for each in rules if each.outcome is RuleOutcome.TRUE]
    assert true == ([] if choice.rule is None else [choice.rule])
    for place, each in enumerate(rules):
        is_late = choice.rule in tried.routing.rules[:place]
        assert (each.outcome is RuleOutcome.INACTIVE) == (not each.rule.active)
        assert (each.outcome is RuleOutcome.NOT_REACHED) == (each.rule.active and is_late)
        assert bool(each.message) == (each.outcome in (RuleOutcome.MISSING, RuleOutcome.ERROR))

    draw = explain.coverage_draw(tried, "dep_agent", key)
    assert 0 < draw < 1
    assert choice.outside_coverage == (tried.routing.coverage < 1 and draw >= tried.routing.coverage)

    candidates = explain.candidates_of(tried, choice, key)
    taking_part = [each for each in candidates if each.score]
    assert [(each.variant, each.weight) for each in taking_part] == list(choice.candidates)
    assert all(each.variant.active and each.weight > 0 for each in taking_part)
    assert all(math.isclose(each.score, -each.weight / math.log(each.draw)) for each in taking_part)
    if choice.outside_coverage:
        assert choice.variant is None or choice.variant.uid == tried.routing.baseline
    elif taking_part:
        assert choice.variant == max(taking_part, key=lambda each: each.score).variant
    else:
        assert choice.variant is None
    if choice.variant is not None:
        own = [each.propensity for each in candidates if each.variant == choice.variant]
        assert own in ([], [plan.propensity(tried, choice, choice.variant)])


@settings(max_examples=200, deadline=None)
@given(made=plans.revisions(), context_json=plans.CONTEXTS, keys=st.lists(plans.KEYS, min_size=1, max_size=8))
def test_an_outlook_chooses_for_every_key_what_the_whole_revision_does(
    made: catalog_pb2.CatalogRevision, context_json: str, keys: list[str]
) -> None:
    tried, context = plans.in_view(made), read_context(context_json)
    outlook = explain.outlook(tried, choose(tried, "dep_agent", "", context))

    for key in keys:
        whole = choose(tried, "dep_agent", key, context)
        alone = choose(outlook.drawn, "dep_agent", key, {})
        assert outlook.rule is whole.rule
        assert alone.outside_coverage == whole.outside_coverage
        assert (alone.variant and alone.variant.uid) == (whole.variant and whole.variant.uid)
        if whole.variant is not None:
            assert outlook.propensities[whole.variant.uid] == plan.propensity(tried, whole, whole.variant)
    assert sum(outlook.propensities.values()) < 1 + 1e-9


@pytest.mark.parametrize("is_active", [True, False])
def test_an_outlooks_propensities_are_what_shares_come_to(is_active: bool) -> None:
    tried = revision(
        (variant("a", 1), variant("b", 3), variant("base", 0, active=is_active)),
        rule("es", 'context.country == "ES"', Share("var_a", 9), Share("var_base", 3)),
        coverage=0.6,
        baseline="var_base",
    )
    for context in ({"country": "ES"}, {}):
        outlook = explain.outlook(tried, choose(tried, "dep_1", "", context))
        chosen = [choose(tried, "dep_1", f"u{n}", context).variant for n in range(20_000)]
        counts = Counter(each.uid for each in chosen if each is not None)
        assert set(counts) == set(outlook.propensities)
        for uid, chance in outlook.propensities.items():
            assert abs(counts[uid] / 20_000 - chance) < 4 * math.sqrt(chance * (1 - chance) / 20_000)


def test_what_is_seen_is_json() -> None:
    tried = revision((variant("a"),), rule("r", "context.age > 1.0"))
    (trace,) = EXPLAINER.rules(tried, choose(tried, "dep_1", "ada", {"age": 44}), {"age": 44})
    assert json.dumps([seen.value for seen in trace.seen]) == "[44.0]"
