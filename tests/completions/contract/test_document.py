import gc
import math
import time
from collections.abc import Callable
from typing import Any

import pytest

from completions.contract import Contract, InputCheck, compare, contract_of, removed_last_user
from kit.errors import Invalid
from kit.json import Json

S: Json = {"type": "string"}


def obj(**properties: Json) -> dict[str, Json]:
    return {"type": "object", "properties": properties}


def arr(items: Json) -> dict[str, Json]:
    return {"type": "array", "items": items}


MALFORMED: list[tuple[str, Any, str, str]] = [
    ("type", {"type": "strin"}, "variables.x", "SCHEMA_MALFORMED"),
    ("type number", {"type": 3}, "variables.x", "SCHEMA_MALFORMED"),
    ("type empty", {"type": []}, "variables.x", "SCHEMA_MALFORMED"),
    ("type null", {"type": None}, "variables.x", "SCHEMA_MALFORMED"),
    ("type of dicts", {"type": [{}]}, "variables.x", "SCHEMA_MALFORMED"),
    ("properties", {"properties": []}, "variables.x", "SCHEMA_MALFORMED"),
    ("property", obj(a=3), "variables.x.a", "SCHEMA_MALFORMED"),
    ("property null", obj(a=None), "variables.x.a", "SCHEMA_MALFORMED"),
    ("items", arr("string"), "variables.x[]", "SCHEMA_MALFORMED"),
    ("prefixItems", {"prefixItems": {}}, "variables.x", "SCHEMA_MALFORMED"),
    ("anyOf", {"anyOf": {}}, "variables.x", "SCHEMA_MALFORMED"),
    ("anyOf empty", {"anyOf": []}, "variables.x", "SCHEMA_MALFORMED"),
    ("allOf member", {"allOf": [1]}, "variables.x", "SCHEMA_MALFORMED"),
    ("enum", {"enum": "a"}, "variables.x", "SCHEMA_MALFORMED"),
    ("required", {"required": True}, "variables.x", "SCHEMA_MALFORMED"),
    ("required names", {"required": [1]}, "variables.x", "SCHEMA_MALFORMED"),
    ("dynamic", {"$dynamicRef": "#x"}, "variables.x", "SCHEMA_MALFORMED"),
    ("nested id", {"$id": "https://example.org/x"}, "variables.x", "SCHEMA_MALFORMED"),
    ("ref no string", {"$ref": 7}, "variables.x", "SCHEMA_MALFORMED"),
    ("ref outside", {"$ref": "https://example.org/x.json"}, "variables.x", "SCHEMA_REFERENCE_EXTERNAL"),
    ("ref to a file", {"$ref": "file:///etc/passwd"}, "variables.x", "SCHEMA_REFERENCE_EXTERNAL"),
    ("ref relative", {"$ref": "other.json#/a"}, "variables.x", "SCHEMA_REFERENCE_EXTERNAL"),
    ("ref empty", {"$ref": ""}, "variables.x", "SCHEMA_REFERENCE_EXTERNAL"),
    ("ref anchor", {"$ref": "#name"}, "variables.x", "SCHEMA_REFERENCE_EXTERNAL"),
    ("ref in not", {"not": {"$ref": "https://example.org/x"}}, "variables.x", "SCHEMA_REFERENCE_EXTERNAL"),
    ("ref dangling", {"$ref": "#/$defs/none"}, "variables.x", "SCHEMA_REFERENCE_DANGLING"),
    ("ref into a list", {"$ref": "#/properties/x/enum/9", "enum": []}, "variables.x", "SCHEMA_REFERENCE_DANGLING"),
    ("ref to no schema", {"$ref": "#/properties/x/title", "title": "t"}, "variables.x", "SCHEMA_REFERENCE_DANGLING"),
    ("ref to itself", {"$ref": "#/properties/x"}, "variables", "SCHEMA_MALFORMED"),
    ("ref to itself in a union", {"anyOf": [S, {"$ref": "#/properties/x"}]}, "variables", "SCHEMA_MALFORMED"),
]


@pytest.mark.parametrize(("schema", "path", "reason"), [r[1:] for r in MALFORMED], ids=[r[0] for r in MALFORMED])
def test_a_malformed_schema_is_refused_with_its_place(schema: Json, path: str, reason: str) -> None:
    for held, offered in ((Contract(), Contract(obj(x=schema))), (Contract(obj(x=schema)), Contract())):
        with pytest.raises(Invalid) as refusal:
            compare(held, offered)

        assert refusal.value.reason == reason
        assert refusal.value.violations[0].field == path
        assert str(refusal.value).startswith(f"{path} ")


@pytest.mark.parametrize("schema", [S, arr(S), {"type": "null"}, {"allOf": [obj(), S]}, {"const": 3}])
def test_variables_that_are_no_object_are_refused(schema: dict[str, Json]) -> None:
    with pytest.raises(Invalid) as refusal:
        compare(Contract(schema), Contract())

    assert (refusal.value.reason, refusal.value.violations[0].field) == ("SCHEMA_MALFORMED", "variables")


def nested(levels: int, around: Callable[[Any], Any]) -> Any:
    schema: Any = S
    for _ in range(levels):
        schema = around(schema)
    return schema


def doubling(levels: int) -> dict[str, Json]:
    """A small document that unfolds to two to the `levels` schemas."""
    definitions: dict[str, Json] = {
        f"d{i}": obj(a={"$ref": f"#/$defs/d{i + 1}"}, b={"$ref": f"#/$defs/d{i + 1}"}) for i in range(levels)
    }
    return {**obj(x={"$ref": "#/$defs/d0"}), "$defs": {**definitions, f"d{levels}": S}}


def unions(levels: int) -> dict[str, Json]:
    branches: dict[str, Json] = {
        f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}, {"$ref": f"#/$defs/d{i + 1}"}]} for i in range(levels)
    }
    return {**obj(x={"$ref": "#/$defs/d0"}), "$defs": {**branches, f"d{levels}": S}}


def unions_of_objects(levels: int) -> dict[str, Json]:
    branches: dict[str, Json] = {
        f"d{i}": {"anyOf": [obj(a={"$ref": f"#/$defs/d{i + 1}"}), obj(b={"$ref": f"#/$defs/d{i + 1}"})]}
        for i in range(levels)
    }
    return {**obj(x={"$ref": "#/$defs/d0"}), "$defs": {**branches, f"d{levels}": S}}


def chain(links: int) -> dict[str, Json]:
    definitions: dict[str, Json] = {f"d{i}": {"$ref": f"#/$defs/d{(i + 1) % links}"} for i in range(links)}
    return {**obj(x={"$ref": "#/$defs/d0"}), "$defs": definitions}


def list_of_nodes(links: int) -> dict[str, Json]:
    definitions: dict[str, Json] = {f"d{i}": obj(n={"$ref": f"#/$defs/d{(i + 1) % links}"}) for i in range(links)}
    return {**obj(x={"$ref": "#/$defs/d0"}), "$defs": definitions}


HOSTILE: list[tuple[str, Any]] = [
    ("10,000 deep properties", nested(10_000, lambda s: obj(a=s))),
    ("10,000 deep items", obj(x=nested(10_000, arr))),
    ("10,000 deep unions", obj(x=nested(10_000, lambda s: {"anyOf": [s]}))),
    ("100 deep properties", nested(100, lambda s: obj(a=s))),
    ("100 deep unions", obj(x=nested(100, lambda s: {"anyOf": [s, {"type": "null"}]}))),
    ("40 deep unions of objects", unions_of_objects(40)),
    ("chain of references to itself", chain(10_000)),
    ("short chain of references to itself", chain(60)),
    ("doubling references", doubling(40)),
    ("doubling unions", unions(40)),
    ("22 doubling unions", unions(22)),
    ("long recursive list", list_of_nodes(1_500)),
    ("1 MB of enum", obj(x={"enum": [f"value {i}" for i in range(65_000)]})),
    ("15,000 values of an enum", obj(x={"enum": [f"value {i}" for i in range(15_000)]})),
    ("too large", obj(x={"enum": ["x" * 1_100_000]})),
    ("500 types of object", obj(x={"anyOf": [obj(**{f"p{i}": S}) for i in range(500)]})),
    ("200 types of object", obj(x={"anyOf": [obj(**{f"p{i}": S}) for i in range(200)]})),
    ("200 alike objects", obj(x={"anyOf": [obj(a={"const": i}, b=arr(obj(c={"const": i}))) for i in range(200)]})),
    (
        "200 objects that differ far below",
        obj(x={"anyOf": [obj(a=obj(b=obj(c=obj(**{f"p{i}": S})))) for i in range(200)]}),
    ),
    ("product of unions", obj(x={"allOf": [{"anyOf": [obj(**{f"p{i}{j}": S}) for i in range(30)]} for j in range(9)]})),
    ("10,000 properties", obj(**{f"p{i}": S for i in range(10_000)})),
    ("7,900 properties that are anything", obj(**{f"p{i}": True for i in range(7_900)})),
    ("3,900 properties", obj(**{f"p{i}": S for i in range(3_900)})),
    ("100,000 required", {**obj(x=S), "required": [f"p{i}" for i in range(100_000)]}),
    ("name of 1 MB", obj(**{"x" * 1_000_000: S})),
    ("lone surrogate as a name", obj(**{"\ud800": S})),
    ("lone surrogate in an enum", obj(x={"enum": ["\ud800"]})),
    ("lone surrogate in a reference", obj(x={"$ref": "#/\ud800"})),
    ("NUL as a name", obj(**{"\0": S})),
    ("NaN", obj(x={"enum": [math.nan, math.inf]})),
    ("integer beyond 64 bits", obj(x={"const": 1 << 70})),
    ("large double", obj(x={"const": 1e308})),
    ("name that is no text", {"properties": {1: S}}),
    ("bad escape", obj(x={"$ref": "#/%zz~2"})),
    ("bad percent escape", obj(x={"$ref": "#/%ff%fe"})),
    ("huge index", {"$ref": "#/allOf/" + "9" * 5_000, "allOf": [S]}),
    ("no JSON", obj(x=object())),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("schema", [row[1] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
def test_a_hostile_schema_is_compared_or_refused_at_once(schema: Any) -> None:
    hostile, harmless = Contract(schema), Contract(obj(x=S))
    for held, offered in ((harmless, hostile), (hostile, harmless), (hostile, hostile), (hostile, Contract())):
        # A process that serves collects rarely (kit.runtime); this one has the objects of thousands of tests.
        gc.collect()
        gc.disable()
        started = time.process_time()
        try:
            found = compare(held, offered)
            for one in found.differences + found.warnings:
                one.sentence.encode()
                assert len(one.sentence) < 12_000
        except Invalid as refusal:
            assert refusal.reason.startswith("SCHEMA_")  # noqa: PT017
            str(refusal).encode()
        finally:
            seconds = time.process_time() - started
            gc.enable()
        # 50 ms is the goal; the rest is for a shared core.
        assert seconds < 0.25


@pytest.mark.parametrize("schema", [row[1] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
def test_a_hostile_schema_is_no_bug_anywhere_else(schema: Any) -> None:
    hostile = Contract(schema)
    for attempt in (
        lambda: removed_last_user(hostile, Contract()),
        lambda: contract_of({"a": hostile}),
        lambda: contract_of({"a": hostile, "b": Contract(obj(y=S))}),
        lambda: InputCheck().prepare(hostile),
        lambda: InputCheck().check(hostile, {"x": 1}),
    ):
        started = time.process_time()
        try:
            attempt()
        except Invalid as refusal:
            str(refusal).encode()
        assert time.process_time() - started < 1
