from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.conditions import MAX_LIST_ELEMENTS, FieldKind, coerce, read_context
from catalog.conditions.coercion import to_json
from kit.errors import Invalid

STRING, NUMBER, BOOLEAN, DATE, LIST = FieldKind


@pytest.mark.parametrize(
    ("kind", "given_value", "coerced"),
    [
        (STRING, "ES", "ES"),
        (STRING, "", ""),
        (STRING, "日本", "日本"),
        (STRING, 1, "1"),
        (STRING, 1.0, "1"),
        (STRING, -0.0, "0"),
        (STRING, 1.5, "1.5"),
        (STRING, 9007199254740993, "9007199254740993"),
        (STRING, 1e22, "1e+22"),
        (STRING, True, "true"),
        (STRING, ["ES"], "ES"),
        (STRING, [7], "7"),
        (STRING, ["ES", "MX"], None),
        (STRING, [], None),
        (STRING, [["ES"]], None),
        (STRING, {}, None),
        (STRING, None, None),
        (STRING, "\ud800", None),
        (STRING, float("nan"), None),
        (NUMBER, 30, 30.0),
        (NUMBER, 30.5, 30.5),
        (NUMBER, "30", 30.0),
        (NUMBER, "-30.50e1", -305.0),
        (NUMBER, [3], 3.0),
        (NUMBER, "9007199254740993", 9007199254740993),
        (NUMBER, 9007199254740993, 9007199254740993),
        (NUMBER, 2**63, 2.0**63),
        (NUMBER, 10**400, None),
        (NUMBER, "1e999", None),
        (NUMBER, "9" * 5000, None),
        (NUMBER, float("inf"), None),
        (NUMBER, float("nan"), None),
        (NUMBER, "NaN", None),
        (NUMBER, "", None),
        (NUMBER, " 30", None),
        (NUMBER, "٣", None),
        (NUMBER, "030", None),
        (NUMBER, "1_000", None),
        (NUMBER, "0x10", None),
        (NUMBER, True, None),
        (BOOLEAN, True, True),
        (BOOLEAN, "true", True),
        (BOOLEAN, "false", False),
        (BOOLEAN, [False], False),
        (BOOLEAN, "True", None),
        (BOOLEAN, 1, None),
        (BOOLEAN, "", None),
        (DATE, "2025-03-01", datetime(2025, 3, 1, tzinfo=UTC)),
        (DATE, "2025-03-01T10:00:00Z", datetime(2025, 3, 1, 10, tzinfo=UTC)),
        (DATE, "2025-03-01t10:00:00.5z", datetime(2025, 3, 1, 10, 0, 0, 500000, tzinfo=UTC)),
        (DATE, "2025-03-01 10:00:00.123456789+02:30", datetime(2025, 3, 1, 7, 30, 0, 123456, tzinfo=UTC)),
        (DATE, ["2025-03-01T10:00:00-02:00"], datetime(2025, 3, 1, 12, tzinfo=UTC)),
        (DATE, "0001-01-01", None),
        (DATE, "0001-01-02", datetime(1, 1, 2, tzinfo=UTC)),
        (DATE, "9999-12-31T23:59:59.5Z", None),
        (DATE, "0001-01-01T00:00:00+00:01", None),
        (DATE, "9999-12-31T23:59:59-00:01", None),
        (DATE, "2025-02-29", None),
        (DATE, "2025-03-01T10:00:00", None),
        (DATE, "2025-03-01T10:00Z", None),
        (DATE, "2025-03-01T24:00:00Z", None),
        (DATE, "2016-12-31T23:59:60Z", None),
        (DATE, "2025-03-01T10:00:00+24:00", None),
        (DATE, "20250301", None),
        (DATE, "٢٠٢٥-03-01", None),
        (DATE, 1740787200, None),
        (LIST, ["a", 1, 1.5, True], ["a", 1.0, 1.5, True]),
        (LIST, "a", ["a"]),
        (LIST, 7, [7.0]),
        (LIST, "7", ["7"]),
        (LIST, True, [True]),
        (LIST, [], []),
        (LIST, [2**60], [2**60]),
        (LIST, [[1]], None),
        (LIST, [{}], None),
        (LIST, ["a", None], None),
        (LIST, {}, None),
        (LIST, None, None),
        (LIST, ["\ud800"], None),
        (LIST, [10**400], None),
        (LIST, ["a"] * MAX_LIST_ELEMENTS, ["a"] * MAX_LIST_ELEMENTS),
        (LIST, ["a"] * (MAX_LIST_ELEMENTS + 1), None),
    ],
)
def test_a_value_becomes_one_of_the_kind_or_is_not_bound(kind: FieldKind, given_value: Any, coerced: Any) -> None:
    found = coerce(kind, given_value)

    assert found == coerced
    assert type(found) is type(coerced)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**53, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**400])
    | st.floats()
    | st.text(st.characters(codec=None), max_size=12)
    | st.sampled_from(["true", "false", "1", "1.0", "1e5", "9" * 30, "-0", "2025-03-01", "2025-03-01T10:00:00+02:00"])
    | st.floats().map(repr)
    | st.datetimes().map(lambda instant: instant.isoformat() + "Z")
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)


@given(st.sampled_from(FieldKind), VALUES)
def test_coercion_never_fails_and_leaves_what_it_made(kind: FieldKind, value: Any) -> None:
    coerced = coerce(kind, value)

    if coerced is not None:
        again = coerce(kind, coerced)
        assert again == coerced
        assert type(again) is type(coerced)
        json.dumps(to_json(coerced), allow_nan=False)


@given(st.sampled_from(FieldKind), SCALARS)
def test_a_list_of_one_element_stands_for_the_element(kind: FieldKind, value: Any) -> None:
    assert coerce(kind, [value]) == coerce(kind, value)


@given(st.sampled_from([STRING, NUMBER, BOOLEAN, DATE]), SCALARS)
def test_what_people_are_shown_means_the_same_when_it_is_sent_again(kind: FieldKind, value: Any) -> None:
    coerced = coerce(kind, value)

    if coerced is not None:
        assert coerce(kind, to_json(coerced)) == coerced


@given(st.integers(-(2**53), 2**53))
def test_whole_numbers_read_the_same_as_numbers_and_as_text(number: int) -> None:
    assert coerce(NUMBER, number) == coerce(NUMBER, float(number)) == coerce(NUMBER, str(number)) == number
    assert coerce(STRING, number) == str(number)


def test_a_context_is_a_json_object() -> None:
    assert read_context('{"a": [1, "x"]}') == {"a": [1, "x"]}
    assert read_context("") == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1]", "JSON_NOT_OBJECT"),
        ("null", "JSON_NOT_OBJECT"),
        ('{"a": "\\u0000"}', "TEXT_NOT_STORABLE"),
        ("{", "JSON_MALFORMED"),
        ('{"a": NaN}', "JSON_MALFORMED"),
        ('{"a": "\\ud800"}', "JSON_MALFORMED"),
        ('{"a": "\ud800"}', "JSON_MALFORMED"),
        ('{"a": "' + "x" * (16 << 10) + '"}', "JSON_TOO_LARGE"),
        ('{"a": ' + "[" * 16 + "]" * 16 + "}", "JSON_TOO_DEEP"),
    ],
)
def test_a_bad_context_is_refused_with_its_field(text: str, reason: str) -> None:
    with pytest.raises(Invalid) as refusal:
        read_context(text, field="items[0].context_json")

    assert refusal.value.reason == reason
    assert [violation.field for violation in refusal.value.violations] == ["items[0].context_json"]


def test_a_context_may_be_as_large_and_as_deep_as_the_limits_say() -> None:
    assert read_context('{"a": ' + "[" * 15 + "]" * 15 + "}")
    assert read_context('{"a": "' + "x" * ((16 << 10) - 9) + '"}')
