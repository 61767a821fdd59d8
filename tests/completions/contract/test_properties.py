"""What holds of every pair of schemas."""

import copy
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from completions.contract import (
    Comparison,
    Contract,
    InputCheck,
    Kind,
    Verdict,
    compare,
    contract_of,
    example_of,
    moved,
    removed_last_user,
    requiring,
)
from kit.errors import Invalid
from kit.json import Json

NAMES = st.sampled_from(["a", "b", "c"])
LEAVES: st.SearchStrategy[Any] = st.sampled_from(
    [
        {"type": "string"},
        {"type": "integer"},
        {"type": "number"},
        {"type": "boolean"},
        {"type": "null"},
        {"type": ["string", "null"]},
        {"enum": ["a", 1]},
        {"const": {"a": 1}},
        {},
        True,
        False,
        {"$ref": "#/$defs/a"},
        {"$ref": "#/$defs/b"},
        {"$ref": "#"},
        {"type": "string", "minLength": 2},
        {"type": "number", "minimum": 1, "maximum": 2},
    ]
)


def within(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        st.dictionaries(NAMES, inner, max_size=3).map(lambda members: {"type": "object", "properties": members}),
        st.builds(
            lambda members, required: {"type": "object", "properties": members, "required": required},
            st.dictionaries(NAMES, inner, max_size=3),
            st.lists(NAMES, unique=True),
        ),
        inner.map(lambda items: {"type": "array", "items": items}),
        some.map(lambda branches: {"anyOf": branches}),
        some.map(lambda branches: {"oneOf": branches}),
        some.map(lambda branches: {"allOf": branches}),
        some.map(lambda items: {"type": "array", "prefixItems": items}),
        inner.map(lambda values: {"type": "object", "additionalProperties": values}),
    )


SCHEMAS: st.SearchStrategy[Any] = st.recursive(LEAVES, within, max_leaves=8)
DOCUMENTS: st.SearchStrategy[Any] = st.builds(
    lambda members, a, b: {"type": "object", "properties": members, "$defs": {"a": a, "b": b}},
    st.dictionaries(NAMES, SCHEMAS, max_size=3),
    SCHEMAS,
    SCHEMAS,
)


def compared(held: Any, offered: Any) -> Comparison | None:
    """None where a schema is refused, as one that refers to itself without end is."""
    try:
        return compare(Contract(held), Contract(offered))
    except Invalid as refusal:
        assert refusal.reason.startswith("SCHEMA_")  # noqa: PT017
        return None


def every_schema(schema: Any, change: Any) -> Any:
    """`schema` with `change` applied to each schema in it, the innermost first."""
    if not isinstance(schema, dict):
        return change(schema)
    changed = dict(schema)
    for keyword in ("properties", "$defs"):
        if keyword in changed:
            changed[keyword] = {name: every_schema(part, change) for name, part in changed[keyword].items()}
    for keyword in ("anyOf", "oneOf", "allOf", "prefixItems"):
        if keyword in changed:
            changed[keyword] = [every_schema(part, change) for part in changed[keyword]]
    for keyword in ("items", "additionalProperties"):
        if keyword in changed:
            changed[keyword] = every_schema(changed[keyword], change)
    return change(changed)


def is_same(found: Comparison, schema: Any) -> bool:
    """No difference, and no warning but of what is unknown.

    Of unions only the former: which of several alike alternatives belong together may not be seen.
    """
    kinds = {one.kind for one in found.warnings}
    return not found.differences and ("Of" in json.dumps(schema) or kinds <= {Kind.TYPE_UNKNOWN})


@settings(max_examples=150)
@given(DOCUMENTS)
def test_a_schema_does_not_differ_from_itself(schema: Any) -> None:
    found = compared(schema, copy.deepcopy(schema))

    assert found is None or is_same(found, schema)


@settings(max_examples=150)
@given(DOCUMENTS)
def test_equal_schemas_have_nothing_to_tell(schema: Any) -> None:
    found = compared(schema, copy.deepcopy(schema))

    assert found is None or found.verdict is Verdict.EQUAL


LIMITS: st.SearchStrategy[dict[str, Json]] = st.sampled_from(
    [
        {"minimum": 3},
        {"exclusiveMaximum": 3},
        {"multipleOf": 3},
        {"maxLength": 3},
        {"pattern": "^a"},
        {"maxItems": 3},
        {"uniqueItems": True},
        {"minProperties": 1},
        {"propertyNames": {"maxLength": 3}},
        {"additionalProperties": False},
        {"not": {"const": "a"}},
    ]
)


@settings(max_examples=150)
@given(DOCUMENTS, LIMITS)
def test_limits_anywhere_are_worth_a_warning_and_no_difference(schema: Any, limits: dict[str, Json]) -> None:
    limited = every_schema(schema, lambda one: {**one, **limits} if isinstance(one, dict) and "type" in one else one)

    found, back = compared(schema, limited), compared(limited, schema)

    assert (found is None) is (back is None)
    if found is not None and back is not None and "Of" not in json.dumps(schema):
        assert not found.differences
        assert not back.differences
        told = {one.path for one in found.warnings if one.kind is Kind.LIMIT_CHANGED}
        assert told == {one.path for one in back.warnings if one.kind is Kind.LIMIT_CHANGED}
        if limits.keys() & {"minProperties", "propertyNames", "not"}:
            assert "variables" in told


@settings(max_examples=200)
@given(DOCUMENTS, DOCUMENTS)
def test_a_difference_is_one_from_both_sides(one: Any, other: Any) -> None:
    there, back = compared(one, other), compared(other, one)

    assert (there is None) is (back is None)
    if there is not None and back is not None:
        assert bool(there.differences) is bool(back.differences)


NOTES: st.SearchStrategy[dict[str, Json]] = st.fixed_dictionaries(
    {},
    optional={
        "title": st.text(max_size=3),
        "description": st.text(max_size=3),
        "examples": st.just(["e"]),
        "default": st.sampled_from([1, None, "d"]),
        "format": st.just("date"),
    },
)


@settings(max_examples=150)
@given(DOCUMENTS, st.data())
def test_notes_anywhere_never_make_a_difference(schema: Any, data: st.DataObject) -> None:
    noted = every_schema(schema, lambda one: {**one, **data.draw(NOTES)} if isinstance(one, dict) else one)

    found = compared(schema, noted)

    assert (found is None) is (compared(schema, schema) is None)
    assert found is None or is_same(found, schema)


@settings(max_examples=150)
@given(DOCUMENTS, st.sampled_from(["anyOf", "oneOf"]))
def test_what_may_be_null_is_the_same(schema: Any, union: str) -> None:
    nullable = every_schema(schema, lambda one: {union: [one, {"type": "null"}]} if one is not False else one)
    nullable["$defs"] = nullable.pop("$defs") if "$defs" in nullable else {}
    document = {**schema, "properties": nullable[union][0]["properties"], "$defs": nullable[union][0]["$defs"]}

    found = compared(schema, document)

    # allOf over unions of null only widens what fits nothing; recursion stays as it is.
    if found is not None and "allOf" not in str(schema):
        assert is_same(found, schema)


@settings(max_examples=150)
@given(DOCUMENTS, st.randoms(use_true_random=False))
def test_the_order_of_a_union_is_nothing(schema: Any, random: Any) -> None:
    def permuted(one: Any) -> Any:
        if not isinstance(one, dict):
            return one
        return {
            keyword: random.sample(value, len(value))
            if keyword in ("anyOf", "oneOf", "allOf", "type", "enum") and isinstance(value, list)
            else value
            for keyword, value in one.items()
        }

    found = compared(schema, every_schema(schema, permuted))

    assert found is None or is_same(found, schema)


@settings(max_examples=150)
@given(DOCUMENTS)
def test_a_reference_is_what_it_refers_to(schema: Any) -> None:
    def inlined(one: Any) -> Any:
        if isinstance(one, dict) and one.get("$ref") in ("#/$defs/a", "#/$defs/b"):
            return copy.deepcopy(schema["$defs"][one["$ref"][-1]])
        return one

    found = compared(schema, every_schema(schema, inlined))

    assert found is None or is_same(found, schema)


@settings(max_examples=100)
@given(DOCUMENTS, DOCUMENTS)
def test_a_union_of_contracts_covers_both(one: Any, other: Any) -> None:
    try:
        whole = contract_of({"one": Contract(one), "other": Contract(other)})
    except Invalid as refusal:
        assert refusal.reason in ("CONTRACT_CONFLICT", "SCHEMA_MALFORMED", "SCHEMA_TOO_LARGE")  # noqa: PT017
        return
    found = compared(whole.variables, one)

    assert found is not None
    assert {difference.kind for difference in found.differences} <= {Kind.PROPERTY_REMOVED}


@settings(max_examples=150)
@given(DOCUMENTS)
def test_an_example_says_itself_whether_it_keeps_to_its_schema(schema: Any) -> None:
    try:
        found = example_of(Contract(schema))
    except Invalid as refusal:
        assert refusal.reason.startswith("SCHEMA_")  # noqa: PT017
        return
    try:
        InputCheck().check(Contract(schema), found.variables)
    except Invalid as refusal:
        assert list(found.violations) == list(refusal.violations)  # noqa: PT017
    else:
        assert not found.violations


JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=2)
    | st.sampled_from(
        ["object", "array", "string", "#", "#/$defs/a", "#/properties/a", "https://example.org", "\ud800"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "properties",
                    "items",
                    "$ref",
                    "$defs",
                    "anyOf",
                    "oneOf",
                    "allOf",
                    "a",
                    "enum",
                    "const",
                    "additionalProperties",
                    "prefixItems",
                    "required",
                    "patternProperties",
                    "not",
                    "$id",
                    "�",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@settings(max_examples=250)
@given(JUNK, JUNK, st.none() | JUNK)
def test_no_json_whatever_raises_anything_but_invalid(one: Any, other: Any, response_format: Any) -> None:
    for attempt in (
        lambda: compare(Contract(one), Contract(other)),
        lambda: compare(Contract(None, response_format), Contract(one)),
        lambda: compare(Contract(None, answer(one)), Contract(None, answer(other))),
        lambda: compare(Contract({"properties": {"a": one}}), Contract({"properties": {"a": other}})),
        lambda: contract_of({"one": Contract({"properties": {"a": one}}), "other": Contract({"type": "object"})}),
        lambda: removed_last_user(Contract(one), Contract(other)),
        lambda: requiring(Contract({"properties": {"a": one}}), Contract({"properties": {"a": other}})),
        lambda: moved(Contract({"properties": {"a": one}}), Contract({"properties": {"a": other}}), max_bytes=4096),
        lambda: moved(Contract(None, answer(one)), Contract(None, answer(other))),
        lambda: example_of(Contract({"properties": {"a": one}})),
        lambda: InputCheck().missing(Contract({"properties": {"a": one}}), {"a": other}),
        lambda: InputCheck().check(Contract({"properties": {"a": one}}), {"a": other}),
    ):
        try:
            attempt()
        except Invalid as refusal:
            str(refusal).encode()
            assert refusal.violations  # noqa: PT017


def answer(schema: Any) -> dict[str, Json]:
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}


def test_the_strategies_reach_what_they_are_for() -> None:
    schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"type": "string"}}}

    found = compared(
        schema, every_schema(schema, lambda one: {"type": "integer"} if one == {"type": "string"} else one)
    )

    assert found is not None
    assert found.verdict is Verdict.DIFFERENT
