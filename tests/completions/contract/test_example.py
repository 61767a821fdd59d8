from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from completions.contract import Contract, InputCheck, example_of
from kit.json import dump

OBJECT = {"type": "object"}
SCHEMAS: dict[str, tuple[dict[str, Any], Any]] = {
    "of unknown type": ({}, "x"),
    "string": ({"type": "string"}, "x"),
    "integer": ({"type": "integer"}, 1),
    "number": ({"type": "number"}, 1.5),
    "boolean": ({"type": "boolean"}, True),
    "null": ({"type": "null"}, None),
    "nullable": ({"type": ["null", "integer"]}, 1),
    "optional": ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, 1),
    "enum": ({"enum": ["b", "a"]}, "b"),
    "const": ({"const": 7}, 7),
    "default": ({"type": "string", "default": "fr"}, "fr"),
    "examples": ({"type": "string", "examples": ["Paris", "Rome"]}, "Paris"),
    "list": ({"type": "array", "items": {"type": "integer"}}, [1]),
    "object": ({"properties": {"city": {}, "days": {"type": "integer"}}}, {"city": "city", "days": 1}),
    "at least": ({"type": "integer", "minimum": 3}, 3),
    "more than": ({"type": "integer", "exclusiveMinimum": 3}, 4),
    "more than a fraction": ({"type": "integer", "exclusiveMinimum": 3.5}, 4),
    "at most": ({"type": "integer", "maximum": -2}, -2),
    "less than": ({"type": "number", "exclusiveMaximum": 0}, -1),
    "between": ({"type": "number", "exclusiveMinimum": 2, "exclusiveMaximum": 3}, 2.5),
    "multiple": ({"type": "integer", "multipleOf": 7, "minimum": 8}, 14),
    "multiple of a tenth": ({"type": "number", "multipleOf": 0.1, "exclusiveMinimum": 2}, 2.1),
    "number without a type": ({"minimum": 8}, 8),
    "long": ({"type": "string", "minLength": 4}, "xxxx"),
    "short": ({"type": "string", "maxLength": 0}, ""),
    "several": ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [1, 1]),
    "several different": (
        {"type": "array", "items": {"type": "integer"}, "minItems": 3, "uniqueItems": True},
        [1, 2, 3],
    ),
    "different texts": ({"type": "array", "items": {"maxLength": 2}, "minItems": 2, "uniqueItems": True}, ["x", "x2"]),
    "different constants": ({"items": {"enum": ["b", "a"]}, "minItems": 2, "uniqueItems": True}, ["b", "a"]),
    "different limited numbers": (
        {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 1}, "minItems": 2, "uniqueItems": True},
        [1, 0],
    ),
    "none": ({"type": "array", "maxItems": 0}, []),
    "tuple": ({"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}]}, ["x", 1]),
    "required without a property": ({"type": "object", "required": ["city"]}, {"city": "city"}),
    "required of a type": (
        {"type": "object", "required": ["a"], "additionalProperties": {"type": "integer"}},
        {"a": 1},
    ),
    "some members": (
        {"type": "object", "minProperties": 2, "properties": {"a": {}}},
        {"a": "a", "member_1": "member_1"},
    ),
    "few members": (
        {"type": "object", "maxProperties": 1, "properties": {"a": {}, "b": {}}, "required": ["b"]},
        {"b": "b"},
    ),
    "all of": (
        {"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}}, {"required": ["a", "b"]}]},
        {"a": 1, "b": "b"},
    ),
    "limits of all": ({"allOf": [{"type": "integer", "minimum": 2}, {"minimum": 5}], "minimum": 3}, 5),
    "one with limits beside": ({"anyOf": [{"type": "null"}, {"type": "integer"}], "minimum": 3}, 3),
    "referred": ({"$ref": "#/$defs/A~1B"}, {"n": 1}),
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_an_example_has_a_value_for_each_variable_and_keeps_to_the_contract(name: str) -> None:
    schema, value = SCHEMAS[name]
    definitions: Any = {"A/B": {"type": "object", "properties": {"n": {"type": "integer"}}}}
    contract = Contract({"type": "object", "properties": {"x": schema}, "required": ["x"], "$defs": definitions})

    found = example_of(contract)

    assert found.variables == {"x": value}
    assert not found.violations
    InputCheck().check(contract, found.variables)


def test_a_schema_without_end_has_an_example_with_one() -> None:
    node = {"type": "object", "properties": {"name": {"type": "string"}, "next": {"$ref": "#/$defs/node"}}}

    variables: Any = {"type": "object", "properties": {"x": {"$ref": "#/$defs/node"}}, "$defs": {"node": node}}
    found = example_of(Contract(variables))

    assert isinstance(found.variables["x"], dict)
    assert found.variables["x"]["name"] == "name"
    assert not found.violations


@pytest.mark.parametrize(
    ("schema", "asked"),
    [
        ({"type": "string", "pattern": "^[A-Z]{3}$"}, "must match ^[A-Z]{3}$"),
        ({"type": "string", "not": {"const": "x"}}, "must keep to the contract's not"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "must be at least 3"),
    ],
)
def test_what_an_example_cannot_keep_to_is_told(schema: Any, asked: str) -> None:
    found = example_of(Contract({"type": "object", "properties": {"x": schema, "y": {"type": "integer"}}}))

    assert found.variables["y"] == 1
    assert [(each.field, each.message) for each in found.violations] == [("variables.x", asked)]


NUMBERS = st.integers(-20, 20) | st.sampled_from([-2.5, 0.5, 3.25, 1e6])
COUNTS = st.integers(0, 6)
LIMITED: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.builds(
            lambda kind, low, room, keyword: {"type": kind, "minimum": low, keyword: low + room},
            st.sampled_from(["integer", "number"]),
            NUMBERS,
            st.integers(2, 9),
            st.sampled_from(["maximum", "exclusiveMaximum"]),
        ),
        st.builds(
            lambda kind, keyword, limit, step: {"type": kind, keyword: limit, "multipleOf": step},
            st.sampled_from(["integer", "number"]),
            st.sampled_from(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]),
            NUMBERS,
            st.sampled_from([1, 3, 0.5, 0.25]),
        ),
        st.builds(lambda low, room: {"type": "string", "minLength": low, "maxLength": low + room}, COUNTS, COUNTS),
        st.just({"type": "boolean"}),
    ),
    lambda inner: st.one_of(
        st.builds(lambda items, low: {"type": "array", "items": items, "minItems": low}, inner, COUNTS),
        st.builds(
            lambda properties, required, low, others: {
                "type": "object",
                "properties": properties,
                "required": required,
                "minProperties": low,
                "additionalProperties": others,
            },
            st.dictionaries(st.sampled_from("abc"), inner),
            st.lists(st.sampled_from("abcd"), unique=True),
            COUNTS,
            inner,
        ),
        st.builds(lambda one: {"anyOf": [{"type": "null"}, one]}, inner),
        st.builds(lambda one: {"allOf": [one, {"title": "t"}]}, inner),
    ),
    max_leaves=4,
)


@given(LIMITED)
def test_an_example_keeps_to_all_ranges_lengths_and_counts(schema: Any) -> None:
    contract = Contract({"type": "object", "properties": {"x": schema}, "required": ["x"]})

    found = example_of(contract)

    assert not found.violations
    InputCheck().check(contract, found.variables)


@pytest.mark.parametrize("variables", [None, {}])
def test_without_variables_there_is_nothing_to_send(variables: Any) -> None:
    assert example_of(Contract(variables)).variables == {}


def test_a_small_schema_of_an_enormous_document_has_a_small_example() -> None:
    levels: dict[str, Any] = {
        f"l{level}": {"type": "object", "properties": {f"p{n}": {"$ref": f"#/$defs/l{level + 1}"} for n in range(100)}}
        for level in range(5)
    }
    levels["l5"] = {"type": "string"}
    # By itself already 100 million values.
    variables: Any = {"type": "object", "properties": {"x": {"$ref": "#/$defs/l0"}, "y": {}}, "$defs": levels}

    found = example_of(Contract(variables)).variables

    assert "p0" in found["x"]  # type: ignore[operator]  # it is an object
    assert len(dump(found)) < 64_000


def test_what_a_schema_gives_itself_is_taken_as_often_as_there_is_room_only() -> None:
    given: Any = {"default": "x" * 30_000}
    shared: Any = {"$ref": "#/$defs/large"}
    variables: Any = {
        "type": "object",
        "properties": {**{f"p{n}": shared for n in range(50)}, "last": {"type": "integer"}},
        "$defs": {"large": given},
    }

    found = example_of(Contract(variables)).variables

    assert found["p0"] == given["default"]
    assert found["last"] == 1
    assert len(dump(found)) < 70_000
