from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.providers.anthropic_schema import native_schema


def an_object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def test_objects_are_closed_and_limits_are_told() -> None:
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "age": {"type": "integer", "minimum": 0, "description": "In years."},
            "mail": {"type": "string", "format": "email"},
            "phone": {"type": "string", "format": "phone", "maxLength": 20},
            "home": {"$ref": "#/$defs/place"},
            "tags": {"type": "array", "items": {"oneOf": [{"type": "string"}, {"type": "null"}]}, "minItems": 2},
        },
        "required": ["age"],
        "$defs": {"place": an_object(city={"type": "string", "enum": ["Paris"]})},
    }
    assert native_schema(schema) == {
        "type": "object",
        "properties": {
            "age": {"type": "integer", "description": 'In years.\n{"minimum":0}'},
            "mail": {"type": "string", "format": "email"},
            "phone": {"type": "string", "description": '{"format":"phone","maxLength":20}'},
            "home": {"$ref": "#/$defs/place"},
            "tags": {
                "type": "array",
                "items": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "description": '{"minItems":2}',
            },
        },
        "required": ["age"],
        "$defs": {"place": an_object(city={"type": "string", "enum": ["Paris"]}) | {"additionalProperties": False}},
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    "schema",
    [
        None,
        True,
        {"type": "array", "items": {"type": "string"}},
        {"type": "object"},
        an_object(a={"type": "object"}),
        an_object(a={"type": "object", "additionalProperties": {"type": "string"}}),
        an_object(a=True),
        an_object(a={"if": {}, "then": {}}),
        an_object(a={"allOf": [{"type": "string"}]}),
        an_object(a={"$ref": "https://example.com/a.json"}),
        an_object(a={"$ref": "#/$defs/missing"}),
        an_object(a={"anyOf": "string"}),
        {"type": "object", "properties": []},
        {**an_object(a={"$ref": "#/$defs/node"}), "$defs": {"node": an_object(next={"$ref": "#/$defs/node"})}},
        {**an_object(a={"$ref": "#"})},
    ],
)
def test_what_the_dialect_cannot_say_has_no_native_schema(schema: Any) -> None:
    assert native_schema(schema) is None


values = st.recursive(
    st.none() | st.integers(-3, 3) | st.sampled_from(["", "a", "Paris"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
leaves = st.sampled_from([{"type": "string"}, {"type": ["integer", "null"]}, {"enum": ["a", 1]}, {"const": None}])
schemas = st.recursive(
    leaves,
    lambda inner: (
        st.builds(lambda p: an_object(**p), st.dictionaries(st.sampled_from("abc"), inner, max_size=3))
        | st.builds(lambda items: {"type": "array", "items": items}, inner)
        | st.builds(lambda either: {"anyOf": either}, st.lists(inner, min_size=1, max_size=2))
    ),
    max_leaves=6,
).map(lambda inner: an_object(a=inner))


@given(schemas, values)
def test_an_answer_that_keeps_to_the_native_schema_keeps_to_the_given_one(schema: Any, value: Any) -> None:
    native = native_schema(schema)
    assert native is not None
    for answer in (value, {"a": value}):
        if jsonschema_rs.is_valid(native, answer):
            assert jsonschema_rs.is_valid(schema, answer)
