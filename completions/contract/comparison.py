"""Comparing two contracts: total, whatever the schemas are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from completions.canonical import canonical
from completions.contract import paths, words
from completions.contract.contract import Contract
from completions.contract.difference import Comparison, Difference, Kind
from completions.contract.document import ANYTHING, NOTES, Document, Place, malformed, too_large
from completions.contract.limits import in_words
from completions.contract.matching import Matching
from completions.contract.response_format import PATH, SCHEMA_PATH, response_format_of
from completions.contract.shape import Alternative, Shapes
from kit.errors import Invalid
from kit.json import Json

VARIABLES = "variables"
_MAX_LEVELS = 128
_MAX_REVISITS = 1_000
"""How often a pair of schemas that was compared before is compared again, to name the other paths that lead to it."""
_MAX_UNDECLARED = 32
"""Required names without a property that are told of one object."""

_SCALARS = ("string", "integer", "number", "boolean")
_SCALAR_KEYWORDS = NOTES | {"type", "minLength", "maxLength", "pattern", "minimum", "maximum"}

Pair: TypeAlias = tuple[Place, Place]


def compare(held: Contract, offered: Contract) -> Comparison:
    """What callers who rely on `held` would find different in `offered`.

    Different properties or property types are a difference. Title, description, examples, default, format, enum,
    limits and additionalProperties are none, but a value that is no longer allowed, a field that is newly required,
    other members of another type, and any change of the limits are warned of; in a response format also a value that is
    newly allowed, and a field that is no longer required. `[T, "null"]`, `anyOf [T, null]` and an optional T are the
    same. Unions are sets, and a number includes the integers. What has no type takes the other side's; where the
    contract has none, or neither has, there is a warning, unless the schemas are equal. `not`, `if` and what depends on
    them are limits.

    :raises Invalid: where one of the schemas cannot be judged, with its path: as
        :class:`completions.contract.document.Document`; `RESPONSE_FORMAT_MALFORMED`
    """
    variables = compare_variables(held.variables, offered.variables)
    answers = compare_response_formats(held.response_format, offered.response_format)
    return Comparison(variables.differences + answers.differences, variables.warnings + answers.warnings)


def removed_last_user(held: Contract, offered: Contract) -> tuple[str, ...]:
    """What callers may send by `held` and nothing in `offered` uses: paths such as `variables.country`.

    :raises Invalid: as :func:`compare`
    """
    compared = compare_variables(held.variables, offered.variables)
    return tuple(one.path for one in compared.differences if one.kind is Kind.PROPERTY_REMOVED)


def compare_variables(held: Json, offered: Json) -> Comparison:
    """The variables' part of :func:`compare`; no schema at all means no variables."""
    if held is None and offered is None:
        return Comparison()
    before = variables_of(held)
    return Comparison() if _is_equal(held, offered) else compare_read(before, variables_of(offered))


def compare_response_formats(held: Json, offered: Json) -> Comparison:
    """The response format's part of :func:`compare`."""
    before, after = response_format_of(held), response_format_of(offered)
    if before.form == after.form == "json_schema":
        one = answers_of(before.schema)
        equal = _is_equal(before.schema, after.schema)
        return Comparison() if equal else compare_answers(one, answers_of(after.schema))
    return compare_forms(before.form, after.form)


def compare_read(held: Variables, offered: Variables) -> Comparison:
    """As :func:`compare_variables`, of what is read already."""
    wording = _Words("callers do not send it", "callers may still send it")
    return _Walk(held.shapes, offered.shapes, wording).run(VARIABLES, held.place, offered.place)


def compare_answers(held: Variables, offered: Variables) -> Comparison:
    """As :func:`compare_response_formats`, of schemas that are read already."""
    wording = _Words("callers do not expect it", "callers rely on it", of_answers=True)
    return _Walk(held.shapes, offered.shapes, wording).run(SCHEMA_PATH, held.place, offered.place)


def compare_forms(held: str, offered: str) -> Comparison:
    """Of response formats without schemas."""
    if held == offered:
        return Comparison()
    sentence = f"{PATH} was {held} and is {offered}"
    return Comparison((Difference(PATH, Kind.RESPONSE_FORMAT_CHANGED, held, offered, sentence),))


def _is_equal(held: Json, offered: Json) -> bool:
    """Whether there is nothing to tell. One of them has to be read all the same: it may be none."""
    if held is offered:
        return True
    try:
        # Python holds true equal to 1.
        return held == offered and canonical(held) == canonical(offered)
    except Invalid:
        return False


@dataclass(frozen=True, slots=True)
class Variables:
    """A schema that was read: of variables, as an object, or of answers."""

    shapes: Shapes
    place: Place


def variables_of(schema: Json) -> Variables:
    """Read a schema of variables; without one there are none.

    :raises Invalid: as :func:`compare`
    """
    if isinstance(schema, dict) and "required" in schema and schema.keys().isdisjoint(("type", "$ref")):
        # Names are required of objects, and nothing else says that it is one.
        schema = {"type": "object", **schema}
    document = Document({} if schema is None else schema, VARIABLES)
    shapes = Shapes(document)
    place = document.root | document.place({"type": "object"})
    if not shapes.at(place):
        raise malformed(VARIABLES, "must describe an object")
    return Variables(shapes, place)


def answers_of(schema: Json) -> Variables:
    """Read a schema of answers.

    :raises Invalid: as :func:`compare`
    """
    document = Document(schema, SCHEMA_PATH)
    return Variables(Shapes(document), document.root)


@dataclass(frozen=True, slots=True)
class _Words:
    """How the two directions differ."""

    added: str
    removed: str
    of_answers: bool = False


@dataclass(frozen=True, slots=True)
class _Visit:
    path: str
    held: Place
    offered: Place
    levels: int
    is_lenient: bool
    """Below additionalProperties, where a difference is a warning."""
    above: _Visit | None

    @property
    def pair(self) -> Pair:
        return (self.held, self.offered)

    def is_circle(self) -> bool:
        above = self.above
        while above is not None:
            if above.pair == self.pair:
                return True
            above = above.above
        return False


@dataclass(slots=True)
class _Walk:
    """One comparison of two schemas, from place to place without recursion."""

    held: Shapes
    offered: Shapes
    words: _Words
    _matching: Matching = field(init=False)
    _waiting: list[_Visit] = field(default_factory=list)
    _differences: dict[tuple[str, Kind], Difference] = field(default_factory=dict)
    _warnings: dict[tuple[str, Kind], Difference] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._matching = Matching(self.held, self.offered)

    def run(self, path: str, held: Place, offered: Place) -> Comparison:
        seen: dict[tuple[Pair, bool], None] = {}
        revisits = _MAX_REVISITS
        self._waiting.append(_Visit(path, held, offered, _MAX_LEVELS, False, None))
        while self._waiting:
            visit = self._waiting.pop()
            key = (visit.pair, visit.is_lenient)
            if key in seen:
                # Two paths may lead to one schema, and both are named; a recursive schema has endlessly many.
                revisits -= 1
                if revisits < 0 or visit.is_circle():
                    continue
            seen[key] = None
            if visit.levels == 0:
                raise too_large(path, f"must not nest more than {_MAX_LEVELS} levels")
            self._matching.step()
            self._compare(visit)
        return Comparison(_sorted(self._differences), _sorted(self._warnings))

    def _compare(self, visit: _Visit) -> None:
        before, after = self.held.at(visit.held), self.offered.at(visit.offered)
        if after is None:
            # It takes its type from the contract, if that has one.
            if before is None:
                self._warn(
                    visit.path,
                    Kind.TYPE_UNKNOWN,
                    words.ANY_TYPE,
                    words.ANY_TYPE,
                    "has no known type and is not checked",
                )
            return
        if before is None:
            now = words.type_of(self.offered, visit.offered)
            self._warn(visit.path, Kind.TYPE_UNKNOWN, words.ANY_TYPE, now, f"had no known type and is {now}")
            return
        if {one.kind for one in before} != {one.kind for one in after}:
            self._type_changed(visit)
        for kind in dict.fromkeys(one.kind for one in before):
            of_kind = [one for one in before if one.kind == kind], [one for one in after if one.kind == kind]
            if of_kind[1]:
                self._compare_kind(visit, kind, *of_kind)

    def _compare_kind(
        self, visit: _Visit, kind: str, before: Sequence[Alternative], after: Sequence[Alternative]
    ) -> None:
        if len(before) == len(after) == 1:
            self._descend(visit, before[0], after[0])
            return
        matches = self._matching.of(before, after)
        for one, other in matches.pairs:
            self._descend(visit, one, other)
        if len(matches.left) == len(matches.right) == 1:
            self._descend(visit, matches.left[0], matches.right[0])
        elif matches.left or matches.right:
            self._type_changed(visit)

    def _descend(self, visit: _Visit, one: Alternative, other: Alternative) -> None:
        self._compare_constants(visit, one, other)
        self._compare_limits(visit, one, other)
        if one.kind == "object":
            self._compare_members(visit, one, other)
        elif one.kind == "array":
            length = max(len(one.positions), len(other.positions))
            for index in range(length):
                self._wait(visit, f"{visit.path}[{index}]", one.at(index), other.at(index))
            if not (length and one.items == other.items == ANYTHING):
                self._wait(visit, paths.element(visit.path), one.items, other.items)

    def _compare_members(self, visit: _Visit, one: Alternative, other: Alternative) -> None:
        for name, place in one.properties.items():
            path = _member(visit.path, name)
            if name in other.properties:
                self._wait(visit, path, place, other.properties[name])
            else:
                was = words.type_of(self.held, place)
                self._differ(
                    visit, path, Kind.PROPERTY_REMOVED, was, "absent", f"({was}) is gone: {self.words.removed}"
                )
        for name, place in other.properties.items():
            if name not in one.properties:
                now = words.type_of(self.offered, place)
                path = _member(visit.path, name)
                self._differ(visit, path, Kind.PROPERTY_ADDED, "absent", now, f"({now}) is new: {self.words.added}")
        common = one.properties.keys() & other.properties.keys()
        # One that no property declares has to be given all the same.
        undeclared = other.required - one.required - other.properties.keys() - one.properties.keys()
        for name in (*((other.required - one.required) & common), *sorted(undeclared)[:_MAX_UNDECLARED]):
            path = paths.member(visit.path, name)
            self._warn(path, Kind.REQUIRED_ADDED, "optional", "required", "was optional and is required")
        if self.words.of_answers:
            for name in (one.required - other.required) & common:
                path = paths.member(visit.path, name)
                self._warn(path, Kind.REQUIRED_REMOVED, "required", "optional", "was required and is optional")
        if one.others and other.others:
            self._wait(visit, paths.values(visit.path), one.others, other.others, is_lenient=True)
        elif self.held.at(one.others) is not None or self.offered.at(other.others) is not None:
            was, now = words.type_of(self.held, one.others), words.type_of(self.offered, other.others)
            self._limit_changed(paths.values(visit.path), was, now)

    def _compare_constants(self, visit: _Visit, one: Alternative, other: Alternative) -> None:
        before, after = one.allowed, other.allowed
        if before == after or one.kind in ("object", "array"):
            return
        if before is not None and after is not None and not before & after:
            kind, verb = Kind.ENUM_DISJOINT, "shares no value with before"
        elif after is not None and (before is None or before - after):
            kind, verb = Kind.ENUM_NARROWED, "allows less"
        elif self.words.of_answers:
            kind, verb = Kind.ENUM_WIDENED, "allows more"
        else:
            return
        was, now = words.values_of(before), words.values_of(after)
        self._warn(visit.path, kind, was, now, f"{verb}: it was {was} and is {now}")

    def _compare_limits(self, visit: _Visit, one: Alternative, other: Alternative) -> None:
        if one.limits != other.limits:
            self._limit_changed(visit.path, in_words(one.limits - other.limits), in_words(other.limits - one.limits))

    def _limit_changed(self, path: str, before: str, after: str) -> None:
        self._warn(path, Kind.LIMIT_CHANGED, before, after, f"has other limits: they were {before} and are {after}")

    def _type_changed(self, visit: _Visit) -> None:
        was, now = words.type_of(self.held, visit.held), words.type_of(self.offered, visit.offered)
        if was == now:
            was = words.type_with_names(self.held, visit.held)
            now = words.type_with_names(self.offered, visit.offered)
        if was == now:
            was, now = f"one union of {was}", f"another union of {now}"
        self._differ(visit, visit.path, Kind.TYPE_CHANGED, was, now, f"was {was} and is {now}")

    def _wait(self, visit: _Visit, path: str, held: Place, offered: Place, *, is_lenient: bool = False) -> None:
        if len(held) == len(offered) == 1 and self._are_same_scalars(*held, *offered):
            return
        is_lenient = is_lenient or visit.is_lenient
        self._waiting.append(_Visit(path, held, offered, visit.levels - 1, is_lenient, visit))

    def _are_same_scalars(self, held: int, offered: int) -> bool:
        """Whether both say the same of a text, a number or a boolean, and no more than its type and limits: the most
        frequent case by far, and nothing to be worked out."""
        one = self.held.document.schema(held)
        if one is None or one.get("type") not in _SCALARS or not one.keys() <= _SCALAR_KEYWORDS:
            return False
        return one == self.offered.document.schema(offered)

    def _differ(self, visit: _Visit, path: str, kind: Kind, before: str, after: str, saying: str) -> None:
        if visit.is_lenient:
            self._warn(path, Kind.MEMBERS_CHANGED, before, after, saying)
        else:
            self._differences.setdefault((path, kind), Difference(path, kind, before, after, f"{path} {saying}"))

    def _warn(self, path: str, kind: Kind, before: str, after: str, saying: str) -> None:
        self._warnings.setdefault((path, kind), Difference(path, kind, before, after, f"{path} {saying}"))


def _sorted(found: dict[tuple[str, Kind], Difference]) -> tuple[Difference, ...]:
    return tuple(found[key] for key in sorted(found))


def _member(path: str, name: str) -> str:
    return (
        f"{path}.{name}" if name.startswith("/") and name.endswith("/") and len(name) > 1 else paths.member(path, name)
    )
