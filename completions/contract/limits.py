"""What a schema says of a value beside its type: bounds, lengths, patterns, conditions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

import orjson

from kit.json import Json

Limits: TypeAlias = frozenset[tuple[str, str]]
"""Keywords, each with its value as canonical text."""

_ANY_KIND: Final = ("not", "if", "then", "else")
_NUMBER: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_OF_KIND: Final[dict[str, tuple[str, ...]]] = {
    "number": _NUMBER,
    "integer": _NUMBER,
    "string": ("minLength", "maxLength", "pattern"),
    "array": (
        "minItems",
        "maxItems",
        "uniqueItems",
        "contains",
        "minContains",
        "maxContains",
        "unevaluatedItems",
    ),
    "object": (
        "minProperties",
        "maxProperties",
        "propertyNames",
        "dependentRequired",
        "dependentSchemas",
        "dependencies",
        "unevaluatedProperties",
    ),
}
_SILENT: Final = {
    "minLength": 0,
    "minItems": 0,
    "minProperties": 0,
    "uniqueItems": False,
    "unevaluatedItems": True,
    "unevaluatedProperties": True,
}
"""What says nothing."""
_LIMITING: Final = frozenset(
    {*_ANY_KIND, *(keyword for keywords in _OF_KIND.values() for keyword in keywords)}
    | {"additionalProperties", "additionalItems", "items"}
)
_NO_LIMITS: Final[Limits] = frozenset()
_MAX_SHOWN: Final = 80


def limits_of(schema: dict[str, Json], kind: str) -> Limits:
    """The limits of a value of that type; of `additionalProperties` and `items` only that there may be none."""
    if _LIMITING.isdisjoint(schema):
        return _NO_LIMITS
    found = {
        keyword: text
        for keyword in (*_OF_KIND.get(kind, ()), *_ANY_KIND)
        if keyword in schema and (text := _text(schema[keyword])) != _text(_SILENT.get(keyword))
    }
    if kind == "object" and schema.get("additionalProperties") is False:
        found["additionalProperties"] = "false"
    if kind == "array" and False in (schema.get("additionalItems"), schema.get("items")):
        found["items"] = "false"
    return frozenset(found.items())


def either(one: Limits, other: Limits) -> Limits:
    """The limits of what keeps to the one or to the other."""
    if not one or not other or one == other:
        return one & other
    return frozenset({("anyOf", " or ".join(sorted((in_words(one), in_words(other)))))})


def in_words(limits: Iterable[tuple[str, str]]) -> str:
    """`maximum 9, minimum 1`; `none` without any."""
    words = ", ".join(f"{keyword} {text}" for keyword, text in sorted(limits))
    return (words if len(words) <= _MAX_SHOWN else f"{words[: _MAX_SHOWN - 1]}…") or "none"


def _text(value: Json) -> str:
    plain = int(value) if isinstance(value, float) and value.is_integer() else value
    # Schemas that were read by a `Document` hold nothing that this cannot write.
    return orjson.dumps(plain, option=orjson.OPT_SORT_KEYS).decode()
