import json
import math
import time
from fractions import Fraction

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from completions.canonical import canonical
from kit.errors import Invalid
from kit.json import Json

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False, allow_infinity=False)
DOCUMENTS: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [True, None, "x"]}, '{"a":[true,null,"x"],"b":1}'),
        ([1, 1.0, -0.0, 1e21, 2**53 + 1, -(2**63), 2**64 - 1], None),
        ([0.1, 1e-6, 1.5e-7, -2.5, 5e-324], "[0.1,0.000001,1.5e-7,-2.5,5e-324]"),
        ('"\\\b\f\n\r\t\x00\x1f\x7f/é\U0001f600', '"\\"\\\\\\b\\f\\n\\r\\t\\u0000\\u001f\x7f/é\U0001f600"'),
        ({}, "{}"),
        ([[], {}], "[[],{}]"),
        # UTF-16 order: the surrogate pair of U+1F600 comes before U+FB33.
        ({"\ufb33": 1, "\U0001f600": 2, "a": 3}, '{"a":3,"\U0001f600":2,"\ufb33":1}'),
    ],
)
def test_the_form_is_the_published_one(value: Json, text: str | None) -> None:
    if text is None:
        text = "[1,1,0,1000000000000000000000,9007199254740993,-9223372036854775808,18446744073709551615]"

    assert canonical(value).decode() == text


@given(DOCUMENTS)
def test_the_form_is_json_for_the_same_value(value: Json) -> None:
    assert json.loads(canonical(value)) == value


@given(DOCUMENTS)
def test_the_form_of_the_form_is_itself(value: Json) -> None:
    assert canonical(orjson.loads(canonical(value))) == canonical(value)


@given(NUMBERS, NUMBERS)
def test_two_numbers_share_a_form_exactly_if_they_are_equal(left: float, right: float) -> None:
    assert (canonical(left) == canonical(right)) == (Fraction(left) == Fraction(right))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_double_reads_back_as_itself(value: float) -> None:
    assert float(canonical(value)) == value


@given(st.dictionaries(TEXTS, DOCUMENTS, min_size=2, max_size=5), st.randoms())
def test_the_order_of_members_does_not_matter(document: dict[str, Json], random: object) -> None:
    names = list(document)
    random.shuffle(names)  # type: ignore[attr-defined]  # hypothesis gives a random.Random

    assert canonical({name: document[name] for name in names}) == canonical(document)


NEAR_PLAIN: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from([0.5, 1e-3, 1.5e15, 2.0, 1e-4, -0.0]) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["b", "a", "é", "\x7f"]), inner),
    max_leaves=12,
)


@given(DOCUMENTS | NEAR_PLAIN)
def test_a_value_has_the_form_that_it_has_beside_any_other(value: Json) -> None:
    # The least double is never written by the quick way, so the whole list is not.
    assert canonical([value, 5e-324]) == b"[" + canonical(value) + b",5e-324]"


def test_what_contains_itself_is_refused_at_once() -> None:
    value: list[Json] = []
    value += [value, value]

    with pytest.raises(Invalid):
        canonical(value)


def test_a_schema_of_four_kilobytes_is_written_in_a_fraction_of_a_millisecond() -> None:
    schema: Json = {f"name{index}": {"type": "object", "properties": {"a": {"minimum": 0.5}}} for index in range(70)}

    def once() -> float:
        started = time.process_time()
        for _ in range(100):
            canonical(schema)
        return (time.process_time() - started) / 100

    # Measured 0.1 ms; member by member it is 1.2 ms.
    assert min(once() for _ in range(5)) < 0.5e-3


def test_true_is_not_one_and_null_is_not_absent() -> None:
    values: list[Json] = [[True], [1], ["1"], [None], [], [False], [0], [""], [{}], [[]]]
    forms = {canonical(value) for value in values}

    assert len(forms) == 10


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, [-math.inf], 1 << 64, -(1 << 63) - 1, "\ud800", {"\ud800": 1}, {1: 2}, {"a": object()}],
)
def test_what_has_no_form_is_refused(value: Json) -> None:
    with pytest.raises(Invalid) as refusal:
        canonical(value)

    assert refusal.value.reason == "JSON_NOT_CANONICAL"


def test_endless_nesting_is_refused_and_does_not_overflow() -> None:
    value: Json = 1
    for _ in range(100_000):
        value = [value]

    with pytest.raises(Invalid):
        canonical(value)
