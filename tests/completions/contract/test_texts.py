"""Contracts of texts alone are checked without a validator: it must never say otherwise."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from completions.contract.inputs import inputs_of

NAMES = st.sampled_from("abc")
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.text("xyé\ud800", max_size=3), st.none(), st.integers(0, 2), st.just([]), st.just({})
)
PARTS: st.SearchStrategy[Any] = st.one_of(
    st.just({}),
    st.just({"type": "string"}),
    st.just({"type": "string", "title": "T", "format": "date", "default": 1}),
    st.just({"type": "integer"}),
    st.just({"type": ["string", "null"]}),
    st.just({"type": "string", "maxLength": 1}),
    st.just({"enum": ["x"]}),
    st.just(True),
)
SCHEMAS = st.fixed_dictionaries(
    {"properties": st.dictionaries(NAMES, PARTS)},
    optional={
        "type": st.just("object"),
        "required": st.lists(NAMES, unique=True),
        "additionalProperties": st.sampled_from([True, False, {"type": "integer"}]),
        "description": st.just("D"),
        "minProperties": st.just(2),
        "patternProperties": st.just({"a": {"maxLength": 1}}),
        "not": st.just({"required": ["a"]}),
    },
)


@given(SCHEMAS, st.dictionaries(st.sampled_from("abcd"), VALUES))
def test_what_passes_as_texts_is_valid(schema: dict[str, Any], variables: dict[str, Any]) -> None:
    compiled = inputs_of(schema)

    if compiled.are_texts(variables):
        assert compiled.known is not None
        assert compiled.validator.is_valid({name: variables[name] for name in variables if name in compiled.known})


@pytest.mark.parametrize(
    ("schema", "variables", "passes"),
    [
        ({"properties": {"a": {"type": "string"}}, "required": ["a"]}, {"a": "x"}, True),
        ({"properties": {"a": {}, "b": {}}, "required": ["a"]}, {"a": "x", "d": 1}, True),
        ({"properties": {"a": {}}, "additionalProperties": False}, {"d": 1}, True),
        ({"properties": {"a": {"type": "string"}}, "required": ["a"]}, {}, False),
        ({"properties": {"a": {}}}, {"a": 1}, False),
        ({"properties": {"a": {}}}, {"a": "é"}, False),
        ({"properties": {}, "required": ["a"], "additionalProperties": {"type": "integer"}}, {"a": "x"}, False),
    ],
)
def test_it_is_known_which_contracts_ask_for_texts(
    schema: dict[str, Any], variables: dict[str, Any], passes: bool
) -> None:
    assert inputs_of(schema).are_texts(variables) is passes
