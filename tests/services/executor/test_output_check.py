"""Structured output: what is wrong with an answer, found in bounded time whatever the schema and the answer are."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.errors import Invalid
from kit.json import Json
from services.executor.output_check import OutputCheck, OutputChecks, feedback

TRIP: dict[str, Json] = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "array", "items": {"$ref": "#/$defs/day"}, "maxItems": 40},
        "mood": {"enum": ["calm", "wild"]},
    },
    "required": ["city"],
    "additionalProperties": False,
    "$defs": {"day": {"type": "object", "properties": {"price": {"type": ["number", "null"]}}, "required": ["price"]}},
}


def form(schema: Json) -> dict[str, Json]:
    return {"type": "json_schema", "json_schema": {"name": "trip", "schema": schema}}


def check(schema: Json) -> OutputCheck:
    made = OutputChecks().of(form(schema))
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("answer", "violations"),
    [
        ('{"city": "Lisbon", "days": [{"price": 1.5}, {"price": null}], "mood": "calm"}', ()),
        ('  {"city": "Lisbon"}\n', ()),
        ('{"city": 1}', ("answer.city must be a string",)),
        ("{}", ("answer.city is required",)),
        ("[]", ("answer must be an object",)),
        ('{"city": "a", "days": [{"price": 1}, {}]}', ("answer.days[1].price is required",)),
        ('{"city": "a", "days": [{"price": "1"}]}', ("answer.days[0].price must be a number or null",)),
        ('{"city": "a", "country": "b"}', ("answer.country is no member that the schema allows",)),
        ('{"city": "a", "mood": "sad"}', ('answer.mood must be one of "calm", "wild"',)),
        ('{"city": 1, "mood": 2}', ("answer.city must be a string", 'answer.mood must be one of "calm", "wild"')),
        ("", ("answer must be JSON and nothing else",)),
        ("I would go to Lisbon.", ("answer must be JSON and nothing else",)),
        ('```json\n{"city": "Lisbon"}\n```', ("answer must be JSON and nothing else",)),
        ('{"city": "Lisb', ("answer must be JSON and nothing else",)),
        ('{"city": NaN}', ("answer must be JSON and nothing else",)),
        ("[" * 100 + "]" * 100, ("answer must be nested at most 64 levels deep",)),
        ('{"city": "\ud800"}', ("answer must be JSON and nothing else",)),
    ],
)
def test_what_is_wrong_is_said_with_its_place(answer: str, violations: tuple[str, ...]) -> None:
    assert sorted(check(TRIP).violations(answer)) == sorted(violations)


def test_no_more_than_32_violations_are_told() -> None:
    answer = orjson.dumps({"city": "a", "days": [{}] * 40}).decode()
    assert len(check(TRIP).violations(answer)) == 32


def test_text_is_not_checked_and_an_object_only_for_being_one() -> None:
    checks = OutputChecks()
    assert checks.of(None) is None
    assert checks.of({"type": "text"}) is None
    any_object = checks.of({"type": "json_object"})
    assert any_object is not None
    assert any_object.violations('{"a": [1]}') == ()
    assert any_object.violations("[1]") == ("answer must be an object",)


def test_a_format_without_a_schema_allows_any_json() -> None:
    made = OutputChecks().of({"type": "json_schema", "json_schema": {"name": "any"}})
    assert made is not None
    assert made.violations("[1]") == ()
    assert made.violations("one") == ("answer must be JSON and nothing else",)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"type": "xml"}, "RESPONSE_FORMAT_MALFORMED"),
        (form({"type": "strin"}), "SCHEMA_MALFORMED"),
        (form({"pattern": "("}), "SCHEMA_MALFORMED"),
        (form({"$ref": "https://example.com/schema"}), "SCHEMA_REFERENCE_EXTERNAL"),
        (form({"$ref": "#/$defs/none"}), "SCHEMA_REFERENCE_DANGLING"),
    ],
)
def test_what_is_no_schema_is_refused_with_its_place(given: dict[str, Json], reason: str) -> None:
    with pytest.raises(Invalid, match=r"^response_format") as refusal:
        OutputChecks().of(given)
    assert refusal.value.reason == reason


def test_checks_are_kept_by_their_schema_and_no_more_than_allowed() -> None:
    checks = OutputChecks(max_checks=2)
    first = checks.of(form({"type": "string"}))
    assert checks.of(form({"type": "string"})) is first
    for number in range(5):
        checks.of(form({"minLength": number}))
        assert checks.of(form({"type": "string"})) is first
    assert len(checks) == 2
    small = OutputChecks(max_bytes=200)
    for number in range(5):
        small.of(form({"const": "x" * 150 + str(number)}))
    assert len(small) == 1


def test_the_model_is_told_what_is_wrong_and_how_to_answer() -> None:
    told = feedback(("answer.city must be a string", "answer.mood is required"))
    assert "- answer.city must be a string\n- answer.mood is required\n" in told
    assert "JSON alone" in told
    assert len(feedback(["x" * 1000] * 32)) < 9000


def _chain(links: int, link: Callable[[Json], dict[str, Json]]) -> dict[str, Json]:
    """A schema whose every definition looks at the next one in `link`."""
    names: dict[str, Json] = {f"d{one}": link({"$ref": f"#/$defs/d{one + 1}"}) for one in range(links)}
    return {"$defs": names | {f"d{links}": {"type": "string"}}, "$ref": "#/$defs/d0"}


HOSTILE: dict[str, tuple[Any, Any]] = {
    "objects compared with thousands": (
        {"items": {"enum": [*({"a": one} for one in range(14_999)), 1]}},
        [1] * 200_000,
    ),
    "branches that double with each definition": (_chain(30, lambda ref: {"if": ref, "then": ref, "else": ref}), 1),
    "dependencies that double": (
        _chain(30, lambda ref: {"dependentSchemas": {"a": ref, "b": ref}}),
        {"a": 1, "b": 2},
    ),
    "a circle": ({"not": {"$ref": "#"}}, 1),
    "members looked at twice a level": (
        _chain(50, lambda ref: {"contains": ref, "items": ref}),
        orjson.loads("[" * 50 + '"x"' + "]" * 50),
    ),
    "a pattern that looks back": ({"pattern": "(?<=a)(.*)(.*)(.*)(.*)(.*)[^a]$"}, "a" * 1_000_000),
    "names held against thousands of patterns": (
        {"patternProperties": {f"^{one}.*": True for one in range(2000)}},
        {f"b{one}": 1 for one in range(50_000)},
    ),
    "unevaluated members of many branches": (
        {"allOf": [{"properties": {f"p{one}": True}} for one in range(900)], "unevaluatedProperties": False},
        {f"b{one}": 1 for one in range(50_000)},
    ),
    "large constants": ({"anyOf": [{"const": [0] * 10_000 + [one]} for one in range(20)]}, [0] * 10_000 + [-1]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_schema_holds_up_nobody(name: str) -> None:
    schema, answer = HOSTILE[name]
    tested, content = check(schema), orjson.dumps(answer).decode()
    begun = time.process_time()
    violations = tested.violations(content)
    assert time.process_time() - begun < 2.0
    assert len(violations) == 1


def test_large_answers_and_deep_trees_are_checked_where_their_schema_is_plain() -> None:
    tree: Json = {
        "$defs": {
            "tree": {
                "type": "object",
                "properties": {"left": {"$ref": "#/$defs/tree"}, "right": {"$ref": "#/$defs/tree"}},
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/tree",
    }
    deep: Json = {}
    for _ in range(60):
        deep = {"left": deep, "right": {}}
    assert check(tree).violations(orjson.dumps(deep).decode()) == ()
    assert check({"items": TRIP["properties"]}).violations(orjson.dumps([{"city": "a"}] * 20_000).decode()) == ()


SCHEMAS: st.SearchStrategy[Json] = st.recursive(
    st.sampled_from(
        [
            True,
            {"type": "string"},
            {"type": "integer", "minimum": 2},
            {"enum": ["a", 1, None]},
            {"pattern": "^a"},
            {"$ref": "#/$defs/x"},
        ]
    ),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"properties": st.dictionaries(st.sampled_from("ab"), inner, max_size=2)}),
        st.fixed_dictionaries({"items": inner}),
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"not": inner}),
        st.fixed_dictionaries({"if": inner, "then": inner, "else": inner}),
    ),
    max_leaves=8,
)
VALUES: st.SearchStrategy[Json] = st.recursive(
    st.sampled_from(["a", "b", 1, 3, None, True, 1.5]),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)),
    max_leaves=8,
)


@given(SCHEMAS, SCHEMAS, VALUES)
@settings(max_examples=300, deadline=None)
def test_it_agrees_with_the_library_on_ordinary_schemas(schema: Json, other: Json, value: Json) -> None:
    whole: dict[str, Json] = {"$defs": {"x": {"type": "object", "required": ["a"]}, "y": other}, "allOf": [schema]}
    violations = check(whole).violations(orjson.dumps(value).decode())
    assert (violations == ()) == jsonschema_rs.Draft202012Validator(whole).is_valid(value)
    assert all(one.startswith("answer") for one in violations)
