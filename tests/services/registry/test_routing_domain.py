"""Rules, splits and coverage as values: what is refused where, what a change amounts to, what is warned of."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.conditions import Field, FieldKind
from kit.errors import Invalid
from services.registry import domain
from services.registry.convert.routing import pack_routing, unpack_routing
from services.registry.domain import (
    WEIGHTS_ALONE,
    Bump,
    Completion,
    Difference,
    DifferenceKind,
    Revision,
    Routing,
    RoutingDraft,
    Rule,
    RuleDraft,
    Share,
    Variant,
    bump_of,
    differences,
    only_variant,
    warnings,
)

NOW = datetime(2026, 1, 2, tzinfo=UTC)
COUNTRY, AGE = Field("country", FieldKind.STRING), Field("age", FieldKind.NUMBER)
A, B, C = (
    Variant(f"var_{s}", n, s, s.upper(), "", True, 10.0, Completion("ver_1", 0, None)) for n, s in enumerate("abc")
)
SPAIN = 'context.country == "ES"'


def rule(name: str = "R", condition: str = "true", shares: str = "a", uid: str = "", *, active: bool = True) -> Rule:
    """A rule whose destination is a split of the named variants alike, or the only one."""
    split = tuple(Share(f"var_{each}", 100.0) for each in shares)
    return Rule(uid or f"rul_{name}", name, condition, active, split)


def revision(
    *rules: Rule, variants: tuple[Variant, ...] = (A, B, C), coverage: float = 1.0, baseline: str = ""
) -> Revision:
    routing = Routing((COUNTRY, AGE), rules, coverage, baseline)
    return Revision("rev_1", "", "", 1, 0, "salt", "me", "", NOW, False, variants, routing)


def draft(condition: str = "true", *shares: str, uid: str = "", is_split: bool = True) -> RuleDraft:
    return RuleDraft(uid, "", condition, True, tuple(Share(each, 1.0) for each in shares or ("a",)), is_split)


def refused(given_draft: RoutingDraft, former: Routing = WEIGHTS_ALONE) -> tuple[str, list[str], list[str]]:
    """The reason, the paths and the messages."""

    def write() -> None:
        domain.check_routing(given_draft, field="d.routing")
        domain.routing_of(given_draft, (A, B, C), former, lambda kind: f"{kind}_new", field="d.routing")

    with pytest.raises(Invalid) as failure:
        write()
    wrong = failure.value.violations
    return failure.value.reason, [each.field for each in wrong], [each.message for each in wrong]


@pytest.mark.parametrize(
    ("given_draft", "reason", "paths"),
    [
        (RoutingDraft((COUNTRY, Field("Age", FieldKind.NUMBER))), "FIELD_INVALID", ["d.routing.fields[1].name"]),
        (RoutingDraft((COUNTRY, AGE, COUNTRY)), "FIELD_INVALID", ["d.routing.fields[2].name"]),
        (
            RoutingDraft((COUNTRY,), (draft(), draft("context.county == 'ES'"), draft("1"))),
            "CONDITION_INVALID",
            ["d.routing.rules[1].condition", "d.routing.rules[2].condition"],
        ),
        (
            RoutingDraft(rules=(draft("true", "a", "nope"), draft("true", "var_d", is_split=False))),
            "VARIANT_NOT_FOUND",
            ["d.routing.rules[0].split.shares[1].variant", "d.routing.rules[1].variant"],
        ),
        (RoutingDraft(coverage=0.5, baseline="d"), "VARIANT_NOT_FOUND", ["d.routing.baseline"]),
        (
            RoutingDraft(rules=(draft("true", "a", "b", "var_a"),)),
            "SHARE_DUPLICATE",
            ["d.routing.rules[0].split.shares[2].variant"],
        ),
        (RoutingDraft(coverage=0.5), "BASELINE_REQUIRED", ["d.routing.baseline"]),
        (RoutingDraft(coverage=math.nan, baseline="a"), "COVERAGE_INVALID", ["d.routing.coverage"]),
        (RoutingDraft(coverage=1.1), "COVERAGE_INVALID", ["d.routing.coverage"]),
        (
            RoutingDraft(rules=(replace(draft(), shares=(Share("a", 1.0), Share("b", math.nan))),)),
            "WEIGHT_INVALID",
            ["d.routing.rules[0].split.shares[1].weight"],
        ),
        (
            RoutingDraft(rules=(draft(uid="rul_R"), draft(uid=""), draft(uid="rul_R"))),
            "RULE_DUPLICATE",
            ["d.routing.rules[2].uid"],
        ),
        (RoutingDraft(rules=(draft(), draft(uid="rul_other"))), "RULE_NOT_FOUND", ["d.routing.rules[1].uid"]),
        (RoutingDraft(rules=(draft(f"true //{'x' * 4000}"),) * 17), "ROUTING_TOO_LARGE", ["d.routing.rules"]),
        (
            RoutingDraft(rules=(replace(draft(), shares=(Share("a", 1.0),) * 200),) * 11),
            "ROUTING_TOO_LARGE",
            ["d.routing.rules"],
        ),
        (
            RoutingDraft(rules=(draft("[1].exists(a, a > 0) || 'a'.matches('a')"),) * 51),
            "ROUTING_TOO_LARGE",
            ["d.routing.rules"],
        ),
    ],
)
def test_what_is_wrong_is_refused_with_its_path(given_draft: RoutingDraft, reason: str, paths: list[str]) -> None:
    assert refused(given_draft, revision(rule()).routing)[:2] == (reason, paths)


def test_refusals_say_where_in_the_condition_and_which_variants_there_are() -> None:
    typo = refused(RoutingDraft((COUNTRY,), (draft("true &&\n  context.county == 'ES'"),)))[2]
    assert typo == ["line 2, column 11: there is no declared field 'county'; did you mean 'country'?"]
    assert refused(RoutingDraft(rules=(draft("true", "nope"),)))[2] == [
        "names 'nope', which is none of the deployment's variants; there are a, b and c"
    ]


def test_a_draft_becomes_rules_with_uids_names_and_variants_by_uid() -> None:
    former = revision(rule("Spanish", SPAIN, uid="rul_old")).routing
    numbers = itertools.count()
    given_draft = RoutingDraft(
        (COUNTRY,), (draft(SPAIN, "b", "var_a"), replace(draft(uid="rul_old"), display_name="Kept")), 0.5, "c"
    )

    made = domain.routing_of(given_draft, (A, B, C), former, lambda kind: f"{kind}_{next(numbers)}", field="f")

    assert [(each.uid, each.display_name) for each in made.rules] == [("rul_0", "Rule 1"), ("rul_old", "Kept")]
    assert made.rules[0].shares == (Share("var_b", 1.0), Share("var_a", 1.0))
    assert (made.coverage, made.baseline, made.fields) == (0.5, "var_c", (COUNTRY,))


HOSTILE = {
    "nested": "(" * 1500 + "true" + ")" * 1500,
    "nots": "!" * 4000 + "true",
    "backtracking": "context.country.matches(r'(a+)+$')" + " && true" * 400,
    "repeated": r"context.country.matches(r'((((a{99}){99}){99}){99})')",
    "160 KB": "true || " * 20_000 + "true",
    "list": f"context.age in [{','.join(['1'] * 2000)}]",
    "macros": "[1].exists(a, [1].exists(b, [1].exists(c, true)))",
    "NUL": "true\0",
    "surrogate": "context.country == '\ud800'",
    "text": f"context.country == '{'x' * 4000}'",
    "dates": " || ".join(['timestamp("2026-01-01T00:00:00Z") > timestamp("2026-01-01T00:00:00Z")'] * 50),
    "ternaries": "true ? " * 300 + "true" + " : true" * 300,
    "bad bytes": "\u202e\ufeff\x7f true",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_condition_costs_no_more_than_others(name: str) -> None:
    def check() -> None:
        with contextlib.suppress(Invalid):
            domain.check_routing(RoutingDraft((COUNTRY, AGE), (draft(HOSTILE[name]),)), field="f")

    check()
    assert min(_seconds(check) for _ in range(3)) < 0.05


def test_two_hundred_rules_of_all_the_conditions_that_fit_are_checked_soon() -> None:
    rules = []
    for number in range(200):
        condition = f"context.age > {number}"
        while len(condition) < 60:
            condition += f' || context.country == "{len(condition):03}"'
        rules.append(draft(condition))
    routing = RoutingDraft((COUNTRY, AGE), tuple(rules))
    assert 12_000 < sum(len(each.condition) for each in rules) <= 16 << 10

    assert _seconds(lambda: domain.check_routing(routing, field="f")) < 1


def _seconds(work: Callable[[], None]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


ROUTED = revision(rule("One", SPAIN, "ab"), rule("Two", "true", "c"), coverage=0.5, baseline="var_a")


def with_rules(*rules: Rule) -> Revision:
    return replace(ROUTED, routing=replace(ROUTED.routing, rules=rules))


ONE, TWO = ROUTED.routing.rules


@pytest.mark.parametrize(
    ("after", "bump"),
    [
        (with_rules(replace(ONE, shares=(Share("var_b", 3.0), Share("var_a", 0.0))), TWO), Bump.MINOR),
        (with_rules(replace(ONE, active=False), replace(TWO, display_name="Other")), Bump.MINOR),
        (replace(ROUTED, routing=replace(ROUTED.routing, coverage=0.6)), Bump.MINOR),
        (replace(ROUTED, routing=replace(ROUTED.routing, fields=(AGE, COUNTRY))), Bump.MINOR),
        (with_rules(TWO, ONE), Bump.MAJOR),
        (with_rules(ONE), Bump.MAJOR),
        (with_rules(ONE, TWO, rule("Three")), Bump.MAJOR),
        (with_rules(replace(ONE, condition="true"), TWO), Bump.MAJOR),
        (with_rules(replace(ONE, shares=ONE.shares[:1]), TWO), Bump.MAJOR),
        (with_rules(ONE, replace(TWO, uid="rul_other")), Bump.MAJOR),
        (replace(ROUTED, routing=replace(ROUTED.routing, baseline="var_b")), Bump.MAJOR),
        (replace(ROUTED, routing=replace(ROUTED.routing, fields=(COUNTRY,))), Bump.MAJOR),
        (replace(ROUTED, routing=WEIGHTS_ALONE), Bump.MAJOR),
    ],
)
def test_weights_coverage_names_and_activity_are_minor_and_all_else_is_major(after: Revision, bump: Bump) -> None:
    assert bump_of(ROUTED, after) is bump
    assert bump_of(after, ROUTED) is bump


def told(before: Revision, after: Revision) -> dict[str, tuple[str, str]]:
    return {each.path: (each.before_json, each.after_json) for each in differences(before, (), after, ())}


def test_differences_name_rules_fields_and_shares() -> None:
    routing = Routing(
        (Field("country", FieldKind.LIST),),
        (
            replace(ONE, condition="true", shares=(Share("var_a", 30.0), Share("var_c", 70.0))),
            replace(TWO, active=False),
        ),
        0.25,
        "var_b",
    )

    assert told(ROUTED, replace(ROUTED, routing=routing)) == {
        "routing.fields[country].kind": ('"string"', '"list"'),
        "routing.fields[age]": ('{"kind":"number"}', ""),
        "routing.rules[One].condition": ('"context.country == \\"ES\\""', '"true"'),
        "routing.rules[One].split.shares[a].weight": ("100", "30"),
        "routing.rules[One].split.shares[b]": ('{"weight":100}', ""),
        "routing.rules[One].split.shares[c]": ("", '{"weight":70}'),
        "routing.rules[Two].active": ("true", "false"),
        "routing.coverage": ("0.5", "0.25"),
        "routing.baseline": ('"a"', '"b"'),
    }


def test_a_new_rule_is_told_as_one_and_so_is_another_order() -> None:
    three = rule("Three", "true", "b")

    last = differences(ROUTED, (), with_rules(ONE, TWO, three), ())
    assert [(each.path, each.kind) for each in last] == [("routing.rules[Three]", DifferenceKind.ADDED)]
    assert told(ROUTED, with_rules(three, ONE, TWO))["routing.rules"] == ('["One","Two"]', '["Three","One","Two"]')
    assert told(ROUTED, with_rules(TWO, ONE)) == {"routing.rules": ('["One","Two"]', '["Two","One"]')}
    assert told(ROUTED, with_rules(TWO)) == {"routing.rules[One]": (dumped(ONE), "")}


def dumped(of: Rule) -> str:
    [found] = differences(revision(), (), revision(of), ())
    return found.after_json


def test_a_rule_that_was_renamed_is_one_rule() -> None:
    assert told(ROUTED, with_rules(replace(ONE, display_name="First"), TWO)) == {
        "routing.rules[First].display_name": ('"One"', '"First"')
    }


@pytest.mark.parametrize("third", ["Same", "Same rul_1", "rul_1"])
def test_rules_of_one_name_are_told_apart_whatever_the_names_look_like(third: str) -> None:
    before = [rule("Same", uid="rul_1"), rule("Same", uid="rul_2"), rule(third, uid="rul_3")]
    for place in range(3):
        after = [replace(each, condition="false") if index == place else each for index, each in enumerate(before)]
        assert len(told(revision(*before), revision(*after))) == 1, "no change hides behind another rule's name"


def test_what_serves_nobody_or_surprises_is_warned_of() -> None:
    idle, unweighted = replace(A, active=False), replace(A, weight=0.0)

    def of(*rules: Rule, **fields: object) -> tuple[str, ...]:
        return warnings(revision(*rules, **fields))  # type: ignore[arg-type]  # as `revision` takes them

    assert of(rule("R", SPAIN, "a"), coverage=0.5, baseline="var_a") == ()
    assert of(rule("R", SPAIN, "a"), variants=(idle, B)) == (
        "the rule 'R' is without an active variant that has a weight: calls that match fail with NO_ACTIVE_VARIANT",
    )
    zero = replace(rule("R", SPAIN), shares=(Share("var_a", 0.0),))
    assert len(of(zero)) == 1
    assert of(replace(zero, active=False)) == (), "a rule that is off harms nobody"
    many = [rule(f"R{number}", SPAIN, "a") for number in range(9)]
    assert "'R0', 'R1', 'R2', 'R3', 'R4' and 4 more are" in of(*many, variants=(idle, B))[0]
    assert of(coverage=0.5, baseline="var_a", variants=(idle, B)) == (
        "the baseline is not active: calls outside coverage fail with NO_ACTIVE_VARIANT",
    )
    assert of(coverage=0.0, baseline="var_a") == ("coverage is 0: all calls get the baseline",)
    assert of(baseline="var_a", variants=(idle, B)) == (), "with full coverage nobody gets the baseline"
    assert of(rule("All", " true "), rule("Late", SPAIN)) == (
        "the rule 'Late' is never asked: the rule 'All' before matches every call",
    )
    assert of(rule("All", "true", active=False), rule("Late", SPAIN)) == ()
    assert of(rule("R", SPAIN), variants=(unweighted,)) == (
        "the weights of all active variants are 0: calls that no rule matches fail with NO_ACTIVE_VARIANT",
    )
    assert of(rule("R", "true"), variants=(unweighted,)) == (), "the rule matches every call"
    assert of(variants=(unweighted,)) == (
        "the weights of all active variants are 0: calls fail with NO_ACTIVE_VARIANT",
    )
    assert of(rule("R"), variants=(idle,)) == ("no variant is active: calls fail with NO_ACTIVE_VARIANT",)


def test_what_uses_a_variant_is_named() -> None:
    routing = ROUTED.routing
    assert domain.users_of(routing, "var_a") == ["the rule 'One'", "the baseline"]
    assert domain.users_of(routing, "var_c") == ["the rule 'Two'"]
    assert domain.users_of(WEIGHTS_ALONE, "var_a") == []
    assert domain.in_words(["x"]) == "x"
    assert domain.in_words(["x", "y"]) == "x and y"
    assert domain.in_words(list("123456")) == "1, 2, 3, 4, 5 and 1 more"


names = st.text(st.characters(codec="utf-8"), max_size=20)
shares = st.builds(Share, names, st.floats(0, 100))
routings = st.builds(
    Routing,
    st.lists(st.builds(Field, names, st.sampled_from(FieldKind)), max_size=4).map(tuple),
    st.lists(
        st.builds(Rule, names, names, names, st.booleans(), st.lists(shares, min_size=1, max_size=4).map(tuple)),
        max_size=4,
    ).map(tuple),
    st.floats(0, 1),
    names,
)


@given(routing=routings)
def test_any_routing_is_stored_and_read_back(routing: Routing) -> None:
    assert unpack_routing(pack_routing(routing)) == routing


def test_nothing_is_stored_of_weights_alone() -> None:
    assert pack_routing(WEIGHTS_ALONE) is None
    assert unpack_routing(None) == WEIGHTS_ALONE


def test_one_share_is_a_variant_only_if_it_is_whole() -> None:
    assert only_variant(rule("R", shares="a")) == "var_a"
    assert only_variant(rule("R", shares="ab")) is None
    assert only_variant(replace(rule("R"), shares=(Share("var_a", 0.0),))) is None


def test_a_difference_that_is_none_is_not_told() -> None:
    same: tuple[Difference, ...] = differences(ROUTED, (), replace(ROUTED, uid="rev_2"), ())
    assert same == ()
