"""Paths as people read them: `variables.trips[].city`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

_PLAIN = re.compile(r"[^\W\d][\w-]*")
_MAX_NAME = 100


def member(path: str, name: str) -> str:
    """The path of a member. A name that would not read well is quoted, as `variables["a b"]`, and cut if it is long."""
    if len(name) <= _MAX_NAME and _PLAIN.fullmatch(name):
        return f"{path}.{name}"
    shown = name if len(name) <= _MAX_NAME else name[:_MAX_NAME] + "…"
    # json.dumps writes ASCII, so that a lone surrogate or a control character can be sent and read.
    return f"{path}[{json.dumps(shown)}]"


def pattern(path: str, expression: str) -> str:
    """The path of the members whose names match, as `variables./^x-/`."""
    return f"{path}./{json.dumps(expression[:_MAX_NAME])[1:-1]}/"


def element(path: str) -> str:
    """The path of every element of an array."""
    return f"{path}[]"


def values(path: str) -> str:
    """The path of the members that have no name of their own, as `variables.prices.*`."""
    return f"{path}.*"


def place(path: str, steps: Iterable[str | int]) -> str:
    """The path of one value in an instance, as `variables.trips[2].city`."""
    for step in steps:
        path = f"{path}[{step}]" if isinstance(step, int) else member(path, step)
    return path
