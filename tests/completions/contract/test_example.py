from __future__ import annotations

from typing import Any

import pytest

from completions.contract import Contract, InputCheck, example_of

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
    "referred": ({"$ref": "#/$defs/A~1B"}, {"n": 1}),
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_an_example_has_a_value_for_each_variable_and_keeps_to_the_contract(name: str) -> None:
    schema, value = SCHEMAS[name]
    definitions: Any = {"A/B": {"type": "object", "properties": {"n": {"type": "integer"}}}}
    contract = Contract({"type": "object", "properties": {"x": schema}, "required": ["x"], "$defs": definitions})

    found = example_of(contract)

    assert found == {"x": value}
    InputCheck().check(contract, found)


def test_a_schema_without_end_has_an_example_with_one() -> None:
    node = {"type": "object", "properties": {"name": {"type": "string"}, "next": {"$ref": "#/$defs/node"}}}

    variables: Any = {"type": "object", "properties": {"x": {"$ref": "#/$defs/node"}}, "$defs": {"node": node}}
    found = example_of(Contract(variables))

    assert isinstance(found["x"], dict)
    assert found["x"]["name"] == "name"


@pytest.mark.parametrize("variables", [None, {}])
def test_without_variables_there_is_nothing_to_send(variables: Any) -> None:
    assert example_of(Contract(variables)) == {}
