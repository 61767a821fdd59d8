"""What a schema says of a value's type: a set of alternatives, each with its limits, and everything else left out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TypeAlias

from completions.contract import paths
from completions.contract.document import ANYTHING, SAME_LISTS, Document, Place, Schema, too_large
from completions.contract.limits import Limits, either, limits_of
from kit.json import Json

MAX_ALTERNATIVES = 256
Value: TypeAlias = tuple[str, "str | int | float | bool | None"]
"""A constant with its type, so that `true` is not `1` and `1.0` is."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """One type a value may have."""

    kind: str
    """A JSON schema type."""
    allowed: frozenset[Value] | None = None
    """The constants it is limited to; None when it is not."""
    properties: Mapping[str, Place] = field(default_factory=dict)
    """Of an object, in the order of the schema; `/…/` names a pattern."""
    required: frozenset[str] = frozenset()
    others: Place = ANYTHING
    """The values of an object's further members."""
    positions: tuple[Place, ...] = ()
    """Of a tuple."""
    items: Place = ANYTHING
    """The elements of an array, after the positions."""
    limits: Limits = frozenset()

    def at(self, index: int) -> Place:
        """The element at a position of an array."""
        return self.positions[index] if index < len(self.positions) else self.items


_SCALARS = {kind: Alternative(kind) for kind in ("null", "boolean", "integer", "number", "string")}
_LEADING = frozenset({"$ref", *SAME_LISTS})
Shape: TypeAlias = "tuple[Alternative, ...] | None"
"""What a value may be; None when nothing is known of it, () when it may be nothing."""


class Shapes:
    """The shapes of one document, worked out where they are asked for: a recursive schema has no last one."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._of_schema: dict[int, Shape] = {}
        self._at: dict[Place, Shape] = {}

    def at(self, place: Place) -> Shape:
        """Without null, since a value that may be absent may be null and the reverse: what is only null is nothing."""
        if place not in self._at:
            # Most places are one schema.
            found = self._of(next(iter(place))) if len(place) == 1 else self._met(self._of(key) for key in place)
            self._at[place] = _settled(found)
        return self._at[place]

    def _of(self, key: int) -> Shape:
        if key not in self._of_schema:
            schema = self.document.schema(key)
            self._of_schema[key] = () if schema is None else self._read(key, schema)
        return self._of_schema[key]

    def _read(self, key: int, schema: Schema) -> Shape:
        if _LEADING.isdisjoint(schema):
            return self._own(schema)
        target = self.document.target(key)
        together = ([] if target is None else [target]) + _list(schema, "allOf")
        unions = [_list(schema, union) for union in ("anyOf", "oneOf") if union in schema]
        shapes = [self._own(schema), *map(self._part, together)]
        shapes += [self._joined(map(self._part, branches)) for branches in unions]
        met = self._met(shapes)
        if met is None or shapes[0] is not None:
            return met
        # Limits without a type limit the type that stands elsewhere.
        return tuple(replace(one, limits=one.limits | limits_of(schema, one.kind)) for one in met)

    def _part(self, schema: Json) -> Shape:
        return None if schema is True else self._of(self.document.key(schema))

    def _own(self, schema: Schema) -> Shape:
        """What the schema says by itself, its references and branches left aside."""
        constants = _constants(schema)
        declared = schema.get("type")
        if declared is not None:
            kinds = [str(kind) for kind in declared] if isinstance(declared, list) else [str(declared)]
        elif constants is not None:
            return self._inferred(constants)
        else:
            kinds = _kinds_by_structure(schema)
            if not kinds:
                return None
        allowed = None if constants is None else _values(constants)
        return tuple(
            self._structured(kind, schema, None if allowed is None else _of_kind(allowed, kind))
            for kind in dict.fromkeys(kinds)
        )

    def _structured(self, kind: str, schema: Schema, allowed: frozenset[Value] | None) -> Alternative:
        place = self.document.place
        if kind == "object":
            properties = {name: place(part) for name, part in _map(schema, "properties").items()}
            for expression, part in _map(schema, "patternProperties").items():
                properties[paths.pattern("", expression)[1:]] = place(part)
            others = schema.get("additionalProperties")
            required = frozenset(name for name in _list(schema, "required") if isinstance(name, str))
            return Alternative(
                kind,
                allowed,
                properties,
                required,
                place(others) if isinstance(others, dict) else ANYTHING,
                limits=limits_of(schema, kind),
            )
        if kind == "array":
            items = schema.get("items", True)
            if isinstance(items, list):
                positions, rest = items, schema.get("additionalItems", True)
            else:
                positions, rest = _list(schema, "prefixItems"), items
            return Alternative(
                kind,
                allowed,
                positions=tuple(place(part) for part in positions),
                items=place(rest),
                limits=limits_of(schema, kind),
            )
        limits = limits_of(schema, kind)
        return _SCALARS[kind] if allowed is None and not limits else Alternative(kind, allowed, limits=limits)

    def _inferred(self, constants: list[Json]) -> tuple[Alternative, ...]:
        """The types of constants: an object has the members, an array the elements that they show."""
        alternatives: list[Alternative] = []
        values = _values(constants)
        kinds = dict.fromkeys(kind for kind, _ in values)
        if "number" in kinds:
            kinds.pop("integer", None)
        for kind in kinds:
            schema: Schema = {}
            if kind == "object":
                members: dict[str, list[Json]] = {}
                for constant in constants:
                    for name, value in constant.items() if isinstance(constant, dict) else ():
                        members.setdefault(name, []).append(value)
                schema = {"properties": {name: {"enum": found} for name, found in members.items()}}
            elif kind == "array":
                elements = [one for constant in constants if isinstance(constant, list) for one in constant]
                schema = {"items": {"enum": elements}} if elements else {}
            alternatives.append(self._structured(kind, schema, _of_kind(values, kind)))
            self.document.key(schema)
        return tuple(alternatives)

    def _met(self, shapes: Iterable[Shape]) -> Shape:
        return reduce(self._both, shapes, None)

    def _both(self, one: Shape, other: Shape) -> Shape:
        """What satisfies both, as far as types say."""
        if one is None or other is None:
            return other if one is None else one
        if len(one) * len(other) > MAX_ALTERNATIVES * 8:
            raise self._too_many()
        met = (_combined(a, b) for a in one for b in other)
        return self._distinct(alternative for alternative in met if alternative is not None)

    def _joined(self, shapes: Iterable[Shape]) -> Shape:
        """What satisfies at least one."""
        alternatives: list[Alternative] = []
        for shape in shapes:
            if shape is None:
                return None
            alternatives += shape
        return self._distinct(alternatives)

    def _distinct(self, alternatives: Iterable[Alternative]) -> tuple[Alternative, ...]:
        scalars: dict[str, Alternative] = {}
        structured: dict[object, Alternative] = {}
        for one in alternatives:
            if one.kind in ("object", "array"):
                identity = (one.kind, one.allowed, tuple(sorted(one.properties.items(), key=lambda item: item[0])))
                structured.setdefault((identity, one.required, one.others, one.positions, one.items, one.limits), one)
                if len(structured) > MAX_ALTERNATIVES:
                    raise self._too_many()
            elif one.kind in scalars:
                known = scalars[one.kind]
                both = None if known.allowed is None or one.allowed is None else known.allowed | one.allowed
                scalars[one.kind] = Alternative(one.kind, both, limits=either(known.limits, one.limits))
            else:
                scalars[one.kind] = one
        return (*scalars.values(), *structured.values())

    def _too_many(self) -> Exception:
        return too_large(self.document.path, f"must have at most {MAX_ALTERNATIVES} alternatives in one place")


def value_of(constant: Json) -> Value:
    """A constant as it compares."""
    if constant is None:
        return ("null", None)
    if isinstance(constant, bool):
        return ("boolean", constant)
    if isinstance(constant, str):
        return ("string", constant)
    if isinstance(constant, int):
        return ("integer", constant)
    if isinstance(constant, float):
        # NaN is not even itself; its text is.
        return ("integer", int(constant)) if constant.is_integer() else ("number", repr(constant))
    return ("object" if isinstance(constant, dict) else "array", json.dumps(constant, sort_keys=True))


def _settled(shape: Shape) -> Shape:
    """Without null, and without integers where any number will do."""
    if shape is None or (len(shape) == 1 and shape[0].kind != "null"):
        return shape
    kinds = {one.kind for one in shape}
    dropped = {"null", "integer"} if "number" in kinds else {"null"}
    kept = tuple(one for one in shape if one.kind not in dropped)
    if "integer" not in dropped or "integer" not in kinds:
        return kept
    numbers = [one.allowed for one in shape if one.kind in ("integer", "number")]
    allowed = None if None in numbers else frozenset().union(*(one for one in numbers if one is not None))
    return tuple(replace(one, allowed=allowed) if one.kind == "number" else one for one in kept)


def _combined(one: Alternative, other: Alternative) -> Alternative | None:
    kind = one.kind
    if kind != other.kind:
        if {kind, other.kind} != {"integer", "number"}:
            return None
        kind = "integer"
    limits = one.limits | other.limits
    allowed = one.allowed if other.allowed is None else other.allowed
    if one.allowed is not None and other.allowed is not None:
        allowed = one.allowed & other.allowed
    if kind == "object":
        properties = {
            name: one.properties.get(name, ANYTHING) | other.properties.get(name, ANYTHING)
            for name in (*one.properties, *other.properties)
        }
        required, others = one.required | other.required, one.others | other.others
        return Alternative(kind, allowed, properties, required, others, limits=limits)
    if kind == "array":
        length = max(len(one.positions), len(other.positions))
        positions = tuple(one.at(index) | other.at(index) for index in range(length))
        return Alternative(kind, allowed, positions=positions, items=one.items | other.items, limits=limits)
    return Alternative(kind, allowed, limits=limits)


def _constants(schema: Schema) -> list[Json] | None:
    if "const" in schema:
        return [schema["const"]]
    return _list(schema, "enum") if "enum" in schema else None


def _values(constants: list[Json]) -> frozenset[Value]:
    return frozenset(map(value_of, constants))


def _of_kind(values: frozenset[Value], kind: str) -> frozenset[Value]:
    kinds = ("integer", "number") if kind == "number" else (kind,)
    return frozenset(value for value in values if value[0] in kinds)


def _kinds_by_structure(schema: Schema) -> list[str]:
    kinds = []
    if "properties" in schema or "patternProperties" in schema or isinstance(schema.get("additionalProperties"), dict):
        kinds.append("object")
    if "items" in schema or "prefixItems" in schema:
        kinds.append("array")
    return kinds


def _list(schema: Schema, keyword: str) -> list[Json]:
    listed = schema.get(keyword)
    return listed if isinstance(listed, list) else []


def _map(schema: Schema, keyword: str) -> dict[str, Json]:
    named = schema.get(keyword)
    return named if isinstance(named, dict) else {}
