"""Tools and the choice among them, read from OpenAI's shape for providers that speak another. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import orjson

from completions.tools import NAMED, name_of
from kit.errors import Invalid, Violation
from kit.json import Json


class Mode(StrEnum):
    """Whether the model calls a tool."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


class Choice(NamedTuple):
    """What a version says about calling tools."""

    mode: Mode
    tool: str = ""
    """For `REQUIRED`: the one that must be called; empty for any."""


class Function(NamedTuple):
    """A tool that the caller runs."""

    name: str
    description: str
    parameters: dict[str, Json]
    """Its JSON schema."""


def choice_of(given: Json) -> Choice | None:
    """Read `auto`, `none`, `required` (or `any`), or `{"type":"function","function":{"name":…}}`; None for nothing.

    :raises Invalid: `TOOL_CHOICE_UNKNOWN`
    """
    if given is None:
        return None
    if isinstance(given, dict):
        kind = given.get("type")
        if kind in ("function", "tool") and (name := _named(given, "function")):
            return Choice(Mode.REQUIRED, name)
        given = kind
    if given == "any":
        return Choice(Mode.REQUIRED)
    if isinstance(given, str) and given in (*Mode,):
        return Choice(Mode(given))
    raise _unknown()


def in_openais_words(given: Json, tools: Sequence[Json]) -> Json:
    """A choice as OpenAI's own API takes it, each tool by the word of its own type; None without tools, where it takes
    none.

    :raises Invalid: `TOOL_CHOICE_UNKNOWN`
    """
    if not tools:
        return None
    if not isinstance(given, dict):
        return given
    kind = given.get("type")
    if kind == "allowed_tools":
        allowed = given.get(kind)
        members = allowed.get("tools") if isinstance(allowed, dict) else None
        if not isinstance(allowed, dict) or not isinstance(members, list):
            raise _unknown()
        return {"type": kind, kind: allowed | {"tools": [_in_openais_words(each, tools) for each in members]}}
    if kind in NAMED:
        return _in_openais_words(given, tools)
    choice = choice_of(given)
    assert choice is not None  # noqa: S101  # something was given
    return choice.mode.value


def _in_openais_words(naming: Json, tools: Sequence[Json]) -> Json:
    """One tool, named in any words."""
    kind = naming.get("type") if isinstance(naming, dict) else None
    if isinstance(naming, dict) and kind in NAMED:
        said = "custom" if kind == "custom" else "function"
        if name := _named(naming, said):
            types = [tool.get("type") for tool in tools if isinstance(tool, dict) and name_of(tool) == name]
            own = "custom" if types and all(each == "custom" for each in types) else said
            return {"type": own, own: {"name": name}}
    raise _unknown()


def _named(naming: dict[str, Json], kind: str) -> str:
    """The tool that is named; empty for none."""
    inner = naming.get(kind)
    name = inner.get("name") if isinstance(inner, dict) else naming.get("name")
    return name if isinstance(name, str) else ""


def _unknown() -> Invalid:
    message = "must be auto, none, required or a function by its name"
    return Invalid(
        f"tool_choice {message}", reason="TOOL_CHOICE_UNKNOWN", violations=(Violation("tool_choice", message),)
    )


def function_of(tool: Json) -> Function | None:
    """A tool in OpenAI's shape; None for one in a provider's own."""
    inner = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(inner, dict) or not isinstance(name := inner.get("name"), str):
        return None
    description, parameters = inner.get("description"), inner.get("parameters")
    return Function(
        name,
        description if isinstance(description, str) else "",
        parameters if isinstance(parameters, dict) else {},
    )


def only(tools: Sequence[Json], name: str) -> list[Json]:
    """The tool of this name, for a provider that cannot be told to call it; all of them if there is none."""
    chosen = [tool for tool in tools if (function := function_of(tool)) is not None and function.name == name]
    return chosen or list(tools)


def arguments_of(arguments_json: str) -> dict[str, Json]:
    """A call's arguments for a provider that wants an object; what is none goes along as `arguments`, its text."""
    if not arguments_json:
        return {}
    try:
        parsed: Json = orjson.loads(arguments_json)
    except orjson.JSONDecodeError:
        parsed = arguments_json
    return parsed if isinstance(parsed, dict) else {"arguments": arguments_json}
