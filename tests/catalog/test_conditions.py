from __future__ import annotations

import subprocess
import sys
import weakref

import pytest

from catalog.conditions import (
    MAX_FIELDS,
    BadCondition,
    Field,
    FieldKind,
    Languages,
    Outcome,
    Seen,
    State,
    Truth,
    check,
    faults_of,
)
from kit.json import Json

FIELDS = (
    Field("country", FieldKind.STRING),
    Field("age", FieldKind.NUMBER),
    Field("vip", FieldKind.BOOLEAN),
    Field("since", FieldKind.DATE),
    Field("locale", FieldKind.LIST),
)
CONTEXT: dict[str, Json] = {"country": "ES", "age": 30, "vip": True, "since": "2025-03-01", "locale": ["es", "en", 7]}


def _evaluate(text: str, context: dict[str, Json]) -> Outcome:
    check(text, FIELDS)
    language = Languages().of(FIELDS)
    condition, bindings = language.condition(text), language.bindings(context)
    outcome = condition.evaluate(bindings)
    assert condition.is_true(bindings) is (outcome.truth is Truth.TRUE)
    return outcome


@pytest.mark.parametrize(
    "text",
    [
        "true",
        "context.country == 'ES'",
        'context.country in ["ES", "MX"]',
        "context.country != 'MX' && !(context.country == 'FR')",
        "context.country.startsWith('E') && context.country.endsWith(\"S\") && context.country.contains('ES')",
        "context.country.matches(r'^[A-Z]{2}$')",
        "context.country < 'F' && size(context.country) == 2 && context.country.size() == 2.0",
        "context.age == 30 && context.age == 30.0 && 30 == context.age",
        "context.age >= 17.5 && context.age > 17 && context.age <= 30 && context.age < 31 && context.age != 31",
        "context.age in [29, 30] && context.age in [29.5, 30.0] && context.age in [1.5, 30]",
        "context.age + 1.0 == 31 && 1.5 + context.age == 31.5 && context.age - 1.0 == 29 && context.age * 2.0 == 60",
        "context.age / 4.0 == 7.5 && 60.0 / context.age == 2 && -context.age == -30 && int(context.age) % 4 == 2",
        "context.age / 0.0 > 1e300 && -context.age / 0.0 < -1e300",
        "size(context.country) + 1 == 3 && 7 / 2 == 3",
        "context.vip && context.vip == true && (context.vip ? true : false)",
        "context.since == timestamp('2025-03-01T00:00:00Z')",
        "context.since > timestamp('2025-02-28T23:30:00-00:15') && context.since.getFullYear() == 2025",
        "context.since + duration('36h') > timestamp('2025-03-02T00:00:00Z')",
        "context.since - timestamp('2025-02-01T00:00:00Z') == duration('672h')",
        "'es' in context.locale && 7 in context.locale && 7.0 in context.locale && !('7' in context.locale)",
        "context.locale.exists(l, l == 'en') && context.locale.all(l, l != 'fr')",
        "context.locale.exists_one(l, l == 7) && context.locale[1] == 'en' && size(context.locale) == 3",
        "context.locale == ['es', 'en', 7] && context.locale != []",
        "['E', 'F'].exists(prefix, context.country.startsWith(prefix))",
        "present.age && present.country && // a remark\n present.locale",
        "double('1.5') == 1.5 && int('3') == 3 && string(context.age) == '30'",
        ".context.age == 30 && context . age == 30",
    ],
)
def test_a_condition_that_holds(text: str) -> None:
    assert _evaluate(text, CONTEXT) == Outcome(Truth.TRUE)


@pytest.mark.parametrize("text", ["false", "context.age == 31", "'fr' in context.locale", "!present.vip"])
def test_a_condition_that_does_not_hold(text: str) -> None:
    assert _evaluate(text, CONTEXT) == Outcome(Truth.FALSE)


@pytest.mark.parametrize("given", [30, 30.0, "30", "30.0", "3e1", [30], ["30"]])
def test_a_number_is_the_same_however_it_is_written(given: Json) -> None:
    assert (
        _evaluate("context.age == 30 && context.age == 30.0 && context.age / 4.0 == 7.5", {"age": given}).truth
        == "true"
    )


def test_whole_numbers_are_exact_as_far_as_64_bits_go() -> None:
    big = 2**53 + 1

    assert _evaluate(f"context.age == {big}", {"age": big}).truth is Truth.TRUE
    assert _evaluate(f"context.age == {big - 1}", {"age": big}).truth is Truth.FALSE
    assert _evaluate(f"{big} in context.locale", {"locale": [big - 1, big]}).truth is Truth.TRUE


def test_a_missing_field_is_told_by_name_and_does_not_match() -> None:
    outcome = _evaluate("context.age > 3", {"age": "unknown"})

    assert outcome.truth is Truth.MISSING
    assert outcome.missing == ("age",)
    assert "present.age" in outcome.message


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("context.age > 3 || true", Truth.TRUE),
        ("true || context.age > 3", Truth.TRUE),
        ("context.age > 3 && false", Truth.FALSE),
        ("false && context.age > 3", Truth.FALSE),
        ("context.age > 3 || false", Truth.MISSING),
        ("context.age > 3 && true", Truth.MISSING),
        ("present.age && context.age > 3", Truth.FALSE),
        ("!present.age || context.age > 3", Truth.TRUE),
        ("present.age ? context.age > 3 : context.country == 'ES'", Truth.TRUE),
        ("context.locale[9] == 1 || true", Truth.TRUE),
        ("context.locale[9] == 1 || false", Truth.ERROR),
    ],
)
def test_what_decides_alone_outweighs_what_is_missing(text: str, truth: Truth) -> None:
    assert _evaluate(text, {"country": "ES", "locale": ["es"]}).truth is truth


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("context.locale[9] == 1", "Index error"),
        ("context.locale.exists(l, l)", "overload"),
        ("int(context.country) == 1", "convert"),
        ("int(context.age) / 0 == 1", "zero"),
        ("timestamp(context.country) == context.since", "Timestamp"),
        ("int(context.age) * 9223372036854775807 > 0", "overflow"),
        ("context.since + duration('80000000h') > context.since", "timestamp"),
    ],
)
def test_what_fails_says_why_and_does_not_match(text: str, words: str) -> None:
    outcome = _evaluate(text, {**CONTEXT, "since": "9999-12-30"})

    assert outcome.truth is Truth.ERROR
    assert words in outcome.message


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("context.age == 'x'", 1, 13, "== does not take (number, string)"),
        ("context.country == 3", 1, 17, "== does not take (string, whole number)"),
        ("context.vip == 'true'", 1, 13, "boolean"),
        ("context.since == '2025-03-01'", 1, 15, "date"),
        ("context.locale == 'es'", 1, 16, "list"),
        ("context.country in [1]", 1, 17, "in does not take"),
        ("context.age % 2 == 0", 1, 13, "int("),
        ("context.age + 1 == 31", 1, 13, "+ does not take (number, whole number); write the whole number as 1.0"),
        ("2 * context.age == 60", 1, 3, "1.0"),
        ("context.country + 'x' == ''", 1, 17, "+ does not take"),
        ("true &&\n  context.cuntry == 'ES'", 2, 11, "did you mean 'country'?"),
        ("present.cuntry", 1, 9, "did you mean 'country'?"),
        ("context.zzzzzzzz == 1", 1, 9, "declare it"),
        ("context['age'] == 1", 1, 1, "context.country"),
        ("present", 1, 1, "present.country"),
        ("context.locale.exists(context, context == 1)", 1, 23, "choose another name for the element"),
        ("context.locale.all(present, present == 'es')", 1, 20, "choose another name for the element"),
        ("context.vip || " + "q" * 4000, 1, 16, f"{'q' * 64!r} is not known here; fields are context.<field>"),
        ("context.country." + "q" * 4000 + "('x')", 1, 4017, "is not known here"),
        ("has(context.age)", 1, 4, "present.<field>"),
        ("age == 30", 1, 1, "context.<field>"),
        ("context.country.startWith('E')", 1, 26, "did you mean startsWith?"),
        ("context.since.getHours('Europe/Madrid') == 3", 1, 23, "other arguments"),
        ("context.since > timestamp('2025-03-01')", 1, 27, "RFC 3339"),
        ("duration('tomorrow') > duration('1h')", 1, 10, "36h"),
        ("context.country.matches('(')", 1, 25, "missing )"),
        ("context.country.matches(context.country)", 1, 17, "written out"),
        ("context.country.matches('\\\\d')", 1, 25, "r'…'"),
        ("context.age", 1, 1, "a number"),
        ("'true'", 1, 1, "a string"),
        ("context.locale[0]", 1, 1, "a list element"),
        ("context.locale.filter(l, l == 'es') != []", 1, 16, "exists"),
        ("context.locale.map(l, l) != []", 1, 16, "exists"),
        ("context.age = 30", 1, 13, "=="),
        ("context.vip and true", 1, 13, "&&"),
        ("not context.vip", 1, 1, "write ! for not"),
        ("{'a': 1}.a == 1", 1, 1, "no {"),
        ("google.protobuf.Duration{} == duration('1s')", 1, 25, "no {"),
        ("b'a' == b'a'", 1, 1, "bytes"),
        ("context.`age` == 1", 1, 1, "dot"),
        ("dyn(1) == 1", 1, 4, "'dyn'"),
        ("context.country == 'ES", 1, 20, "closing quote"),
        ("context.age ==", 1, 15, "Syntax error"),
        ("", 1, 1, "empty"),
        (" \n", 1, 1, "empty"),
        ("true\0", 1, 5, "NUL"),
        ("'é' == '\ud800'", 1, 9, "surrogate"),
        ("'☃' == '☃' && context.nme == 1", 1, 23, "no declared field 'nme'"),
        ("context.age.foo == 3", 1, 12, "'number'"),
    ],
)
def test_a_bad_condition_is_refused_with_its_place_and_what_to_write(
    text: str, line: int, column: int, words: str
) -> None:
    with pytest.raises(BadCondition) as refusal:
        check(text, FIELDS)

    assert (refusal.value.line, refusal.value.column) == (line, column)
    assert words in refusal.value.message


def test_a_refused_condition_that_is_stored_all_the_same_is_an_error_for_every_call() -> None:
    language = Languages().of(FIELDS)
    condition, bindings = language.condition("context.nothing == 1"), language.bindings(CONTEXT)

    assert not condition.is_true(bindings)
    assert condition.evaluate(bindings).truth is Truth.ERROR
    assert condition.evaluate(bindings).message.startswith("line 1, column 9: there is no declared field")


def test_the_values_that_a_condition_saw_are_told_in_its_order_with_what_became_of_them() -> None:
    language = Languages().of(FIELDS)
    condition = language.condition("present.vip || context.since > timestamp('2025-01-01T00:00:00Z') || "
                                   "context.age in [1] || context.locale == ['context.country']")  # fmt: skip

    seen = condition.values_seen(language.bindings({"since": "2025-03-01T01:00:00.5+01:00", "age": {}, "locale": "es"}))

    assert seen == (
        Seen("vip", State.ABSENT),
        Seen("since", State.BOUND, "2025-03-01T00:00:00.500000Z"),
        Seen("age", State.UNFIT),
        Seen("locale", State.BOUND, ["es"]),
    )


def test_conditions_are_compiled_once_while_somebody_holds_them() -> None:
    languages = Languages()
    language = languages.of(FIELDS)
    first = language.condition("context.age == 1")
    let_go = weakref.ref(first)

    assert languages.of(tuple(FIELDS)).condition("context.age == 1") is first
    assert language.condition("context.age == 2") is not first
    del first
    assert let_go() is None


def test_evaluating_leaves_nothing_behind() -> None:
    language = Languages().of(FIELDS)
    texts = ["context.age + 1.0 == 31", "context.since > timestamp('2025-01-01T00:00:00Z')", "context.locale[9] == 1"]
    conditions = [language.condition(text) for text in (*texts, "context.locale.exists(l, l == context.country)")]

    def call() -> None:
        for context in (CONTEXT, {}):
            bindings = language.bindings(context)
            for condition in conditions:
                condition.evaluate(bindings)

    call()
    before = sys.getallocatedblocks()
    for _ in range(1000):
        call()

    assert sys.getallocatedblocks() - before < 1000


def test_one_text_means_what_the_fields_of_its_language_say() -> None:
    languages = Languages()
    text = "context.age == 30"
    numbers, texts = languages.of(FIELDS), languages.of((Field("age", FieldKind.STRING),))

    assert numbers.condition(text).evaluate(numbers.bindings({"age": 30})).truth is Truth.TRUE
    assert texts.condition(text).evaluate(texts.bindings({"age": 30})).truth is Truth.ERROR
    assert texts.condition("context.age == '30'").is_true(texts.bindings({"age": 30}))


def test_a_deployment_without_fields_has_conditions_too() -> None:
    language = Languages().of(())

    assert language.condition("true").is_true(language.bindings({"age": 1}))
    with pytest.raises(BadCondition):
        check("context.age == 1", ())


@pytest.mark.parametrize(
    ("names", "places"),
    [
        (
            [
                "country",
                "a",
                "a1_b",
                "x" * 63,
                "all",
                "exists",
                "size",
                "timestamp",
                "context",
                "present",
                "and",
                "map",
            ],
            [],
        ),
        (["", "Country", "1a", "_a", "a-b", "a b", "a\n", "á", "x" * 64], [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (["in", "true", "null", "while", "as", "package"], [0, 1, 2, 3, 4, 5]),
        (["a", "b", "a"], [2]),
        ([f"f{number}" for number in range(MAX_FIELDS)], []),
        ([f"f{number}" for number in range(MAX_FIELDS + 9)], [MAX_FIELDS]),
    ],
)
def test_declared_fields_have_names_that_conditions_can_write(names: list[str], places: list[int]) -> None:
    fields = [Field(name, FieldKind.STRING) for name in names]

    assert [place for place, sentence in faults_of(fields) if sentence] == places
    if not places:
        for field in fields:
            check(f"context.{field.name} == 'x' && present.{field.name}", fields)


def test_cel_is_not_loaded_before_a_condition_is_used() -> None:
    code = (
        "import sys; from catalog.conditions import *\n"
        "Languages().of((Field('age', FieldKind.NUMBER),)); faults_of(())\n"
        "sys.exit(any('cel_expr' in name for name in sys.modules))"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
