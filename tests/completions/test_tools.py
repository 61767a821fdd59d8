from __future__ import annotations

from typing import Any

import pytest

from completions.tools import choice_faults, fits

LOOK = {"type": "function", "function": {"name": "look"}}
FIND = {"type": "function", "function": {"name": "find"}}
SEARCH = {"type": "web_search_20250305", "name": "web_search"}
SHELL = {"type": "custom", "custom": {"name": "shell"}}
TOOLS: list[Any] = [LOOK, FIND, SEARCH, SHELL]


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def allowed(mode: Any, *tools: Any) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(tools)}}


@pytest.mark.parametrize(
    "choice",
    [
        None,
        "auto",
        "none",
        "required",
        {"type": "auto"},
        {"type": "none"},
        {"type": "any"},
        {"type": "required"},
        named("find"),
        {"type": "function", "name": "find"},
        {"type": "tool", "name": "web_search", "disable_parallel_tool_use": True},
        {"type": "custom", "custom": {"name": "shell"}},
        {"type": "custom", "name": "shell"},
        named("shell"),
        {"type": "tool", "name": "shell"},
        allowed("auto", {"type": "tool", "name": "shell"}, {"type": "function", "name": "look"}),
        allowed("auto", named("look")),
        allowed("required", named("look"), SHELL),
    ],
)
def test_a_choice_among_the_tools_is_taken(choice: Any) -> None:
    assert list(choice_faults(choice, TOOLS)) == []
    assert fits(choice, TOOLS)


@pytest.mark.parametrize(
    ("choice", "field", "words"),
    [
        ("sometimes", "tool_choice", "auto, none, required"),
        ({"type": "foo"}, "tool_choice.type", "function"),
        ({"type": 7}, "tool_choice.type", "function"),
        ({"type": ["function"]}, "tool_choice.type", "function"),
        ({}, "tool_choice.type", "function"),
        ({"name": "look"}, "tool_choice.type", "function"),
        (named("loook"), "tool_choice.function.name", "look, find, web_search, shell"),
        (named(""), "tool_choice.function.name", "must name"),
        ({"type": "function", "function": {"name": ["look"]}}, "tool_choice.function.name", "must name"),
        ({"type": "function"}, "tool_choice.function.name", "must name"),
        ({"type": "function", "function": "look"}, "tool_choice.function.name", "must name"),
        ({"type": "function", "name": "loook"}, "tool_choice.name", "look, find"),
        ({"type": "tool", "name": "loook"}, "tool_choice.name", "look, find"),
        ({"type": "tool"}, "tool_choice.name", "must name"),
        ({"type": "custom", "custom": {"name": "look"}}, "tool_choice.custom.name", "must be shell"),
        ({"type": "allowed_tools"}, "tool_choice.allowed_tools", "object"),
        (allowed("none", LOOK), "tool_choice.allowed_tools.mode", "auto or required"),
        (allowed(["auto"], LOOK), "tool_choice.allowed_tools.mode", "auto or required"),
        (allowed("auto"), "tool_choice.allowed_tools.tools", "list"),
        (allowed("auto", LOOK, "find"), "tool_choice.allowed_tools.tools[1]", "object"),
        (allowed("auto", LOOK, named("loook")), "tool_choice.allowed_tools.tools[1].function.name", "look, find"),
        (allowed("auto", {"type": "foo"}), "tool_choice.allowed_tools.tools[0].type", "function"),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": 1}}, "tool_choice.allowed_tools.tools",
         "list"),
    ],
)  # fmt: skip
def test_a_choice_of_what_is_not_there_is_refused_by_its_path(choice: Any, field: str, words: str) -> None:
    [fault] = choice_faults(choice, TOOLS)
    assert fault.field == field
    assert words in fault.message
    assert not fits(choice, TOOLS)


@pytest.mark.parametrize(
    "choice", ["required", {"type": "any"}, {"type": "required"}, named("look"), allowed("auto", LOOK)]
)
def test_without_tools_none_can_be_demanded(choice: Any) -> None:
    [fault] = choice_faults(choice, [])
    assert (fault.field, "there are no tools" in fault.message) == ("tool_choice", True)


@pytest.mark.parametrize("choice", [None, "auto", "none", {"type": "auto"}, {"type": "none"}])
def test_without_tools_a_choice_that_demands_nothing_is_taken(choice: Any) -> None:
    assert list(choice_faults(choice, [])) == []


def test_many_tools_are_counted_and_not_listed() -> None:
    tools: list[Any] = [named(f"tool-{number}") for number in range(100)]
    [fault] = choice_faults(named("look"), tools)
    assert fault.message == "must be the name of one of the 100 tools"


def test_tools_of_a_shape_of_their_own_are_looked_at_without_harm() -> None:
    odd: list[Any] = ["look", {"type": 1}, {"type": "function", "function": 7}, {"type": "custom", "custom": {}}]
    [fault] = choice_faults(named("look"), odd)
    assert fault.field == "tool_choice.function.name"
