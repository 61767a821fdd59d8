"""Shapes in words."""

from __future__ import annotations

import json

from completions.contract.document import Place
from completions.contract.shape import Alternative, Shapes, Value

ANY_TYPE = "any type"
"""What has no known type."""
_MAX_NAMED = 8
_MAX_LENGTH = 160


def type_of(shapes: Shapes, place: Place) -> str:
    """The type of what stands there: `string`, `integer or string`, `list of string`, `object`, `any type`."""
    return _short(_union(shapes, place, 3, names=False))


def type_with_names(shapes: Shapes, place: Place) -> str:
    """The same, with the properties of objects: `object {city, days}`."""
    return _short(_union(shapes, place, 3, names=True))


def values_of(allowed: frozenset[Value] | None) -> str:
    """`"a", "b"`, or `any` without a limit."""
    if allowed is None:
        return "any"
    return _short(
        _listed(sorted(json.dumps(value) if kind != "object" else "{…}" for kind, value in allowed)) or "none"
    )


def _union(shapes: Shapes, place: Place, levels: int, *, names: bool) -> str:
    shape = shapes.at(place)
    if shape is None:
        return ANY_TYPE
    if not shape:
        return "nothing"
    kinds = dict.fromkeys(_one(shapes, alternative, levels - 1, names=names) for alternative in shape)
    return " or ".join(sorted(kinds)[:_MAX_NAMED]) + (" or …" if len(kinds) > _MAX_NAMED else "")


def _one(shapes: Shapes, alternative: Alternative, levels: int, *, names: bool) -> str:
    if alternative.kind == "array":
        if alternative.positions:
            return f"tuple of {len(alternative.positions)}"
        if levels == 0 or shapes.at(alternative.items) is None:
            return "list"
        return f"list of {_union(shapes, alternative.items, levels, names=names)}"
    if alternative.kind == "object" and names and alternative.properties:
        return f"object {{{_listed(sorted(json.dumps(name)[1:-1] for name in alternative.properties))}}}"
    return alternative.kind


def _listed(words: list[str]) -> str:
    return ", ".join([*words[:_MAX_NAMED], *(["…"] if len(words) > _MAX_NAMED else [])])


def _short(text: str) -> str:
    return text if len(text) <= _MAX_LENGTH else text[: _MAX_LENGTH - 1] + "…"
