from __future__ import annotations

from typing import Any

import pytest

from kit.errors import Invalid
from services.gateway.convert.message import ROLES, add_messages
from turnout.chat.v1 import message_pb2
from turnout.chat.v1.message_pb2 import Image, Message, Part, ToolCall
from turnout.executor.v1 import execution_service_pb2 as pb

CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{"}}


def read(*messages: Any) -> list[Message]:
    run = pb.RunRequest()
    add_messages(run.messages, list(messages))
    return list(run.messages)


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant"])
def test_a_text_is_a_text_of_its_role(role: str) -> None:
    assert read({"role": role, "content": "hi", "name": "ada"}) == [Message(role=ROLES[role], content="hi", name="ada")]


def test_parts_keep_their_order() -> None:
    parts = [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "text", "text": "b", "prompt_cache_breakpoint": None},
    ]
    assert list(read({"role": "user", "content": parts})[0].parts) == [
        Part(text="a"),
        Part(image=Image(url="data:image/png;base64,AA==", detail="low")),
        Part(image=Image(url="https://example.org/a.png")),
        Part(text="b"),
    ]


def test_a_single_text_part_is_the_text() -> None:
    [message] = read({"role": "system", "content": [{"type": "text", "text": "a"}]})
    assert message == Message(role=message_pb2.ROLE_SYSTEM, content="a")


def test_an_answer_can_be_sent_back_as_it_came() -> None:
    answer = {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "reasoning_content": "hm",
        "tool_calls": [{**CALL, "index": 0, "extra_content": {"google": {"thought_signature": "c2lnbmVk"}}}],
    }
    assert read(answer, {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}) == [
        Message(
            role=message_pb2.ROLE_ASSISTANT,
            reasoning="hm",
            tool_calls=[
                ToolCall(
                    id="call_1",
                    tool="weather",
                    arguments_json="{",
                    extra_content_json='{"google":{"thought_signature":"c2lnbmVk"}}',
                )
            ],
        ),
        Message(role=message_pb2.ROLE_TOOL, tool_call_id="call_1", content="sunny"),
    ]


def test_a_refusal_is_what_the_assistant_said() -> None:
    assert read({"role": "assistant", "content": None, "refusal": "no"})[0].content == "no"
    assert read({"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]})[0].content == "no"
    assert read({"role": "assistant", "content": "yes", "refusal": "no"})[0].content == "yes"


def image(**fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "image_url", "image_url": fields}]}


def tool_call(**fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{**CALL, **fields}]}


@pytest.mark.parametrize(
    ("message", "path", "reason"),
    [
        ("hi", "", "INVALID_TYPE"),
        (None, "", "INVALID_TYPE"),
        ({}, ".role", "MISSING_REQUIRED_PARAMETER"),
        ({"role": ["user"]}, ".role", "INVALID_TYPE"),
        ({"role": "function", "content": "x"}, ".role", "UNSUPPORTED_VALUE"),
        ({"role": "user", "content": 7}, ".content", "INVALID_TYPE"),
        ({"role": "user", "content": {"a": 1}}, ".content", "INVALID_TYPE"),
        ({"role": "user", "content": ["hi"]}, ".content[0]", "INVALID_TYPE"),
        ({"role": "user", "content": [{}]}, ".content[0].type", "MISSING_REQUIRED_PARAMETER"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, ".content[0].type", "UNSUPPORTED_VALUE"),
        ({"role": "user", "content": [{"type": 7}]}, ".content[0].type", "UNSUPPORTED_VALUE"),
        ({"role": "user", "content": [{"type": "text"}]}, ".content[0].text", "MISSING_REQUIRED_PARAMETER"),
        ({"role": "user", "content": [{"type": "text", "text": 1}]}, ".content[0].text", "INVALID_TYPE"),
        (
            {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]},
            ".content[0].cache_control",
            "UNSUPPORTED_PARAMETER",
        ),
        ({"role": "user", "content": [{"type": "image_url"}]}, ".content[0].image_url", "INVALID_TYPE"),
        (image(), ".content[0].image_url.url", "MISSING_REQUIRED_PARAMETER"),
        (image(url=""), ".content[0].image_url.url", "MISSING_REQUIRED_PARAMETER"),
        (image(url=7), ".content[0].image_url.url", "INVALID_TYPE"),
        (image(url="u", detail="best"), ".content[0].image_url.detail", "UNSUPPORTED_VALUE"),
        (image(url="u", detail=["low"]), ".content[0].image_url.detail", "UNSUPPORTED_VALUE"),
        (image(url="u", size=1), ".content[0].image_url.size", "UNSUPPORTED_PARAMETER"),
        ({"role": "user", "name": 7}, ".name", "INVALID_TYPE"),
        ({"role": "user", "weight": 1}, ".weight", "UNSUPPORTED_PARAMETER"),
        ({"role": "assistant", "function_call": {"name": "f"}}, ".function_call", "UNSUPPORTED_PARAMETER"),
        ({"role": "assistant", "audio": {"id": "a"}}, ".audio", "UNSUPPORTED_PARAMETER"),
        ({"role": "assistant", "refusal": 7}, ".refusal", "INVALID_TYPE"),
        ({"role": "assistant", "tool_calls": {}}, ".tool_calls", "INVALID_TYPE"),
        ({"role": "assistant", "tool_calls": ["x"]}, ".tool_calls[0]", "INVALID_TYPE"),
        (tool_call(type="custom"), ".tool_calls[0].type", "UNSUPPORTED_VALUE"),
        (tool_call(function=None), ".tool_calls[0].function", "INVALID_TYPE"),
        (tool_call(function={"arguments": "{}"}), ".tool_calls[0].function.name", "MISSING_REQUIRED_PARAMETER"),
        (
            tool_call(function={"name": "f", "arguments": {"a": 1}}),
            ".tool_calls[0].function.arguments",
            "INVALID_TYPE",
        ),
        (tool_call(id=None), ".tool_calls[0].id", "MISSING_REQUIRED_PARAMETER"),
        (tool_call(extra=1), ".tool_calls[0].extra", "UNSUPPORTED_PARAMETER"),
        (tool_call(extra_content="x"), ".tool_calls[0].extra_content", "INVALID_TYPE"),
        ({"role": "tool", "content": "x"}, ".tool_call_id", "MISSING_REQUIRED_PARAMETER"),
        ({"role": "tool", "content": "x", "tool_call_id": 7}, ".tool_call_id", "INVALID_TYPE"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(message: Any, path: str, reason: str) -> None:
    with pytest.raises(Invalid) as failure:
        read({"role": "user", "content": "fine"}, message)
    assert failure.value.violations[0].field == f"messages[1]{path}"
    assert failure.value.reason == reason


def test_what_openais_sdk_has_read_in_an_answer_may_come_back_with_it() -> None:
    function = {"name": "weather", "arguments": "{", "parsed_arguments": {"city": "Paris"}}
    call = {**CALL, "function": function}
    answer = {"role": "assistant", "content": "{}", "parsed": {"city": "Paris"}, "tool_calls": [call]}
    expected = ToolCall(id="call_1", tool="weather", arguments_json="{")
    assert read(answer) == [Message(role=message_pb2.ROLE_ASSISTANT, content="{}", tool_calls=[expected])]


@pytest.mark.parametrize("content", ["", None, []])
def test_a_refusal_is_what_was_said_wherever_it_stands(content: Any) -> None:
    said = Message(role=message_pb2.ROLE_ASSISTANT, content="No.")
    assert read({"role": "assistant", "refusal": "No.", "content": content}) == [said]
    assert read({"role": "assistant", "content": content, "refusal": "No."}) == [said]


def test_a_content_stands_alone_behind_a_refusal() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    [message] = read({"role": "assistant", "refusal": "No.", "content": parts})
    assert message.content == ""
    assert [part.text for part in message.parts] == ["a", "b"]
