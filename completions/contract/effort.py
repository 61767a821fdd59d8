"""How much work it is to hold a value against a schema, at most: known before, since it cannot be stopped."""

from __future__ import annotations

import re
from collections.abc import Iterator

from completions.contract.document import MAX_CHAIN, Document
from kit.json import Json

ENDLESS = 1 << 40
"""More than anybody would wait for."""

_LOOKS_AROUND = re.compile(r"\(\?[=!<>]|\\[1-9k]|[+*?}]\+")
"""What a pattern has that cannot be matched in linear time, or is written like it."""
_SAME_LISTS = ("allOf", "anyOf", "oneOf")
_SAME_SINGLES = ("not", "if", "then", "else")
_SAME_MAPS = ("dependentSchemas", "dependencies")
_INNER_SINGLES = (
    "items",
    "additionalItems",
    "additionalProperties",
    "contains",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
)


class Effort:
    """The work that one schema makes, counted in looks at a schema, at some 50 ns each.

    A value is looked at by its schema and by all that this refers to and branches into, `if`, `not` and
    `dependentSchemas` included; then each of its members by theirs. References let a short schema make that grow with
    two to the power of its length, or of the value's depth.
    """

    def __init__(self, schema: Json, document: Document) -> None:
        self._root = schema
        self._document = document
        self._known: dict[tuple[int, int], int] = {}
        self._own: dict[int, int] = {}
        self.patterns_that_look_around = 0
        self._count_patterns(schema)

    def looks(self, depth: int) -> int:
        """For each leaf of a value that is nested so deep, at most; `ENDLESS` if it is too much to be counted."""
        return self._looks(self._root, depth, MAX_CHAIN)

    def _looks(self, schema: Json, depth: int, chain: int) -> int:
        if not isinstance(schema, dict):
            return 1
        key = (id(schema), depth)
        known = self._known.get(key)
        if known is not None:
            return known
        if chain == 0:
            return ENDLESS
        # Until it is known, it is endless: for what leads back to itself without a step into the value.
        self._known[key] = ENDLESS
        looks = self._own_looks(schema)
        for part in self._same(schema):
            looks += self._looks(part, depth, chain - 1)
            if looks >= ENDLESS:
                return ENDLESS
        if depth:
            properties, listed = schema.get("properties"), schema.get("prefixItems")
            one_of = [*(properties.values() if isinstance(properties, dict) else ())]
            one_of += listed if isinstance(listed, list) else ()
            # A member has one name, and an element one place: of these, it meets one.
            looks += max((self._looks(part, depth - 1, MAX_CHAIN) for part in one_of), default=0)
            for part in _inner(schema):
                looks += self._looks(part, depth - 1, MAX_CHAIN)
        self._known[key] = looks = min(looks, ENDLESS)
        return looks

    def _own_looks(self, schema: dict[str, Json]) -> int:
        own = self._own.get(id(schema))
        if own is None:
            patterns, enum = schema.get("patternProperties"), schema.get("enum")
            own = 1 + (len(patterns) if isinstance(patterns, dict) else 0) + _nodes(schema.get("const"))
            # Texts, or numbers, alone are looked up; others are compared with each.
            if isinstance(enum, list) and (len({type(one) for one in enum}) > 1 or _holds_containers(enum)):
                own += _nodes(enum)
            self._own[id(schema)] = own
        return own

    def _same(self, schema: dict[str, Json]) -> Iterator[Json]:
        """What the same value is held against too."""
        target = self._document.target(id(schema))
        if target is not None:
            yield target
        for keyword in _SAME_LISTS:
            listed = schema.get(keyword)
            if isinstance(listed, list):
                yield from listed
        for keyword in _SAME_SINGLES:
            if keyword in schema:
                yield schema[keyword]
        for keyword in _SAME_MAPS:
            named = schema.get(keyword)
            if isinstance(named, dict):
                yield from named.values()

    def _count_patterns(self, schema: Json) -> None:
        waiting: list[Json] = [schema]
        while waiting:
            one = waiting.pop()
            if isinstance(one, list):
                waiting.extend(one)
            elif isinstance(one, dict):
                waiting.extend(one.values())
                named = one.get("patternProperties")
                patterns = [one.get("pattern"), *(named if isinstance(named, dict) else ())]
                self.patterns_that_look_around += sum(
                    isinstance(pattern, str) and _LOOKS_AROUND.search(pattern) is not None for pattern in patterns
                )


def _inner(schema: dict[str, Json]) -> Iterator[Json]:
    """What every member of a value may be held against, beside what is said of one by name or place."""
    for keyword in _INNER_SINGLES:
        part = schema.get(keyword)
        if isinstance(part, list):
            yield from part
        elif isinstance(part, dict):
            yield part
    named = schema.get("patternProperties")
    if isinstance(named, dict):
        yield from named.values()


def _holds_containers(enum: list[Json]) -> bool:
    return any(isinstance(one, (dict, list)) for one in enum)


def _nodes(value: Json) -> int:
    count, waiting = 0, [value]
    while waiting:
        one = waiting.pop()
        count += 1
        if isinstance(one, dict):
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
    return count
