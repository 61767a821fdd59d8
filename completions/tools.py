"""Tools that a model may call, and the choice among them, as OpenAI's contract says both. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from kit.errors import Violation
from kit.json import Json

_MODES: Final = frozenset(("auto", "none", "required"))
"""Choices in one word."""

_UNDEMANDING: Final = frozenset(("auto", "none"))
_TYPED_MODES: Final = _MODES | {"any"}
"""As Anthropic's contract says them: `{"type": "any"}`."""
_ALLOWED: Final = "allowed_tools"
NAMED: Final = ("function", "tool", "custom")
_KINDS: Final = f"must be function with a name, custom, {_ALLOWED}, auto, none, required or any"
_NO_TOOLS: Final = "must be left out, or be auto or none: there are no tools to choose from"
_MAX_LISTED: Final = 8
_MAX_LISTED_CHARACTERS: Final = 64


def faults(tools: Sequence[Json]) -> Iterator[Violation]:
    """What is wrong with a list of tools; of those in a provider's own shape only that they have none."""
    for index, tool in enumerate(tools):
        path = f"tools[{index}]"
        if not isinstance(tool, dict):
            yield Violation(path, "must be an object with a type")
        elif not isinstance(kind := tool.get("type"), str) or not kind:
            yield Violation(f"{path}.type", "must be a string, such as function")
        elif kind == "function":
            function = tool.get("function")
            if not isinstance(function, dict):
                yield Violation(f"{path}.function", "must be an object with a name")
            elif not isinstance(name := function.get("name"), str) or not name:
                yield Violation(f"{path}.function.name", "must be a string that is not empty")


def choice_faults(choice: str | dict[str, Json] | None, tools: Sequence[Json]) -> Iterator[Violation]:
    """What is wrong with a choice among these tools, at most one fault.

    Taken are a word; an object that names a tool, as `{"type":"function","function":{"name":…}}`, with `custom` in the
    place of `function`, or flat (`{"type":"tool","name":…}`); `{"type":"allowed_tools","allowed_tools":{"mode":…,
    "tools":[…]}}`; a word as `{"type":…}`.
    """
    if choice is None:
        return
    if isinstance(choice, str):
        if choice not in _MODES:
            yield Violation(
                "tool_choice", "must be auto, none, required or an object; leave it out for the provider's own"
            )
        elif not tools and choice not in _UNDEMANDING:
            yield Violation("tool_choice", _NO_TOOLS)
        return
    kind = choice.get("type")
    if not isinstance(kind, str) or kind not in (*_TYPED_MODES, *NAMED, _ALLOWED):
        yield Violation("tool_choice.type", _KINDS)
    elif not tools and kind not in _UNDEMANDING:
        yield Violation("tool_choice", _NO_TOOLS)
    elif kind in NAMED:
        yield from _name_faults(choice, kind, tools, "tool_choice")
    elif kind == _ALLOWED:
        yield from _allowed_faults(choice.get(_ALLOWED), tools, f"tool_choice.{_ALLOWED}")


def fits(choice: str | dict[str, Json] | None, tools: Sequence[Json]) -> bool:
    """Whether a choice can be made among these tools."""
    return next(choice_faults(choice, tools), None) is None


def name_of(tool: dict[str, Json]) -> str:
    """What a tool is called, in whatever shape; empty if it has no name."""
    own = tool.get("type")
    inner = tool.get(own) if isinstance(own, str) else None
    name = inner.get("name") if isinstance(inner, dict) else tool.get("name")
    return name if isinstance(name, str) else ""


def _allowed_faults(allowed: Json, tools: Sequence[Json], path: str) -> Iterator[Violation]:
    if not isinstance(allowed, dict):
        yield Violation(path, "must be an object with a mode and tools")
        return
    if allowed.get("mode") not in ("auto", "required"):
        yield Violation(f"{path}.mode", "must be auto or required")
        return
    given = allowed.get("tools")
    if not isinstance(given, list) or not given:
        yield Violation(f"{path}.tools", "must be a list of tools by their names")
        return
    for index, each in enumerate(given):
        at = f"{path}.tools[{index}]"
        if not isinstance(each, dict):
            wrong: Iterator[Violation] = iter((Violation(at, "must be an object that names a tool"),))
        elif not isinstance(kind := each.get("type"), str) or kind not in NAMED:
            wrong = iter((Violation(f"{at}.type", "must be function or custom"),))
        else:
            wrong = _name_faults(each, kind, tools, at)
        if (first := next(wrong, None)) is not None:
            yield first
            return


def _name_faults(naming: dict[str, Json], kind: str, tools: Sequence[Json], path: str) -> Iterator[Violation]:
    inner = naming.get(kind)
    if kind == "tool" or (inner is None and "name" in naming):
        name, path = naming.get("name"), f"{path}.name"
    else:
        name, path = inner.get("name") if isinstance(inner, dict) else None, f"{path}.{kind}.name"
    if not isinstance(name, str) or not name:
        yield Violation(path, "must name one of the tools")
        return
    names = [
        called
        for tool in tools
        if isinstance(tool, dict) and (kind != "custom" or tool.get("type") == kind) and (called := name_of(tool))
    ]
    if name not in names:
        yield Violation(path, _listed(names, kind))


def _listed(names: Sequence[str], kind: str) -> str:
    if not names:
        return f"must name one of the tools, of which none is called anything as {kind}"
    if len(names) > _MAX_LISTED:
        return f"must be the name of one of the {len(names)} tools"
    shown = ", ".join(name[:_MAX_LISTED_CHARACTERS] for name in names)
    return f"must be {shown}, the name of the tool" if len(names) == 1 else f"must be the name of a tool: {shown}"
