from __future__ import annotations

from typing import Any

import pytest

from completions.chat import ImagePart, Message, Role, TextPart
from completions.version import Parameters, Version
from kit.errors import Invalid
from services.executor import inputs
from services.executor.domain import Overrides, RunCall, Source


def call(**fields: Any) -> RunCall:
    given: dict[str, Any] = {
        "deployment": "assistant", "variables_json": "", "messages": (), "routing_key": "", "identity": "",
        "thread": "", "metadata_json": "", "caller_trace_id": "", "source": Source.API, "tenant": "prj_shop",
        "key_id": "k", "trace_id": "0" * 32, "deadline": 1e12,
    }  # fmt: skip
    return RunCall(**(given | fields))


def test_variables_are_parsed() -> None:
    assert inputs.check(call(variables_json='{"b":1,"a":[9007199254740993]}')) == {"b": 1, "a": [9007199254740993]}
    assert inputs.check(call()) == {}


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"variables_json": "{"}, "JSON_MALFORMED", "variables_json"),
        ({"variables_json": "[]"}, "JSON_NOT_OBJECT", "variables_json"),
        ({"variables_json": '{"a":' + "[" * 70 + "]" * 70 + "}"}, "JSON_TOO_DEEP", "variables_json"),
        ({"variables_json": '{"a":"' + "x" * (256 << 10) + '"}'}, "JSON_TOO_LARGE", "variables_json"),
        ({"metadata_json": '"x"'}, "JSON_NOT_OBJECT", "metadata_json"),
        ({"metadata_json": '{"a":"' + "x" * (16 << 10) + '"}'}, "JSON_TOO_LARGE", "metadata_json"),
        ({"metadata_json": '{"a":["\\u0000"]}'}, "TEXT_NOT_STORABLE", "metadata_json"),
        ({"metadata_json": '{"\\u0000":1}'}, "TEXT_NOT_STORABLE", "metadata_json"),
        ({"identity": "a\0b"}, "TEXT_NOT_STORABLE", "identity.id"),
        ({"thread": "a\0b"}, "TEXT_NOT_STORABLE", "thread"),
        ({"caller_trace_id": "a\0b"}, "TEXT_NOT_STORABLE", "trace_id"),
    ],
)
def test_what_cannot_be_served_or_kept_is_refused(fields: dict[str, Any], reason: str, field: str) -> None:
    with pytest.raises(Invalid) as failure:
        inputs.check(call(**fields))
    assert failure.value.reason == reason
    assert [violation.field for violation in failure.value.violations] == [field]


def test_the_text_of_an_escape_is_not_the_character() -> None:
    assert inputs.check(call(metadata_json='{"a":"\\\\u0000"}')) == {}


def test_a_variable_makes_no_address_of_a_picture_that_a_caller_may_not_give() -> None:
    def rendered(url: str) -> list[Message]:
        return [Message(Role.USER, "look"), Message(Role.USER, parts=(TextPart("here"), ImagePart(url)))]

    inputs.check_rendered(rendered("https://h/x.png"))
    with pytest.raises(Invalid, match=r"messages\[1\]\.parts\[1\]\.url") as failure:
        inputs.check_rendered(rendered("file:///etc/passwd"))
    assert failure.value.reason == "VARIABLES_INVALID"
    assert [violation.field for violation in failure.value.violations] == ["variables_json"]


LOOK: Any = {"type": "function", "function": {"name": "look"}}
FIND: Any = {"type": "function", "function": {"name": "find"}}


def version(choice: Any, *tools: Any) -> Version:
    return Version("main", "gpt", tools=list(tools), tool_choice=choice)


@pytest.mark.parametrize(
    ("base", "given", "field"),
    [
        (version(None, LOOK), Overrides(tool_choice=FIND), "tool_choice.function.name"),
        (version("required", LOOK), Overrides(tools=[FIND], tool_choice=LOOK), "tool_choice.function.name"),
        (version(None, LOOK), Overrides(tools=[], tool_choice="required"), "tool_choice"),
        (version(None), Overrides(tool_choice="required"), "tool_choice"),
        (version(None), Overrides(tool_choice=LOOK), "tool_choice"),
        (version(None, LOOK), Overrides(tool_choice={"type": "foo"}), "tool_choice.type"),
        (version(None), Overrides(parameters=Parameters(extra={"n": 2})), "parameters.extra.n"),
    ],
)
def test_what_is_laid_over_is_judged_with_what_lies_below(base: Version, given: Overrides, field: str) -> None:
    with pytest.raises(Invalid) as failure:
        inputs.laid_over(base, given)
    assert failure.value.reason == "VERSION_INVALID"
    assert [each.field for each in failure.value.violations] == [field]


@pytest.mark.parametrize(
    ("base", "given", "choice"),
    [
        (version("required", LOOK), Overrides(tools=[]), None),
        (version("auto", LOOK), Overrides(tools=[]), None),
        (version(LOOK, LOOK), Overrides(tools=[FIND]), None),
        (version(LOOK, LOOK), Overrides(tools=[FIND, LOOK]), LOOK),
        (version("required", LOOK), Overrides(tools=[FIND]), "required"),
        (version(None), Overrides(tools=[FIND]), None),
        (version(LOOK, LOOK), Overrides(tool_choice="none"), "none"),
        (version("none", LOOK), Overrides(tool_choice=LOOK), LOOK),
        (version(LOOK, LOOK), Overrides(parameters=Parameters(temperature=0.5)), LOOK),
    ],
)
def test_a_choice_of_the_version_falls_away_with_the_tools_that_it_was_made_for(
    base: Version, given: Overrides, choice: Any
) -> None:
    assert inputs.laid_over(base, given).tool_choice == choice
