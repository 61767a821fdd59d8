"""Contexts that callers may send, made of what conditions compare with."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.conditions import Field, FieldKind, Languages, read_context
from catalog.routing import Routing, Rule, Share
from kit import json
from services.registry.domain.example_contexts import MAX_TRIES, example, reaching

FIELDS = (
    Field("country", FieldKind.STRING),
    Field("age", FieldKind.NUMBER),
    Field("vip", FieldKind.BOOLEAN),
    Field("since", FieldKind.DATE),
    Field("locale", FieldKind.LIST),
)
USUAL = {
    "country": "example",
    "age": 1,
    "vip": True,
    "since": "2026-01-31T00:00:00Z",
    "locale": ["example"],
}


def routing(*conditions: str, fields: tuple[Field, ...] = FIELDS) -> Routing:
    """The n-th rule leads to the variant `n`."""
    rules = [Rule(f"rul_{n}", "R", each, True, (Share(str(n), 1),)) for n, each in enumerate(conditions)]
    return Routing(fields, tuple(rules))


@pytest.mark.parametrize(
    ("condition", "shown"),
    [
        ("true", {}),
        ('context.country == "ES"', {"country": "ES"}),
        ("'ES' == context.country", {"country": "ES"}),
        ('present.country && context.country in ["ES", "MX"]', {"country": "ES"}),
        ('context.vip || context.country.startsWith("E")', {"country": "E"}),
        (r"""context.country == 'a\'\u00e9\?'""", {"country": "a'é?"}),
        (r"""context.country == r'a\d'""", {"country": "a\\d"}),
        ("context.country.matches(r'^E+$')", {}),
        ("size(context.country) > 3", {}),
        ("context.age >= 17.5", {"age": 17.5}),
        ("context.age > -0x10", {"age": -16}),
        ("context.age == 1e3", {"age": 1000}),
        ('context.since > timestamp("2025-03-01T09:00:00+01:00")', {"since": "2025-03-01T08:00:00Z"}),
        ('context.locale.exists(l, l == "es" || l.startsWith("ca"))', {"locale": ["es"]}),
        ('context.country == "ES" && context.age < 5', {"country": "ES", "age": 5}),
        ("context.country == '" + "x" * 101 + "'", {}),
        ("context.country == '", {}),
    ],
)
def test_the_example_shows_what_conditions_compare_with_and_something_of_its_kind_else(
    condition: str, shown: dict[str, Any]
) -> None:
    assert example(routing(condition)) == USUAL | shown


def test_without_fields_there_is_none() -> None:
    assert example(Routing()) == {}


@pytest.mark.parametrize(
    "condition",
    [
        'context.country == "ES"',
        'context.country != "ES"',
        'context.country != "example"',
        '!("example" in context.locale)',
        '!(context.country in ["ES", "example"])',
        "context.age > 17",
        "context.age < 17",
        "context.age >= 17.5 && context.age <= 17.5",
        "!context.vip && context.age > 3",
        "!present.country && context.vip",
        'context.since < timestamp("2025-03-01T00:00:00Z")',
        'context.since > timestamp("2025-03-01T00:00:00Z") && !present.age',
        'context.locale.all(l, l == "es")',
        '"es" in context.locale && "ca" in context.locale',
        'context.country == "ES" && context.age > 64 && context.vip',
    ],
)
def test_a_condition_that_compares_is_fulfilled_by_one_of_a_few(condition: str) -> None:
    of = routing('context.country == "MX"', condition)
    language = Languages().of(FIELDS)

    tried = list(reaching(of, "1"))

    assert len(tried) <= MAX_TRIES + 3
    assert any(language.condition(condition).is_true(language.bindings(each)) for each in tried)


def test_rules_of_one_variant_are_tried_in_turn() -> None:
    fields = tuple(Field(f"f{n}", FieldKind.STRING) for n in range(20))
    long = " && ".join(f"context.f{n} == 'a'" for n in range(20))
    rules = tuple(Rule(f"rul_{n}", "R", c, True, (Share("v", 1),)) for n, c in enumerate([long, "context.f0 == 'b'"]))

    tried = list(reaching(Routing(fields, rules), "v"))

    assert len(tried) == MAX_TRIES + 3
    assert {"f0": "b"} in tried
    assert tried[-1] == {}


@given(
    conditions=st.lists(st.text() | st.sampled_from(["context.country == '\\ud800'", "context.age == " + "9" * 400]))
)
def test_whatever_conditions_say_a_call_may_have_the_contexts(conditions: list[str]) -> None:
    of = routing(*conditions)
    for each in (example(of), *reaching(of, "0")):
        assert read_context(json.dump(each)) == each


def test_contexts_too_large_to_be_sent_are_not_looked_for_without_end() -> None:
    """JSON writes an emoji in twelve characters, and sixty fields have more combinations than anybody can try."""
    fields = tuple(Field(f"f{n}", FieldKind.LIST) for n in range(64))
    literals = ", ".join(f'"{number}{"😀" * 95}"' for number in range(2))
    conditions = [f"size(context.f{n}) == 2 && context.f{n}[0] in [{literals}]" for n in range(20)]
    tried = list(reaching(routing(" && ".join(conditions), fields=fields), "0"))
    assert tried[-1] == {}
    assert len(tried) <= MAX_TRIES + 3
