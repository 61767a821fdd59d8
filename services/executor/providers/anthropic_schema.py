"""JSON schemas in the dialect of Anthropic's structured outputs. Pure."""

from __future__ import annotations

from typing import Final

import orjson

from kit.json import Json

_KEPT: Final = frozenset(("type", "enum", "const", "title", "description", "default", "required"))
_DEFINITIONS: Final = ("$defs", "definitions")
_TOLD: Final = frozenset(
    (
        "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern",
        "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties", "examples",
    )
)  # fmt: skip
"""Keywords that the dialect lacks: the model reads them in the description, and the executor checks the answer."""
_FORMATS: Final = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid")
)
_IGNORED: Final = frozenset(("$schema", "$id", "$comment", "deprecated", "readOnly", "writeOnly"))


class _Foreign(Exception):
    """The schema says what the dialect cannot."""


def native_schema(schema: Json) -> dict[str, Json] | None:
    """A schema whose every answer also keeps to the given one, but for limits that stand in descriptions; None if the
    dialect has no such schema: objects with free members, recursion, conditions."""
    if not isinstance(schema, dict) or schema.get("type") != "object":
        return None
    try:
        _check_references(schema)
        return _native(schema)
    except _Foreign:
        return None


def _native(schema: Json) -> dict[str, Json]:
    if not isinstance(schema, dict):
        raise _Foreign
    native: dict[str, Json] = {}
    told: dict[str, Json] = {}
    for name, value in schema.items():
        if name in _KEPT:
            native[name] = value
        elif name in _TOLD or (name == "format" and value not in _FORMATS):
            told[name] = value
        elif name in ("format", "$ref"):
            native[name] = value
        elif name == "items":
            native[name] = _native(value)
        elif name == "properties" or name in _DEFINITIONS:
            if not isinstance(value, dict):
                raise _Foreign
            native[name] = {each: _native(inner) for each, inner in value.items()}
        elif name in ("anyOf", "oneOf"):
            if not isinstance(value, list):
                raise _Foreign
            native["anyOf"] = [_native(inner) for inner in value]
        elif name == "additionalProperties":
            if value is not False:
                raise _Foreign
        elif name not in _IGNORED:
            raise _Foreign
    if "object" in _types(schema) or "properties" in schema:
        if "properties" not in schema and schema.get("additionalProperties") is not False:
            raise _Foreign
        native["additionalProperties"] = False
    if told:
        description = native.get("description")
        limits = orjson.dumps(told).decode()
        native["description"] = f"{description}\n{limits}" if isinstance(description, str) and description else limits
    return native


def _types(schema: dict[str, Json]) -> list[Json]:
    types = schema.get("type")
    return types if isinstance(types, list) else [types]


def _check_references(schema: dict[str, Json]) -> None:
    """Every reference leads to a definition of the root, and none back to itself."""
    definitions: dict[str, Json] = {}
    for place in _DEFINITIONS:
        if isinstance(found := schema.get(place), dict):
            definitions.update((f"#/{place}/{name}", inner) for name, inner in found.items())
    outside = {name: value for name, value in schema.items() if name not in _DEFINITIONS}
    edges = {name: _references(inner) for name, inner in definitions.items()}
    for target in {*_references(outside), *(each for found in edges.values() for each in found)}:
        if target not in definitions:
            raise _Foreign
    settled: set[str] = set()
    while len(settled) < len(edges):
        ready = {name for name, found in edges.items() if name not in settled and found <= settled}
        if not ready:
            raise _Foreign
        settled |= ready


def _references(value: Json) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(_references, value)) if value else set()
    if not isinstance(value, dict):
        return set()
    found = set().union(*map(_references, value.values())) if value else set()
    if isinstance(target := value.get("$ref"), str):
        found.add(target)
    return found
