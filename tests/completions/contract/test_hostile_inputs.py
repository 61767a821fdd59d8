"""Contracts that are made to take long, and calls that are: checked in bounded time, or refused."""

import contextlib
import gc
import random
import time
from typing import Any

import pytest

from completions.contract import Contract, InputCheck
from kit.errors import Invalid
from kit.json import Json, dump

S: Json = {"type": "string"}


def tower(keyword: str, levels: int) -> Any:
    """Schemas that refer twice to the next each, so that the last is met two to the power of their number times."""
    pair: Any = [{"$ref": "#/$defs/a1"}]
    schemas: dict[str, Any] = {}
    for index in range(levels):
        pair = [{"$ref": f"#/$defs/a{index + 1}"}] * 2
        if keyword == "if":
            schemas[f"a{index}"] = {"if": pair[0], "then": pair[0], "else": pair[0]}
        elif keyword == "dependentSchemas":
            schemas[f"a{index}"] = {keyword: {"x": pair[0], "y": pair[0]}}
        elif keyword in ("allOf", "anyOf"):
            schemas[f"a{index}"] = {keyword: pair}
        else:
            schemas[f"a{index}"] = {"items": pair[0], "contains": pair[0], "unevaluatedItems": pair[0]}
    return {"$ref": "#/$defs/a0", "$defs": {**schemas, f"a{levels}": {"type": "string"}}}


def of(variable: Any) -> Contract:
    """A contract with one variable."""
    definitions = {"$defs": variable["$defs"]} if "$defs" in variable else {}
    schema = {name: part for name, part in variable.items() if name != "$defs"}
    return Contract({"type": "object", "properties": {"v": schema}, **definitions})


def within(levels: int, inner: Any) -> Any:
    for _ in range(levels):
        inner = [inner]
    return inner


ANY_TEXT = "".join(random.Random(1).choices("ab", k=250_000))
BINARY: Any = {"type": "array", "items": {"$ref": "#/$defs/n"}}
MUTUAL: Any = {
    "$ref": "#/$defs/n0",
    "$defs": {
        f"n{index}": {
            "properties": {f"p{name}": {"$ref": f"#/$defs/n{(index * 7 + name) % 100}"} for name in range(15)}
        }
        for index in range(100)
    },
}
DEEP: Any = {}
for _ in range(60):
    DEEP = {"p1": DEEP}
HOSTILE: dict[str, tuple[Any, Any]] = {
    "if tower": (tower("if", 22), 1),
    "dependentSchemas tower": (tower("dependentSchemas", 22), {"x": 1, "y": 2}),
    "anyOf tower": (tower("anyOf", 9), ["x"] * 60_000),
    "deep allOf": (tower("allOf", 9), "x" * 250_000),
    "contains tower": (tower("contains", 30), within(60, "x")),
    "recursive union": ({"anyOf": [BINARY, BINARY], "$defs": {"n": {"anyOf": [BINARY, BINARY]}}}, within(60, 1)),
    "mutual recursion": (MUTUAL, DEEP),
    "nested quantifiers": ({"pattern": "^(a+)+$"}, "a" * 250_000 + "b"),
    "lookahead": ({"pattern": "(?=(a+)+c)"}, ANY_TEXT),
    "lookbehind": ({"pattern": "(?<=a)(.*)(.*)(.*)[^a]$"}, "a" * 250_000),
    "repeated edge": ({"pattern": "\\b?a{5,}x$"}, "a" * 250_000),
    "back reference": ({"pattern": "(a*)(a*)\\1\\2b"}, ANY_TEXT),
    "counted out": ({"not": {"pattern": ".*a.{5000}[cd]"}}, ANY_TEXT),
    "counted out twice": ({"not": {"pattern": "(?:(?:a|b){0,20}a){15}.{9}c"}}, ANY_TEXT),
    "many patterns": ({"allOf": [{"not": {"pattern": f"[ab]*a[ab]{{20}}{i}"}} for i in range(300)]}, ANY_TEXT),
    "patternProperties": (
        {"patternProperties": {f"^{index}.*": S for index in range(900)}},
        {f"b{index}": 1 for index in range(20_000)},
    ),
    "propertyNames": ({"propertyNames": {"not": {"pattern": "(?:[a-z]?){50}[0-9]{3}x"}}}, {ANY_TEXT: 1}),
    "unique lists": ({"uniqueItems": True}, [[1.5] * 3_000 + [index] for index in range(15)]),
    "unique fractions": ({"items": {"uniqueItems": True}}, [[index + 0.5 for index in range(15)]] * 3_000),
    "long unique list": ({"uniqueItems": True}, list(range(40_000))),
    "fractions enumerated": ({"items": {"enum": [index + 0.5 for index in range(2_000)]}}, [1_999.5] * 30_000),
    "integers enumerated": ({"items": {"enum": list(range(2_000))}}, [1_999.0] * 30_000),
    "objects enumerated": ({"items": {"enum": [*({"a": i} for i in range(2_000)), 1]}}, [1] * 100_000),
    "small multiples": ({"items": {"multipleOf": 0.0001}}, [1e300] * 30_000),
    "documents in texts": (
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "allOf": [{"contentMediaType": "application/json"}] * 900,
        },
        "[" + "1," * 100_000 + "1]",
    ),
    "wide union": ({"items": {"anyOf": [{"const": {"a": i}} for i in range(250)]}}, [{"a": 249}] * 25_000),
    "contains nothing": ({"contains": {"const": 1}}, [0] * 100_000),
    "many required": ({"items": {"required": [f"r{i}" for i in range(5_000)]}}, [{}] * 80_000),
    "many objects": ({"items": {"type": "array", "items": {"required": ["a"]}}}, [[{}]] * 50_000),
}


@pytest.mark.parametrize(("schema", "value"), HOSTILE.values(), ids=HOSTILE)
def test_a_call_is_held_against_any_contract_in_bounded_time(schema: Any, value: Any) -> None:
    contract, variables = of(schema), {"v": value}
    assert len(dump(variables)) <= 256 << 10
    check = InputCheck()
    check.check(contract, {})
    # What other tests left behind is not to be collected while this one is timed.
    gc.collect()
    gc.disable()
    started = time.process_time()

    try:
        with contextlib.suppress(Invalid):
            check.check(contract, variables)
        checked = time.process_time()
        with contextlib.suppress(Invalid):
            check.missing(contract, variables)
    finally:
        gc.enable()

    # 50 ms is the goal, and 35 the most measured; the rest is for a shared core.
    assert checked - started < 0.15
    assert time.process_time() - checked < 0.15


@pytest.mark.parametrize(
    "name",
    [
        "if tower",
        "dependentSchemas tower",
        "fractions enumerated",
        "objects enumerated",
        "many patterns",
    ],
)
def test_a_contract_that_could_check_hardly_any_call_is_refused_when_it_is_made(name: str) -> None:
    with pytest.raises(Invalid) as refusal:
        InputCheck().prepare(of(HOSTILE[name][0]))

    assert refusal.value.reason == "SCHEMA_TOO_LARGE"
    assert [one.field for one in refusal.value.violations] == ["variables.v"]


ANY_JSON: Any = {
    "$ref": "#/$defs/n",
    "$defs": {
        "n": {
            "anyOf": [
                {"type": "array", "items": {"$ref": "#/$defs/n"}},
                {"type": "object", "additionalProperties": {"$ref": "#/$defs/n"}},
                {"type": ["null", "string", "number", "boolean"]},
            ]
        }
    },
}
ROW: Any = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{12}$"},
        "slug": {"type": "string", "pattern": "^[a-z0-9-]{1,64}$"},
        "mail": {"type": "string", "pattern": "^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$"},
        "price": {"type": "number", "minimum": 0},
        "state": {"enum": ["new", "old", None]},
        "note": {"anyOf": [S, {"type": "null"}]},
    },
    "required": ["id", "slug"],
    "additionalProperties": False,
}
A_ROW: Any = {
    "id": "0123abcd-0123-0123456789ab",
    "slug": "abc-def",
    "mail": "a.b@example.org",
    "price": 1.5,
    "state": "new",
    "note": None,
}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "array", "items": ROW}, [A_ROW] * 1_900),
        (ANY_JSON, within(40, [1] * 60_000)),
        ({"pattern": "^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$"}, "a" * 240_000 + "@example.org"),
        ({"type": "array", "items": {"type": "number", "multipleOf": 0.01}}, [12.34] * 1_000),
        ({"type": "array", "uniqueItems": True, "items": S}, [f"{index}" for index in range(20_000)]),
        ({"enum": [f"country {index}" for index in range(2_000)] + [None]}, "country 1999"),
        ({"enum": [100, 200, 201, 204, 400, 404, 500]}, 404),
    ],
)
def test_usual_contracts_take_large_variables(schema: Any, value: Any) -> None:
    check, contract = InputCheck(), of(schema)
    check.prepare(contract)

    check.check(contract, {"v": value})


def test_a_long_text_beside_a_variable_that_is_hard_to_check_is_no_trouble() -> None:
    check = InputCheck()
    contract = Contract({"type": "object", "properties": {"text": S, "code": {"pattern": "(?=.*[a-z])(?=.*\\d).{8,}"}}})

    check.check(contract, {"text": ANY_TEXT, "code": "abcdefg1"})
    with pytest.raises(Invalid) as refusal:
        check.check(contract, {"text": "short", "code": ANY_TEXT})

    assert refusal.value.reason == "VARIABLES_TOO_LARGE"
    assert [one.field for one in refusal.value.violations] == ["variables"]


def test_a_pattern_that_would_fill_the_memory_is_refused_before_it_is_compiled() -> None:
    with pytest.raises(Invalid) as refusal:
        InputCheck().prepare(of({"pattern": "(?=a)(?:(?:\\w{200}){200}){200}"}))

    assert refusal.value.reason == "SCHEMA_TOO_LARGE"
