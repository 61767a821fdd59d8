"""How much work it is to hold a value against a schema, at most: known before, since it cannot be stopped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from completions.contract.document import MAX_CHAIN, SAME_LISTS, SINGLES, Document
from completions.contract.pattern import looks_around, positions, steps_of
from kit.json import Json

ENDLESS: Final = 1 << 40
"""More than anybody would wait for."""

_SAME_SINGLES: Final = ("not", "if", "then", "else")
_SAME_MAPS: Final = ("dependentSchemas", "dependencies")
_INNER_SINGLES: Final = tuple(keyword for keyword in SINGLES if keyword not in _SAME_SINGLES)
_OF_ARRAYS: Final = frozenset({"items", "additionalItems", "contains", "unevaluatedItems"})
_LEADING: Final = frozenset({*SAME_LISTS, *SINGLES, *_SAME_MAPS, "$ref", "prefixItems", "properties"}) | {
    "patternProperties",
    "uniqueItems",
}
_MAX_STEPS: Final = 5_000
"""From schema to schema, to all depths together, at 3 µs each."""
_NUMBERS_COMPARED: Final = 50
"""Two numbers are compared as fractions, in 2.5 µs, unless both are integers: then in 0.1."""
_UNIQUE: Final = 8
"""Up to 15 elements are compared with each other, whole; more are hashed."""
_FRACTIONS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")


class Work(NamedTuple):
    """What is done, at most, counted in looks at a schema, of some 50 ns each."""

    value: int = 0
    """For every value."""
    character: int = 0
    """For every hundred characters of text: patterns take linear time at best."""
    fraction: int = 0
    """For every number with a fraction or an exponent."""
    schemas: int = 0
    """The schemas alone that a value is held against: what explaining goes by."""


_NONE: Final = Work()
_ONE: Final = Work(1, schemas=1)
_ENDLESS: Final = Work(ENDLESS, ENDLESS, ENDLESS, ENDLESS)
_Both: TypeAlias = tuple[Work, Work, Work]
"""Of an array, of an object, and the most of both: what stands for the one says nothing of the other, so that a
recursive schema of any JSON doubles nothing.
"""


class _Level(NamedTuple):
    own: Work
    """At one depth."""
    most: Work
    """Down to it."""


@dataclass(slots=True)
class _Levels:
    """What one schema costs at each depth, as far as that was asked."""

    known: list[_Level] = field(default_factory=list)
    steps_left: int = _MAX_STEPS


@dataclass(slots=True)
class _Inside:
    """What the elements of an array, or the members of an object, are held against. Schemas that lead nowhere are
    counted at once."""

    every: list[Json]
    """Each element or member is, against each of them."""
    named: list[Json]
    """Each is against one of them, by its place or name."""
    leaves: Work
    """What those of `every` cost that lead nowhere."""
    leaf: Work
    """And of `named`, the one that costs most."""


@dataclass(slots=True)
class _Parts:
    """What one schema leads to."""

    own: Work
    below: Work
    """What it costs itself for everything inside of its value."""
    same: list[Json]
    inside: tuple[_Inside, _Inside]
    """Of an array, and of an object."""


class Effort:
    """The work that one schema makes.

    A value is looked at by its schema and by all that this refers to and branches into, `if`, `not` and
    `dependentSchemas` included; then each of its members by theirs. References let a short schema make that grow with
    two to the power of its length, or of the value's depth.
    """

    def __init__(self, schema: Json, document: Document) -> None:
        self._root = schema
        self._document = document
        self._known: dict[tuple[int, int], _Both] = {}
        self._parts: dict[int, _Parts] = {}
        self._levels: dict[int, _Levels] = {}
        self._steps = 0
        self.patterns_that_look_around = 0
        self.most_positions = 0
        """Of one pattern: memory is needed for each."""
        self._count_patterns(schema)

    def most(self, depth: int, schema: Json = None) -> Work:
        """For each part of a value that is nested so deep, at most; `ENDLESS` if it is too much to be counted.

        :param schema: one of the document; None: the whole
        """
        return self._level(depth, schema).most

    def at(self, depth: int, schema: Json = None) -> Work:
        """For each part of a value that stands so deep in it, at most; as :meth:`most`."""
        return self._level(depth, schema).own

    def _level(self, depth: int, schema: Json) -> _Level:
        schema = self._root if schema is None else schema
        levels = self._levels.setdefault(id(schema), _Levels())
        known = levels.known
        # Where no schema stands, none stands deeper.
        while len(known) <= depth and (not known or known[-1].own.schemas):
            self._steps = levels.steps_left
            try:
                own = self._both(schema, len(known), MAX_CHAIN)[2]
            except _TooManyError:
                own = _ENDLESS
            levels.steps_left = max(self._steps, 0)
            known.append(_Level(own, _most(own, known[-1].most) if known else own))
        return known[min(depth, len(known) - 1)]

    def _both(self, schema: Json, depth: int, chain: int) -> _Both:
        if not isinstance(schema, dict):
            return (_NONE, _NONE, _NONE) if depth else (_ONE, _ONE, _ONE)
        key = (id(schema), depth)
        known = self._known.get(key)
        if known is not None:
            return known
        endless = _ENDLESS, _ENDLESS, _ENDLESS
        if chain == 0:
            return endless
        # Until it is known, it is endless: for what leads back to itself without a step into the value.
        self._known[key] = endless
        try:
            both = self._sum(self._parts_of(schema), depth, chain)
        except _TooManyError:
            del self._known[key]
            raise
        self._known[key] = both
        return both

    def _sum(self, parts: _Parts, depth: int, chain: int) -> _Both:
        own = parts.below if depth else parts.own
        array, an_object = list(own), list(own)
        for part in parts.same:
            self._step()
            both = self._both(part, depth, chain - 1)
            _add(array, both[0])
            _add(an_object, both[1])
        if depth:
            self._add_inside(array, parts.inside[0], depth)
            self._add_inside(an_object, parts.inside[1], depth)
        one, other = _bounded(array), _bounded(an_object)
        return one, other, _most(one, other)

    def _add_inside(self, total: list[int], inside: _Inside, depth: int) -> None:
        most = _NONE
        if depth == 1:
            _add(total, inside.leaves)
            most = inside.leaf
        for part in inside.every:
            self._step()
            _add(total, self._both(part, depth - 1, MAX_CHAIN)[2])
        for part in inside.named:
            self._step()
            most = _most(most, self._both(part, depth - 1, MAX_CHAIN)[2])
        _add(total, most)

    def _step(self) -> None:
        self._steps -= 1
        if self._steps < 0:
            raise _TooManyError

    def _parts_of(self, schema: dict[str, Json]) -> _Parts:
        known = self._parts.get(id(schema))
        if known is None:
            own, same = list(_own_work(schema)), []
            for part in self._same(schema):
                if _leads(part):
                    same.append(part)
                else:
                    _add(own, _leaf(part))
            inside = (
                _inside(_elements(schema), _listed(schema.get("prefixItems"))),
                _inside(_members(schema), _listed(schema.get("properties"))),
            )
            known = self._parts[id(schema)] = _Parts(Work(*own), _below(schema), same, inside)
        return known

    def _same(self, schema: dict[str, Json]) -> Iterator[Json]:
        """What the same value is held against too."""
        target = self._document.target(id(schema))
        if target is not None:
            yield target
        for keyword in SAME_LISTS:
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
                for pattern in _patterns(one):
                    self.patterns_that_look_around += looks_around(pattern)
                    self.most_positions = max(self.most_positions, positions(pattern))


class _TooManyError(Exception):
    """More schemas than :data:`_MAX_SCHEMAS`."""


def _own_work(schema: dict[str, Json]) -> Work:
    patterns = schema.get("patternProperties")
    value = 1 + (len(patterns) if isinstance(patterns, dict) else 0)
    character = fraction = 0
    for constants in (_listed(schema.get("enum")), [schema["const"]] if "const" in schema else []):
        nodes, integers, fractions = _counted(constants)
        within = nodes - len(constants)
        # Texts are looked up; numbers and what holds something are compared with each.
        if integers or fractions or within or any(isinstance(one, (dict, list)) for one in constants):
            value += nodes + _NUMBERS_COMPARED * (fractions + (integers if within else 0))
            fraction += _NUMBERS_COMPARED * integers
    if schema.get("uniqueItems"):
        value += _UNIQUE
    for keyword in _FRACTIONS:
        if keyword in schema:
            value += 20 if isinstance(schema[keyword], float) else 0
            fraction += 4 * _NUMBERS_COMPARED if keyword == "multipleOf" else 0
    for pattern in _patterns(schema):
        steps = steps_of(pattern)
        value, character = value + steps.once, character + steps.each
    character += sum(50 for keyword in ("contentMediaType", "contentEncoding") if keyword in schema)
    return Work(value, character, fraction, 1)


def _below(schema: dict[str, Json]) -> Work:
    return Work(_UNIQUE, 0, _UNIQUE * _NUMBERS_COMPARED) if schema.get("uniqueItems") else _NONE


def _inside(every: Iterable[Json], named: Iterable[Json]) -> _Inside:
    leaves, leaf = [0, 0, 0, 0], _NONE
    of_every: list[Json] = []
    of_named: list[Json] = []
    for part in every:
        if _leads(part):
            of_every.append(part)
        else:
            _add(leaves, _leaf(part))
    for part in named:
        if _leads(part):
            of_named.append(part)
        else:
            leaf = _most(leaf, _leaf(part))
    return _Inside(of_every, of_named, Work(*leaves), leaf)


def _leads(part: Json) -> bool:
    return isinstance(part, dict) and not _LEADING.isdisjoint(part)


def _leaf(part: Json) -> Work:
    return _own_work(part) if isinstance(part, dict) else _ONE


def _most(one: Work, other: Work) -> Work:
    if one is other or other is _NONE:
        return one
    value, character, fraction, schemas = one
    is_least = value <= other[0] and character <= other[1] and fraction <= other[2] and schemas <= other[3]
    return other if is_least else Work(*map(max, one, other))


def _bounded(total: list[int]) -> Work:
    return Work(*total) if max(total) < ENDLESS else Work(*(min(one, ENDLESS) for one in total))


def _add(total: list[int], more: Work) -> None:
    total[0] += more[0]
    total[1] += more[1]
    total[2] += more[2]
    total[3] += more[3]


def _patterns(schema: dict[str, Json]) -> list[str]:
    named = schema.get("patternProperties")
    found = [schema.get("pattern"), *(named if isinstance(named, dict) else ())]
    return [pattern for pattern in found if isinstance(pattern, str)]


def _elements(schema: dict[str, Json]) -> Iterator[Json]:
    """What every element may be held against, beside what is said of one place."""
    return (part for keyword in _INNER_SINGLES if keyword in _OF_ARRAYS for part in _parts(schema.get(keyword)))


def _members(schema: dict[str, Json]) -> Iterator[Json]:
    """What every member may be held against, beside what is said of one name."""
    for keyword in _INNER_SINGLES:
        if keyword not in _OF_ARRAYS:
            yield from _parts(schema.get(keyword))
    named = schema.get("patternProperties")
    if isinstance(named, dict):
        yield from named.values()


def _parts(part: Json) -> list[Json]:
    return part if isinstance(part, list) else [part] if isinstance(part, dict) else []


def _listed(parts: Json) -> list[Json]:
    return list(parts.values()) if isinstance(parts, dict) else parts if isinstance(parts, list) else []


def _counted(constants: list[Json]) -> tuple[int, int, int]:
    """How many values stand there, how many integers among them, and how many other numbers."""
    nodes = integers = fractions = 0
    waiting = list(constants)
    while waiting:
        one = waiting.pop()
        nodes += 1
        if isinstance(one, dict):
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
        elif isinstance(one, float):
            fractions += 1
        elif isinstance(one, int) and not isinstance(one, bool):
            integers += 1
    return nodes, integers, fractions
