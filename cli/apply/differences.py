"""In what two documents differ, and how people see it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from rich.text import Text

from kit.json import dump

ABSENT: Final = object()
"""In the place of a value that one side lacks."""
_MAX_SHOWN: Final = 300


@dataclass(frozen=True, slots=True)
class Difference:
    """One place in which the sides differ."""

    path: str
    before: object
    after: object
    """JSON, or ABSENT."""


def differences(before: object, after: object, path: str = "") -> Iterator[Difference]:
    """By path, members in the order of the files; equal numbers are equal however they are written."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in (*after, *(name for name in before if name not in after)):
            below = f"{path}.{name}" if path else name
            yield from differences(before.get(name, ABSENT), after.get(name, ABSENT), below)
    elif isinstance(before, list) and isinstance(after, list):
        for index in range(max(len(before), len(after))):
            sides = [side[index] if index < len(side) else ABSENT for side in (before, after)]
            yield from differences(sides[0], sides[1], f"{path}[{index}]")
    elif isinstance(after, dict) and after and before is ABSENT:
        for name, value in after.items():
            yield from differences(ABSENT, value, f"{path}.{name}" if path else name)
    elif before is ABSENT and isinstance(after, list) and after and all(isinstance(each, dict) for each in after):
        for index, value in enumerate(after):
            yield from differences(ABSENT, value, f"{path}[{index}]")
    elif before is not after and (isinstance(before, bool) or isinstance(after, bool) or before != after):
        # Python takes true for 1.
        yield Difference(path, before, after)


def shown(difference: Difference) -> Iterator[Text]:
    """Lines for people: red is what goes, green what comes."""
    before, after = difference.before, difference.after
    sides = [side for side in (before, after) if side is not ABSENT]
    if all(isinstance(side, str) for side in sides) and any("\n" in str(side) for side in sides):
        before, after = ("" if side is ABSENT else str(side) for side in (before, after))
        yield Text(f"{difference.path}:")
        for each in list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=1))[2:]:
            yield Text(f"  {each}", style={"+": "green", "-": "red"}.get(each[:1], "dim"))
        return
    line = Text(f"{difference.path}: ")
    if before is ABSENT:
        line.append(_told(after), style="green")
    elif after is ABSENT:
        line.append(_told(before), style="red").append(" → nothing")
    else:
        line.append(_told(before), style="red").append(" → ").append(_told(after), style="green")
    yield line


def as_json(difference: Difference) -> dict[str, object]:
    """For programs; a side that is not there is left out."""
    sides = {"before": difference.before, "after": difference.after}
    return {"path": difference.path, **{name: value for name, value in sides.items() if value is not ABSENT}}


def _told(value: object) -> str:
    text = dump(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}… ({len(text)} characters)"
