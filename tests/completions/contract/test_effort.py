from typing import Any

import jsonschema_rs
from hypothesis import given, settings
from hypothesis import strategies as st

from completions.contract import Contract, InputCheck
from completions.contract.document import Document
from completions.contract.effort import ENDLESS, Effort
from kit.errors import Invalid
from tests.completions.contract.test_properties import DOCUMENTS, NAMES

S: Any = {"type": "string"}


def effort(schema: Any) -> Effort:
    return Effort(schema, Document(schema, "variables"))


def test_a_schema_costs_at_each_depth_what_stands_there() -> None:
    found = effort({"type": "object", "properties": {"a": {"items": {"anyOf": [S, S, S]}}, "b": S}})

    assert [found.at(depth).value for depth in range(5)] == [1, 1, 4, 0, 0]
    assert [found.most(depth).value for depth in range(5)] == [1, 1, 4, 4, 4]


def test_what_may_be_a_list_or_an_object_doubles_nothing() -> None:
    node = {"anyOf": [{"items": {"$ref": "#"}}, {"additionalProperties": {"$ref": "#"}}, S]}

    assert effort(node).most(60).value < 10


def test_two_lists_double_with_each_level() -> None:
    node: Any = {"anyOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}]}

    assert effort(node).most(10).value >= 1 << 10
    assert effort(node).most(60).value == ENDLESS


def test_what_leads_back_to_itself_beside_the_value_is_endless() -> None:
    assert effort({"not": {"$ref": "#"}}).most(0).value == ENDLESS


def test_the_count_does_not_depend_on_what_was_asked_before() -> None:
    schema: Any = {
        "$defs": {
            f"n{index}": {
                "properties": {f"p{name}": {"$ref": f"#/$defs/n{(7 * index + name) % 50}"} for name in range(9)}
            }
            for index in range(50)
        },
        "$ref": "#/$defs/n0",
    }
    upwards, downwards = effort(schema), effort(schema)
    depths = range(0, 64, 7)

    assert [upwards.most(depth).value for depth in depths] == [
        downwards.most(depth).value for depth in reversed(depths)
    ][::-1]


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(["a", "ab", 1, 2.5, True, None]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200)
@given(DOCUMENTS, st.dictionaries(NAMES, VALUES, max_size=3))
def test_a_small_call_is_always_judged_and_as_the_library_does(schema: Any, variables: Any) -> None:
    try:
        InputCheck().prepare(Contract(schema))
    except Invalid as refusal:
        assert refusal.reason.startswith("SCHEMA_")  # noqa: PT017
        return
    known = {name: value for name, value in variables.items() if name in schema["properties"]}

    try:
        InputCheck().check(Contract(schema), known)
    except Invalid as refusal:
        assert refusal.reason == "VARIABLES_INVALID"  # noqa: PT017
        is_valid = False
    else:
        is_valid = True

    assert is_valid == jsonschema_rs.Draft202012Validator(schema).is_valid(known)
