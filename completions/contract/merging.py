"""Schemas joined to one that is satisfied by what satisfies both, looking only at what is new."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

from completions.contract.document import NOTES
from completions.contract.rewriting import is_silent
from kit.json import Json, dump

_PLAIN_OBJECT: Final = frozenset({"type", "properties", "required", "additionalProperties"})
_PLAIN_ARRAY: Final = frozenset({"type", "items"})
_DEFINITIONS: Final = ("$defs", "definitions")
_OF_ROOT: Final = frozenset({*_DEFINITIONS, "$schema", "$id"})
_REFERENCE: Final = '"$ref"'
_Path: TypeAlias = tuple[str, ...]
_Key: TypeAlias = tuple[_Path, str, str]
"""A member's path, its text, and the definitions around it if it refers to any."""


class Seen:
    """The members that schemas had so far: what a further schema says the same of is part of the whole already."""

    def __init__(self) -> None:
        self._members: set[_Key] = set()

    def fresh(self, root: dict[str, Json], text: str) -> tuple[dict[str, Json], list[_Key]]:
        """`root` without the members that are known, and without known definitions that nothing refers to any more; and
        the keys of the others, for :meth:`keep`.

        :param text: of `root`
        """
        around = _definitions_text(root, text)
        if around is None or not _is_plain_object(root, _OF_ROOT):
            return root, []
        keys: list[_Key] = []
        found = self._fresh(root, (), around, keys)
        without = {keyword: value for keyword, value in found.items() if keyword not in _DEFINITIONS}
        if without.keys() == found.keys():
            return found, keys
        # What nobody has looked at must be, also where nothing refers to it: it may be no schema.
        definitions: _Key = ((), dump([root.get(keyword) for keyword in _DEFINITIONS]), _DEFINITIONS[0])
        if definitions not in self._members:
            return found, [*keys, definitions]
        return (found if _REFERENCE in dump(without) else without), keys

    def keep(self, keys: Iterable[_Key]) -> None:
        """From now on these members are known."""
        self._members.update(keys)

    def shared(self, root: dict[str, Json], other: Json) -> Json:
        """`root` with the members only that `other` has too, where nothing may refer to the others."""
        return root if _definitions_text(root, dump(root)) is None else shared(root, other)

    def _fresh(self, schema: dict[str, Json], path: _Path, around: str, keys: list[_Key]) -> dict[str, Json]:
        if "properties" not in schema:
            return schema
        kept: dict[str, Json] = {}
        for name, part in _object(schema["properties"]).items():
            text = dump(part)
            below = (*path, name)
            key = below, text, around if _REFERENCE in text else ""
            if key not in self._members:
                keys.append(key)
                inner = isinstance(part, dict) and _is_plain_object(part)
                kept[name] = self._fresh(_object(part), below, around, keys) if inner else part
        return {**schema, "properties": kept}


def shared(whole: Json, other: Json) -> Json:
    """`whole` with the members only that `other` has too, where both are plain objects."""
    if not isinstance(whole, dict) or not isinstance(other, dict):
        return whole
    if not _is_plain_object(whole, _OF_ROOT) or not _is_plain_object(other, _OF_ROOT):
        return whole
    properties = _object(whole.get("properties"))
    common: dict[str, Json] = {
        name: shared(properties[name], part)
        for name, part in _object(other.get("properties")).items()
        if name in properties
    }
    return {**whole, "properties": common}


def merged(one: Json, other: Json) -> Json:
    """What satisfies both, written as one would write it where that is possible."""
    if is_silent(other) or _is_same(one, other):
        return one
    if is_silent(one):
        return other
    if isinstance(one, dict) and isinstance(other, dict):
        if _is_plain_object(one) and _is_plain_object(other):
            return _merged_objects(one, other)
        if _is_plain_array(one) and _is_plain_array(other):
            items = merged(one.get("items", True), other.get("items", True))
            return {**other, **one, **({} if items is True else {"items": items})}
    conjuncts = one["allOf"] if isinstance(one, dict) and one.keys() == {"allOf"} else None
    if not isinstance(conjuncts, list):
        return {"allOf": [one, other]}
    if any(_is_same(each, other) for each in conjuncts):
        return one
    return {"allOf": [*conjuncts, other]}


def _merged_objects(one: dict[str, Json], other: dict[str, Json]) -> dict[str, Json]:
    whole: dict[str, Json] = {**other, **one}
    properties, more = dict(_object(one.get("properties"))), _object(other.get("properties"))
    is_wider = not more.keys() <= properties.keys()
    for name, part in more.items():
        properties[name] = merged(properties[name], part) if name in properties else part
    whole["properties"] = {name: properties[name] for name in sorted(properties)} if is_wider else properties
    required = dict.fromkeys(str(name) for side in (one, other) for name in _array(side.get("required")))
    if required:
        whole["required"] = list(required)
    if dump(one.get("additionalProperties")) != dump(other.get("additionalProperties")):
        whole.pop("additionalProperties", None)
    return whole


def _definitions_text(root: dict[str, Json], text: str) -> str | None:
    """What members may refer to; None where they may refer to anything else, and mean another thing elsewhere."""
    references = text.count(_REFERENCE)
    if not references:
        return ""
    of_definitions = sum(text.count(f'{_REFERENCE}:"#/{keyword}/') for keyword in _DEFINITIONS)
    return dump([root.get(keyword) for keyword in _DEFINITIONS]) if of_definitions == references else None


def _is_same(one: Json, other: Json) -> bool:
    # Python holds true equal to 1.
    return one == other and dump(one) == dump(other)


def _is_plain_object(schema: dict[str, Json], more: frozenset[str] = frozenset()) -> bool:
    return schema.get("type") == "object" and schema.keys() <= _PLAIN_OBJECT | NOTES | more


def _is_plain_array(schema: dict[str, Json]) -> bool:
    return schema.get("type") == "array" and schema.keys() <= _PLAIN_ARRAY | NOTES


def _object(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _array(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []
