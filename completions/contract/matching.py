"""Which alternatives of two unions are the same: unions compare as sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from completions.contract.document import ANYTHING, Place, too_large
from completions.contract.shape import Alternative, Shapes

_MAX_STEPS = 6_000
_MAX_LEVELS = 64
_MAX_LOOK = 3


class Matches(NamedTuple):
    """The alternatives of two unions, side by side."""

    pairs: list[tuple[Alternative, Alternative]]
    """The same on both sides."""
    left: list[Alternative]
    right: list[Alternative]
    """Without one on the other side."""


class Matching:
    """Equality of shapes on two sides, of recursive ones too: two are equal unless a finite look shows a difference.

    A pair that is being compared is taken as equal; if that leads to a difference, all that was concluded from it is
    forgotten. What is found different stays so, since it was found under the kindest assumptions.
    Source: R. Amadio, L. Cardelli (1993), "Subtyping recursive types", TOPLAS 15, 575-631.
    """

    def __init__(self, held: Shapes, offered: Shapes) -> None:
        self._held = held
        self._offered = offered
        self._equal: dict[tuple[Place, Place], None] = {}
        self._unequal: set[tuple[Place, Place]] = set()
        self._looks: dict[tuple[int, Place, int], object] = {}
        self._steps = _MAX_STEPS

    def step(self) -> None:
        """Count one comparison.

        :raises Invalid: `SCHEMA_TOO_LARGE` when there were too many
        """
        self._steps -= 1
        if self._steps < 0:
            raise too_large(self._offered.document.path, "has too many alternatives or references to be compared")

    def of(self, held: Sequence[Alternative], offered: Sequence[Alternative]) -> Matches:
        """Which of the one are among the other."""
        pairs: list[tuple[Alternative, Alternative]] = []
        by_look: dict[object, list[Alternative]] = {}
        for other in offered:
            by_look.setdefault(self._look(self._offered, other, _MAX_LOOK), []).append(other)
        left: list[Alternative] = []
        found: set[int] = set()
        for one in held:
            # What looks the same first: a permuted union costs as many comparisons as it has alternatives.
            likely = by_look.get(self._look(self._held, one, _MAX_LOOK), [])
            match = self._first(one, likely) or self._first(one, [other for other in offered if other not in likely])
            if match is None:
                left.append(one)
            else:
                pairs.append((one, match))
                found.add(id(match))
        right = [
            other
            for other in offered
            if id(other) not in found and not any(self._same(one, other, _MAX_LEVELS) for one in held)
        ]
        return Matches(pairs, left, right)

    def _first(self, one: Alternative, others: Sequence[Alternative]) -> Alternative | None:
        return next((other for other in others if self._same(one, other, _MAX_LEVELS)), None)

    def _same(self, one: Alternative, other: Alternative, levels: int) -> bool:
        self.step()
        if one.kind != other.kind:
            return False
        if one.kind == "object":
            return one.properties.keys() == other.properties.keys() and all(
                self._places(place, other.properties[name], levels) for name, place in one.properties.items()
            )
        if one.kind == "array":
            length = max(len(one.positions), len(other.positions))
            return all(self._places(one.at(index), other.at(index), levels) for index in range(length + 1))
        return True

    def _places(self, held: Place, offered: Place, levels: int) -> bool:
        pair = (held, offered)
        if pair in self._equal:
            return True
        if pair in self._unequal:
            return False
        if levels == 0:
            raise too_large(self._offered.document.path, f"must not nest more than {_MAX_LEVELS} levels in a union")
        mark = len(self._equal)
        self._equal[pair] = None
        if self._shapes(held, offered, levels - 1):
            return True
        while len(self._equal) > mark:
            self._equal.popitem()
        self._unequal.add(pair)
        return False

    def _shapes(self, held: Place, offered: Place, levels: int) -> bool:
        before, after = self._held.at(held), self._offered.at(offered)
        if before is None or after is None:
            return True
        if {one.kind for one in before} != {one.kind for one in after}:
            return False
        return all(any(self._same(one, other, levels) for other in after) for one in before) and all(
            any(self._same(one, other, levels) for one in before) for other in after
        )

    def _look(self, shapes: Shapes, alternative: Alternative, levels: int) -> object:
        """What can be seen of an alternative at once, constants included, so that tagged unions pair by their tags."""

        def below(place: Place) -> object:
            return self._look_at(shapes, place, levels - 1)

        return (
            alternative.kind,
            alternative.allowed,
            alternative.required,
            alternative.limits,
            frozenset((name, below(place)) for name, place in alternative.properties.items()),
            below(alternative.others),
            tuple(map(below, alternative.positions)),
            below(alternative.items),
        )

    def _look_at(self, shapes: Shapes, place: Place, levels: int) -> object:
        if place == ANYTHING or levels == 0:
            return None
        key = (id(shapes), place, levels)
        if key not in self._looks:
            self.step()
            shape = shapes.at(place)
            looks = None if shape is None else frozenset(self._look(shapes, one, levels) for one in shape)
            self._looks[key] = None if looks is None else hash(looks)
        return self._looks[key]
