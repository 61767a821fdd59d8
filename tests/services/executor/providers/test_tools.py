from __future__ import annotations

from typing import Any

import pytest

from kit.errors import Invalid
from services.executor.providers.tools import (
    Choice,
    Mode,
    arguments_of,
    choice_of,
    function_of,
    in_openais_words,
    only,
)
from tests.services.executor.providers.wires import CLOCK, WEATHER


@pytest.mark.parametrize(
    ("given", "choice"),
    [
        (None, None),
        ("auto", Choice(Mode.AUTO)),
        ("none", Choice(Mode.NONE)),
        ("required", Choice(Mode.REQUIRED)),
        ("any", Choice(Mode.REQUIRED)),
        ({"type": "function", "function": {"name": "weather"}}, Choice(Mode.REQUIRED, "weather")),
        ({"type": "tool", "name": "weather"}, Choice(Mode.REQUIRED, "weather")),
        ({"type": "auto"}, Choice(Mode.AUTO)),
        ({"type": "any"}, Choice(Mode.REQUIRED)),
    ],
)
def test_how_a_choice_is_read(given: Any, choice: Choice | None) -> None:
    assert choice_of(given) == choice


@pytest.mark.parametrize("given", ["sometimes", {"type": "function"}, {"type": "allowed_tools"}, {}, {"type": 7}])
def test_an_unknown_choice_is_refused_by_its_field(given: Any) -> None:
    with pytest.raises(Invalid) as refusal:
        choice_of(given)
    assert refusal.value.reason == "TOOL_CHOICE_UNKNOWN"
    assert [each.field for each in refusal.value.violations] == ["tool_choice"]


NAMED: Any = {"type": "function", "function": {"name": "weather"}}
ALLOWED: Any = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED]}}
CUSTOM: Any = {"type": "custom", "custom": {"name": "shell"}}
FLAT: Any = {"type": "custom", "name": "shell"}


def allowed(*tools: Any) -> Any:
    return {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": list(tools)}}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, None),
        ("required", "required"),
        (NAMED, NAMED),
        ({"type": "function", "name": "weather"}, NAMED),
        ({"type": "tool", "name": "weather", "disable_parallel_tool_use": True}, NAMED),
        ({"type": "any"}, "required"),
        ({"type": "auto"}, "auto"),
        (ALLOWED, ALLOWED),
        (CUSTOM, CUSTOM),
    ],
)
def test_a_choice_in_any_words_has_one_in_openais(given: Any, said: Any) -> None:
    assert in_openais_words(given, [WEATHER]) == said
    assert in_openais_words(given, []) is None, "it takes no choice without tools"


@pytest.mark.parametrize("shell", [CUSTOM, FLAT])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (FLAT, CUSTOM),
        ({"type": "function", "function": {"name": "shell"}}, CUSTOM),
        ({"type": "function", "name": "shell"}, CUSTOM),
        ({"type": "tool", "name": "shell"}, CUSTOM),
        (NAMED, NAMED),
        (allowed({"type": "function", "name": "weather"}, FLAT), allowed(NAMED, CUSTOM)),
        (allowed({"type": "tool", "name": "weather"}, {"type": "tool", "name": "shell"}), allowed(NAMED, CUSTOM)),
    ],
)
def test_a_tool_is_named_by_the_word_of_its_own_type(shell: Any, given: Any, said: Any) -> None:
    assert in_openais_words(given, ["odd", {"type": "web_search"}, WEATHER, shell]) == said


def test_of_two_tools_of_one_name_the_one_of_the_said_type_is_meant() -> None:
    tools = [WEATHER, {"type": "custom", "custom": {"name": "weather"}}]
    assert in_openais_words({"type": "tool", "name": "weather"}, tools) == NAMED
    assert in_openais_words({"type": "custom", "name": "weather"}, tools) == tools[1]


@pytest.mark.parametrize(
    "given",
    [
        {"type": "foo"},
        {"type": "function"},
        {"type": "custom"},
        {"type": "allowed_tools"},
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto"}},
        allowed("weather"),
        allowed({"type": "auto"}),
        allowed({"type": "function", "function": {"name": 7}}),
    ],
)
def test_what_means_nothing_is_not_said_to_openai(given: Any) -> None:
    with pytest.raises(Invalid, match="tool_choice"):
        in_openais_words(given, [WEATHER])


def test_a_tool_of_another_shape_is_no_function() -> None:
    assert function_of({"type": "web_search_20250305", "name": "web_search"}) is None
    assert function_of("weather") is None
    assert function_of({"function": {"name": 7}}) is None


def test_one_tool_is_chosen_by_its_name() -> None:
    assert only([WEATHER, CLOCK], "clock") == [CLOCK]
    assert only([WEATHER, CLOCK], "calendar") == [WEATHER, CLOCK]


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('{"city":"Paris"}', {"city": "Paris"}),
        ("", {}),
        ('{"city":', {"arguments": '{"city":'}),
        ("[1]", {"arguments": "[1]"}),
    ],
)
def test_arguments_become_an_object_whatever_the_model_wrote(text: str, arguments: Any) -> None:
    assert arguments_of(text) == arguments
