"""What every call must bring: which of it is missing, and how a contract comes to ask for more or for less."""

from __future__ import annotations

from itertools import islice
from typing import Final

from completions.contract.comparison import VARIABLES, Variables, variables_of
from completions.contract.contract import Contract
from completions.contract.document import ANYTHING, Document, Place
from completions.contract.shape import Alternative, Shapes
from completions.template.paths import text_of
from kit.json import Json

MAX_MISSING: Final = 32
_MAX_LOOKED_INTO: Final = 5_000
_MAX_STEPS: Final = 2_000
"""Schemas that are rewritten for one contract: references to others are replaced by what they refer to."""
_MAX_LEVELS: Final = 128
"""Of these within each other."""


def missing(variables: Variables, given: Json) -> list[str]:
    """The paths that the schema requires and that `given` lacks, such as `user.name`: the uppermost ones, at most 32.

    What only one of several alternatives requires is none. It is asked while a call waits, so what stands beyond the
    first thousands of objects and lists is not looked into.
    """
    found: list[str] = []
    level: list[tuple[tuple[str | int, ...], Place, Json]] = [((), variables.place, given)]
    steps = _MAX_LOOKED_INTO
    while level and steps > 0 and len(found) < MAX_MISSING:
        below: list[tuple[tuple[str | int, ...], Place, Json]] = []
        for path, place, value in level:
            one = _only(variables.shapes, place, "object" if isinstance(value, dict) else "array")
            if one is None:
                continue
            if isinstance(value, dict):
                found += [text_of((*path, name)) for name in sorted(one.required - value.keys())]
                if len(found) >= MAX_MISSING:
                    break
                below += [
                    ((*path, name), one.properties[name], each)
                    for name, each in value.items()
                    if isinstance(each, (dict, list)) and name in one.properties
                ]
            elif isinstance(value, list):
                held = ((index, each) for index, each in enumerate(value) if isinstance(each, (dict, list)))
                below += [((*path, index), one.at(index), each) for index, each in islice(held, steps)]
            if len(below) >= steps:
                break
        steps -= len(below)
        level = below
    return found[:MAX_MISSING]


def requiring(held: Contract, offered: Contract) -> Contract:
    """`held`, requiring what `offered` does, wherever it stands: members that both know. What `offered` says of one of
    several alternatives only is left alone; of a contract whose schemas refer to each other too much, all but the
    variables' own names is.

    :raises Invalid: as :func:`completions.contract.compare`
    """
    if held.variables is None or held.variables == offered.variables:
        return held
    wanted = variables_of(offered.variables)
    document = Document(held.variables, VARIABLES)
    try:
        variables = _Rewriting(document, wanted.shapes, _MAX_STEPS).of(held.variables, wanted.place)
    except _TooMuchError:
        variables = _Rewriting(document, wanted.shapes, 0).required(held.variables, wanted.place)
    return Contract(variables if isinstance(variables, dict) else held.variables, held.response_format)


class _TooMuchError(Exception):
    """More schemas than :data:`_MAX_STEPS`, or more levels of them than :data:`_MAX_LEVELS`."""


class _Rewriting:
    """One contract that is rewritten, beside the shapes of another."""

    def __init__(self, document: Document, shapes: Shapes, steps: int) -> None:
        self._document = document
        self._shapes = shapes
        self._steps = steps
        self._levels = _MAX_LEVELS
        self._open: set[tuple[int, Place]] = set()

    def of(self, schema: Json, place: Place) -> Json:
        """The schema with other `required`s; the same where nothing changes, its references too."""
        if not isinstance(schema, dict):
            return schema
        self._steps -= 1
        self._levels -= 1
        if self._steps < 0 or self._levels < 0:
            raise _TooMuchError
        is_reference = self._document.target(id(schema)) is not None
        changed = self._of_referred(schema, place) if is_reference else self._of_members(schema, place)
        self._levels += 1
        return changed

    def _of_members(self, schema: dict[str, Json], place: Place) -> Json:
        changed = self.required(schema, place)
        properties = schema.get("properties")
        if isinstance(properties, dict):
            objects = self._alternatives(place, "object")
            if len(objects) <= 1:
                known = objects[0].properties if objects else {}
                changed["properties"] = {
                    name: self.of(part, known.get(name, ANYTHING)) for name, part in properties.items()
                }
        items = schema.get("items")
        if isinstance(items, dict) and "prefixItems" not in schema:
            arrays = self._alternatives(place, "array")
            if len(arrays) <= 1:
                changed["items"] = self.of(items, arrays[0].items if arrays else ANYTHING)
        for keyword in ("allOf", "anyOf", "oneOf"):
            branches = schema.get(keyword)
            if isinstance(branches, list):
                changed[keyword] = [self.of(branch, place) for branch in branches]
        return changed

    def required(self, schema: dict[str, Json], place: Place) -> dict[str, Json]:
        """The schema with another `required` of its own."""
        objects = self._alternatives(place, "object")
        if len(objects) > 1:
            return dict(schema)
        before, properties = schema.get("required"), schema.get("properties")
        names = [name for name in before if isinstance(name, str)] if isinstance(before, list) else []
        known = {*names, *(properties if isinstance(properties, dict) else ())}
        wanted = known & objects[0].required if objects else set[str]()
        changed = {keyword: value for keyword, value in schema.items() if keyword != "required"}
        if wanted:
            kept = [name for name in dict.fromkeys(names) if name in wanted]
            changed["required"] = [*kept, *sorted(wanted.difference(kept))]
        return changed

    def _of_referred(self, schema: dict[str, Json], place: Place) -> Json:
        whole: dict[str, Json] = {}
        referred: Json = schema
        while isinstance(referred, dict):
            whole = {**{keyword: value for keyword, value in referred.items() if keyword != "$ref"}, **whole}
            following = self._document.target(id(referred))
            if following is None:
                break
            referred = following
        key = (id(referred), place)
        if not isinstance(referred, dict) or key in self._open:
            return schema
        self._open.add(key)
        changed = self.of(whole, place)
        self._open.discard(key)
        return schema if changed == whole else changed

    def _alternatives(self, place: Place, kind: str) -> list[Alternative]:
        return _of_kind(self._shapes, place, kind)


def _of_kind(shapes: Shapes, place: Place, kind: str) -> list[Alternative]:
    return [one for one in shapes.at(place) or () if one.kind == kind]


def _only(shapes: Shapes, place: Place, kind: str) -> Alternative | None:
    found = _of_kind(shapes, place, kind)
    return found[0] if len(found) == 1 else None
