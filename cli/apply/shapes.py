"""What values a file may hold where: a shape reads a value, or notes what is wrong with it and goes on."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from cli.apply.text import Node
from kit.errors import Violation
from kit.json import Json

_MAX_PROBLEMS: Final = 20
_DURATION: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h)\Z")
_SECONDS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


@dataclass(slots=True)
class Problems:
    """All that is wrong, so that it can be put right at once."""

    found: list[Violation] = field(default_factory=list)

    def add(self, node: Node, path: str, problem: str) -> None:
        """:param problem: what follows the path in a sentence"""
        self.note(Violation(f"{node.where} {path}".rstrip(), problem))

    def note(self, problem: Violation) -> None:
        """One that has its place already."""
        if len(self.found) < _MAX_PROBLEMS:
            self.found.append(problem)


Shape: TypeAlias = Callable[[Node, str, Problems], Json]
"""Reads the value at a path; None when it is wrong, which was noted then."""


def kind_of(node: Node) -> str:
    """In a person's words."""
    match node.value:
        case None:
            return "nothing"
        case bool():
            return "a truth"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
    return "a mapping"


def text(*, pattern: str = "", meaning: str = "", longest: int = 1 << 20) -> Shape:
    """A text.

    :param meaning: what the pattern asks for, in words
    """
    asked = re.compile(pattern)

    def read(node: Node, path: str, problems: Problems) -> Json:
        if not isinstance(node.value, str):
            hint = ": put it in quotes" if isinstance(node.value, (bool, int, float)) else ""
            problems.add(node, path, f"must be a text, not {kind_of(node)}{hint}")
        elif len(node.value) > longest:
            problems.add(node, path, f"must have at most {longest} characters")
        elif not asked.match(node.value):
            problems.add(node, path, f"must be {meaning}")
        else:
            return node.value
        return None

    return read


def one_of(words: Collection[str]) -> Shape:
    """One of some words."""

    def read(node: Node, path: str, problems: Problems) -> Json:
        if isinstance(node.value, str) and node.value in words:
            return node.value
        problems.add(node, path, f"must be one of {', '.join(words)}")
        return None

    return read


def number(low: float, high: float, *, whole: bool = False) -> Shape:
    """A number within bounds."""

    def read(node: Node, path: str, problems: Problems) -> Json:
        value = node.value
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            is_whole = not whole or float(value).is_integer()
            if is_whole and math.isfinite(value) and low <= value <= high:
                return int(value) if whole else value
        bounds = f"from {low:.20g} to {high:.20g}"
        problems.add(node, path, f"must be a {'whole ' if whole else ''}number {bounds}")
        return None

    return read


def truth(node: Node, path: str, problems: Problems) -> Json:
    """`true` or `false`."""
    if isinstance(node.value, bool):
        return node.value
    problems.add(node, path, "must be true or false")
    return None


def duration(low: float, high: float) -> Shape:
    """A time such as `30s`, `1.5m` or `500ms`; read as seconds."""

    def read(node: Node, path: str, problems: Problems) -> Json:
        found = _DURATION.match(node.value) if isinstance(node.value, str) else None
        if found is not None:
            seconds = float(found[1]) * _SECONDS[found[2]]
            if low <= seconds <= high:
                return round(seconds, 9)
        problems.add(node, path, f"must be a time such as 30s or 500ms, from {low:g}s to {high:g}s")
        return None

    return read


def json_object(node: Node, path: str, problems: Problems) -> Json:
    """A mapping of anything, passed on as JSON."""
    if isinstance(node.value, dict):
        return node.plain()
    problems.add(node, path, f"must be a mapping, not {kind_of(node)}")
    return None


def json_text_or_object(node: Node, path: str, problems: Problems) -> Json:
    """A text, or a mapping of anything."""
    return node.value if isinstance(node.value, str) else json_object(node, path, problems)


def listing(shape: Shape, *, most: int) -> Shape:
    """A list."""

    def read(node: Node, path: str, problems: Problems) -> Json:
        if not isinstance(node.value, list):
            problems.add(node, path, f"must be a list, not {kind_of(node)}")
        elif len(node.value) > most:
            problems.add(node, path, f"must have at most {most} elements")
        else:
            return [shape(each, f"{path}[{index}]", problems) for index, each in enumerate(node.value)]
        return None

    return read


def keyed(shape: Shape, *, name: Shape, most: int) -> Shape:
    """A mapping of names that the author chooses."""

    def read(node: Node, path: str, problems: Problems) -> Json:
        if not isinstance(node.value, dict):
            problems.add(node, path, f"must be a mapping by name, not {kind_of(node)}")
        elif len(node.value) > most:
            problems.add(node, path, f"must have at most {most} members")
        else:
            found: dict[str, Json] = {}
            for key, each in node.value.items():
                below = f"{path}.{key}" if path else key
                name(Node(key, each.line, each.source), below, problems)
                found[key] = shape(each, below, problems)
            return found
        return None

    return read


def mapping(fields: Mapping[str, Shape], *, required: Collection[str] = ()) -> Shape:
    """A mapping of fields that are known."""

    def read(node: Node, path: str, problems: Problems) -> Json:
        if not isinstance(node.value, dict):
            problems.add(node, path, f"must be a mapping, not {kind_of(node)}")
            return None
        found: dict[str, Json] = {}
        for name, each in node.value.items():
            below = f"{path}.{name}" if path else name
            if name not in fields:
                problems.add(each, below, f"is not a field here; there are {', '.join(fields)}")
            else:
                found[name] = fields[name](each, below, problems)
        for name in required:
            if name not in node.value:
                problems.add(node, f"{path}.{name}" if path else name, "is missing")
        return found

    return read
