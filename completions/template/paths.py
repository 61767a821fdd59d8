"""Where in the variables a value comes from, as far as the text of a template tells."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

MAX_PATHS = 8
"""A value may come from several places (`a or b`); beyond this many it counts as coming from nowhere."""

MAX_SHOWN = 512
"""Characters of a path that a render tells."""


class Step(Enum):
    """A step that is no fixed key or index."""

    EACH = "[]"
    """Every element: the target of a loop."""
    ANY = "[*]"
    """An element chosen by a value that is only known when rendering."""
    PAIR = "[=]"
    """Every member of an object as a pair of name and value."""


Path: TypeAlias = tuple[str | int | Step, ...]
"""From a variable's name down: a name is a member of an object, a number an element of an array."""


def text_of(path: Path) -> str:
    """As a person writes it: `users[].address.city`."""
    pieces: list[str] = []
    for step in path:
        if isinstance(step, str):
            pieces.append(f".{step}" if pieces else step)
        else:
            pieces.append(step.value if isinstance(step, Step) else f"[{step}]")
    return "".join(pieces)


def shown(path: Path) -> str:
    """As :func:`text_of`, cut: a render makes one of these for each element that is missing."""
    text = text_of(path)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known of an expression's value: the places in the variables that it may be."""

    paths: tuple[Path, ...] = ()
    elements: tuple[Path, ...] | None = None
    """The places that its elements may be; None: the elements of what is at `paths`."""
    is_loop: bool = False
    """It is the special variable of a loop, and `elements` are the loop's."""

    def each(self) -> tuple[Path, ...]:
        """The places that its elements may be."""
        if self.elements is not None:
            return self.elements
        return tuple((*path, Step.EACH) for path in self.paths)

    def at(self, step: str | int | Step) -> Origin:
        """What one step down may be."""
        if self.elements is not None:
            return Origin(() if isinstance(step, str) else self.elements)
        return Origin(tuple((*path, step) for path in self.paths))

    def part(self, index: int) -> Origin:
        """What its element at `index` may be, when it is unpacked."""
        paths: list[Path] = []
        for path in self.paths:
            if path[-1] is not Step.PAIR:
                paths.append((*path, index))
            elif index == 1:
                paths.append((*path[:-1], Step.ANY))
        return Origin(tuple(paths))


NOWHERE = Origin()


def either(*origins: Origin) -> Origin:
    """What a choice among values may be."""
    paths = tuple(dict.fromkeys(path for origin in origins for path in origin.paths))
    elements = None
    if any(origin.elements is not None for origin in origins):
        elements = tuple(dict.fromkeys(path for origin in origins for path in origin.each()))
    if len(paths) > MAX_PATHS or len(elements or ()) > MAX_PATHS:
        return NOWHERE
    return Origin(paths, elements)


def steps_of(attribute: str) -> list[str | int]:
    """`a.0.b`, as Jinja's `attribute` arguments mean it."""
    return [int(step) if step.isdecimal() and len(step) < 10 else step for step in attribute.split(".")]


def placed(place: str, attribute: str) -> str:
    """An `attribute` argument that knows the place of the elements, so that a missing one can be named in full."""
    return f"{place}\0{attribute}"


def unplaced(attribute: str) -> tuple[str, str]:
    """The inverse of :func:`placed`; no place for an attribute without one."""
    place, _, name = attribute.rpartition("\0")
    return place, name
