"""Whatever is accepted is answered, and answered alike."""

from __future__ import annotations

from typing import Any

from hypothesis import assume, example, given
from hypothesis import strategies as st

from catalog.conditions import BadCondition, Field, FieldKind, Languages, Truth, check

FIELDS = (
    Field("s", FieldKind.STRING),
    Field("n", FieldKind.NUMBER),
    Field("b", FieldKind.BOOLEAN),
    Field("d", FieldKind.DATE),
    Field("l", FieldKind.LIST),
)
LANGUAGES = Languages()

_WORDS = [
    "context.s",
    "context.n",
    "context.b",
    "context.d",
    "context.l",
    "present.s",
    "present.n",
    "x",
    "y",
    "true",
    "false",
    "null",
    "0",
    "1",
    "30",
    "1.5",
    "-1",
    "9223372036854775807",
    "1u",
    "0x1F",
    "1e308",
    "'a'",
    '"b"',
    "''",
    "r'\\d'",
    "'é'",
    "'😀'",
    "[]",
    "[1]",
    "['a',2]",
    "==",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "&&",
    "||",
    "!",
    "?",
    ":",
    "in",
    "(",
    ")",
    "[",
    "]",
    ".",
    ",",
    ".startsWith('a')",
    ".endsWith(context.s)",
    ".contains('a')",
    ".matches('a+')",
    ".size()",
    "size(",
    "int(",
    "double(",
    "string(",
    "timestamp(",
    "duration(",
    ".getHours()",
    ".getFullYear()",
    ".exists(x,",
    ".all(x,",
    ".exists_one(x,",
    "timestamp('2025-01-01T00:00:00Z')",
    "duration('1h')",
    "//",
]
_NUMBERS = st.sampled_from(["context.n", "1", "30.0", "size(context.s)", "context.l[0]", "context.d.getHours()", "-1"])
_ATOMS = st.one_of(
    st.sampled_from(["true", "false", "context.b", "present.s", "!present.l", "context.l[1]", "context.b == true"]),
    st.builds("{} {} {}".format, _NUMBERS, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), _NUMBERS),
    st.builds("double({}) {} double({}) == {}".format, _NUMBERS, st.sampled_from("+-*/"), _NUMBERS, _NUMBERS),
    st.builds("{} in {}".format, _NUMBERS, st.sampled_from(["[1, 2]", "[1.5, 30]", "context.l"])),
    st.builds("context.s {} '{}'".format, st.sampled_from(["==", "<", ">="]), st.sampled_from(["a", "é", "true", "1"])),
    st.sampled_from(
        [
            "context.s in ['a', '1']",
            "context.s in context.l",
            "context.s.contains('1')",
            "context.s.matches('^[0-9a]+$')",
            "int(context.s) > 3",
            "int(context.n) % 7 == 0",
            "string(context.n) == context.s",
            "timestamp(context.s) < context.d",
            "context.d + duration('9000h') > timestamp('2025-01-01T00:00:00Z')",
            "context.d - context.d == duration('0s')",
            "context.l.exists(x, x == context.s)",
            "context.l.all(x, x > 1)",
            "context.l.exists_one(x, x.startsWith('a'))",
            "context.l == ['a']",
        ]
    ),
)
CONDITIONS = st.recursive(
    _ATOMS,
    lambda inner: st.one_of(
        st.builds("({}) {} ({})".format, inner, st.sampled_from(["&&", "||"]), inner),
        st.builds("!({})".format, inner),
        st.builds("({}) ? ({}) : ({})".format, inner, inner, inner),
    ),
    max_leaves=6,
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**53 + 1, 2**63 - 1, -(2**63), 2**64, 10**400, 5e-324, 1.7e308])
    | st.floats()
    | st.text(st.characters(codec=None), max_size=20)
    | st.sampled_from(["a", "1", "true", "0001-01-01", "9999-12-31T23:59:59.999999Z", "\ud800", "a\0b", "2025-06-01"])
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
CONTEXTS = st.dictionaries(st.sampled_from(["s", "n", "b", "d", "l", "other"]), VALUES) | st.dictionaries(
    st.text(st.characters(codec=None), max_size=4), VALUES, max_size=4
)


@given(CONDITIONS, CONTEXTS)
@example("context.l == ['a']", {"l": ["\ud800"]})
def test_an_accepted_condition_is_answered_for_every_context_and_always_alike(
    text: str, context: dict[str, Any]
) -> None:
    assume(_fault(text) is None)
    language = LANGUAGES.of(FIELDS)
    condition, bindings = language.condition(text), language.bindings(context)

    outcome = condition.evaluate(bindings)

    assert outcome == condition.evaluate(bindings) == condition.evaluate(language.bindings(context))
    again = Languages().of(FIELDS)
    assert outcome == again.condition(text).evaluate(again.bindings(context))
    assert condition.is_true(bindings) is (outcome.truth is Truth.TRUE)
    assert bool(outcome.message) is (outcome.truth in (Truth.MISSING, Truth.ERROR))
    assert set(outcome.missing) <= set(condition.fields)
    for name in outcome.missing:
        assert bindings.value(name) is None
    for seen in condition.values_seen(bindings):
        assert (seen.value is None) is (bindings.value(seen.field) is None)


def test_most_made_conditions_are_accepted() -> None:
    made: list[str] = []
    refused: list[str] = []

    @given(CONDITIONS)
    def count(text: str) -> None:
        made.append(text)
        if fault := _fault(text):
            refused.append(f"{text}: {fault.message}")

    count()

    assert len(refused) < len(made) / 2, refused[:5]


@given(st.lists(st.sampled_from(_WORDS), max_size=14).map(" ".join) | st.text(st.characters(codec=None), max_size=60))
def test_any_text_is_refused_in_words_or_answered(text: str) -> None:
    language = LANGUAGES.of(FIELDS)
    bindings = language.bindings({"s": "a", "n": 1, "b": True, "d": "2025-01-01", "l": ["a", 1]})
    fault = _fault(text)
    outcome = language.condition(text).evaluate(bindings)

    assert outcome.truth in Truth
    if fault is not None:
        assert outcome.truth is Truth.ERROR
        assert fault.message
        assert fault.line >= 1
        assert fault.column >= 1


def _fault(text: str) -> BadCondition | None:
    try:
        check(text, FIELDS)
    except BadCondition as fault:
        return fault
    return None
