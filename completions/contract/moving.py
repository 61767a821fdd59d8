"""What an alias promises its callers after it moved."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from completions.contract.comparison import VARIABLES, compare_response_formats, compare_variables, variables_of
from completions.contract.contract import Contract
from completions.contract.difference import Comparison, Kind
from completions.contract.document import Document, Place, too_large
from completions.contract.requirements import requiring
from completions.contract.rewriting import is_silent
from completions.contract.shape import Alternative, Shapes
from completions.contract.union import contract_of
from completions.contract.words import ANY_TYPE
from kit.errors import Invalid
from kit.json import Json, dump

_UNIONS: Final = ("anyOf", "oneOf")
_DEFINITIONS: Final = ("$defs", "definitions")
_MAX_STEPS: Final = 2_000
"""Schemas that are looked at, each as often as something refers to it."""
_MAX_LEVELS: Final = 128
"""Of these within each other."""


def moved(held: Contract, offered: Contract, *, max_bytes: int | None = None) -> Contract:
    """What callers of an alias rely on that held `held` and now serves `offered`, which does not differ: what `offered`
    says, its limits and what it requires included; and what `held` knows beyond that: variables that callers may still
    send, with their limits, and the types of what has none.

    Where that cannot be written as one schema, the variables stay as they were, but for what is required: members that
    only some branches of a union lost, references that lead in circles, and more than `max_bytes`.

    :param max_bytes: of the contract as JSON
    :raises Invalid: as :func:`completions.contract.compare`
    """
    answers = compare_response_formats(offered.response_format, held.response_format)
    return Contract(
        _variables(held, offered, max_bytes), offered.response_format if _keeps(answers) else held.response_format
    )


def _variables(held: Contract, offered: Contract, max_bytes: int | None) -> dict[str, Json] | None:
    try:
        if _keeps(compare_variables(offered.variables, held.variables)):
            return offered.variables
        rest = _rest(requiring(held, offered).variables, offered.variables)
        both = {"offered": Contract(offered.variables), "held": Contract(rest)}
        whole = contract_of(both, max_bytes=max_bytes).variables
        if all(_keeps(compare_variables(whole, each.variables)) for each in (held, offered)):
            return whole
    except Invalid:
        # Of each by itself, and of the two, there was nothing to say against; of the sum there is.
        pass
    return requiring(held, offered).variables


def _keeps(comparison: Comparison) -> bool:
    """Whether the one side has all names and types of the other, by what the other lacks or has."""
    return all(one.kind is Kind.PROPERTY_REMOVED for one in comparison.differences) and not any(
        one.kind is Kind.TYPE_UNKNOWN and one.after != ANY_TYPE for one in comparison.warnings
    )


def _rest(held: dict[str, Json] | None, offered: dict[str, Json] | None) -> dict[str, Json] | None:
    """What `held` knows and `offered` does not."""
    wanted = variables_of(offered)
    rest = _Rest(Document(held, VARIABLES), wanted.shapes).of(held, wanted.place)
    if held is None or not isinstance(rest, dict):
        return None
    definitions: dict[str, Json] = {keyword: held[keyword] for keyword in _DEFINITIONS if keyword in held}
    return {**rest, **definitions} if '"$ref"' in dump(rest) else rest


class _Rest:
    """One schema, but for what another says too."""

    def __init__(self, document: Document, shapes: Shapes) -> None:
        self._document = document
        self._shapes = shapes
        self._open: set[tuple[int, Place]] = set()
        self._steps = _MAX_STEPS
        self._levels = _MAX_LEVELS

    def of(self, schema: Json, place: Place) -> Json:
        """True where that is nothing.

        :raises Invalid: `SCHEMA_TOO_LARGE`
        """
        if not isinstance(schema, dict):
            return True
        self._steps -= 1
        self._levels -= 1
        if self._steps < 0 or self._levels < 0:
            raise too_large(self._document.path, "refers to too much")
        rest = self._of_parts(schema, place)
        self._levels += 1
        return rest

    def _of_parts(self, schema: dict[str, Json], place: Place) -> Json:
        if self._shapes.at(place) is None:
            return _types_of(schema)
        parts = [self._own(schema, place), self._of_target(schema, place)]
        parts += [self.of(branch, place) for branch in _list(schema.get("allOf"))]
        for union in _UNIONS:
            branches = [branch for branch in _list(schema.get(union)) if branch != {"type": "null"}]
            rest = self.of(branches[0], place) if len(branches) == 1 else True
            if not is_silent(rest):
                parts.append({"anyOf": [rest, {"type": "null"}]})
        parts = [part for part in parts if not is_silent(part)]
        return {"allOf": parts} if len(parts) > 1 else parts[0] if parts else True

    def _of_target(self, schema: dict[str, Json], place: Place) -> Json:
        target = self._document.target(id(schema))
        key = (id(target), place)
        if target is None or key in self._open:
            return True
        self._open.add(key)
        rest = self.of(target, place)
        self._open.discard(key)
        return rest

    def _own(self, schema: dict[str, Json], place: Place) -> Json:
        kept: dict[str, Json] = {}
        properties = schema.get("properties")
        objects = self._alternatives(place, "object")
        if isinstance(properties, dict) and len(objects) == 1:
            known = objects[0].properties
            found = {name: self.of(part, known[name]) if name in known else part for name, part in properties.items()}
            rest = {name: part for name, part in found.items() if name not in known or not is_silent(part)}
            if rest:
                kept = {"type": schema.get("type", "object"), "properties": rest}
        arrays = self._alternatives(place, "array")
        if "items" in schema and "prefixItems" not in schema and len(arrays) == 1:
            items = self.of(schema["items"], arrays[0].items)
            if not is_silent(items):
                kept = {"type": schema.get("type", "array"), **kept, "items": items}
        return kept

    def _alternatives(self, place: Place, kind: str) -> list[Alternative]:
        return [one for one in self._shapes.at(place) or () if one.kind == kind]


def _types_of(schema: Json) -> Json:
    """The schema without its limits; but what it refers to, and constants that alone say a type, as they are."""
    if not isinstance(schema, dict):
        return schema
    kept: dict[str, Json] = {}
    for keyword, value in schema.items():
        if keyword in ("type", "$ref") or (keyword in ("enum", "const") and "type" not in schema):
            kept[keyword] = value
        elif keyword == "properties" and isinstance(value, dict):
            kept[keyword] = {name: _types_of(part) for name, part in value.items()}
        elif keyword in ("allOf", "prefixItems", *_UNIONS) and isinstance(value, list):
            kept[keyword] = [_types_of(part) for part in value]
        elif keyword == "items":
            kept[keyword] = _types_of(value)
    return kept


def _list(value: Json) -> Iterable[Json]:
    return value if isinstance(value, list) else ()
