from __future__ import annotations

from typing import Any

import pytest

from completions.chat import ImagePart, Message, Role, TextPart, ToolCall
from kit.errors import Invalid
from services.executor.providers.anthropic_messages import Conversation, conversation_of


def said(*messages: Message) -> Any:
    return conversation_of(messages).turns


def test_leading_system_messages_are_the_system_prompt_and_later_ones_keep_their_place() -> None:
    conversation = conversation_of(
        (
            Message(Role.SYSTEM, "Be brief."),
            Message(Role.DEVELOPER, parts=(TextPart("Be kind."), TextPart(""), TextPart("Rhyme."))),
            Message(Role.USER, "Hello."),
            Message(Role.SYSTEM, "Now in French."),
            Message(Role.ASSISTANT, "Bonjour."),
            Message(Role.DEVELOPER, "Now in German."),
        )
    )
    assert conversation == Conversation(
        ["Be brief.", "Be kind.", "Rhyme."],
        [
            {
                "role": "user",
                "content": [{"type": "text", "text": "Hello."}, {"type": "text", "text": "Now in French."}],
            },
            {"role": "assistant", "content": "Bonjour."},
            {"role": "user", "content": "Now in German."},
        ],
        has_begun=False,
        may_think=True,
    )


def test_pictures_come_by_address_or_by_their_bytes() -> None:
    parts = (TextPart("These?"), ImagePart("https://x/y.png", "low"), ImagePart("data:image/png;base64,iVBORw=="))
    assert said(Message(Role.USER, parts=parts)) == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "These?"},
                {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw=="}},
            ],
        }
    ]


def test_tool_results_come_first_in_the_turn_that_answers_the_calls() -> None:
    conversation = conversation_of(
        (
            Message(Role.USER, "Weather?"),
            Message(
                Role.ASSISTANT,
                "Let me see.",
                tool_calls=(ToolCall("toolu_1", "weather", '{"city":"Paris"}'), ToolCall("call.2/x", "clock", "")),
                reasoning="hm",
            ),
            Message(Role.SYSTEM, "Be quick."),
            Message(Role.TOOL, "12 °C", tool_call_id="toolu_1"),
            Message(Role.TOOL, parts=(ImagePart("https://x/clock.png"),), tool_call_id="call.2/x"),
            Message(Role.TOOL, "", tool_call_id="toolu_3"),
        )
    )
    assert not conversation.may_think
    assert conversation.turns[1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}},
                {"type": "tool_use", "id": "call_2_x", "name": "clock", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "12 °C"},
                {
                    "type": "tool_result",
                    "tool_use_id": "call_2_x",
                    "content": [{"type": "image", "source": {"type": "url", "url": "https://x/clock.png"}}],
                },
                {"type": "tool_result", "tool_use_id": "toolu_3"},
                {"type": "text", "text": "Be quick."},
            ],
        },
    ]


def test_turns_of_one_role_are_one_and_empty_ones_are_none() -> None:
    assert said(
        Message(Role.USER, "One."),
        Message(Role.ASSISTANT, ""),
        Message(Role.USER, "Two."),
        Message(Role.ASSISTANT, "The answer is \n"),
    ) == [
        {"role": "user", "content": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]},
        {"role": "assistant", "content": "The answer is"},
    ]


def test_texts_of_white_space_alone_are_left_out() -> None:
    conversation = conversation_of(
        (
            Message(Role.SYSTEM, " "),
            Message(Role.USER, parts=(TextPart("Weather?"), TextPart("\n"))),
            Message(Role.ASSISTANT, "\n\n", tool_calls=(ToolCall("toolu_1", "weather", "{}"),)),
            Message(Role.TOOL, " ", tool_call_id="toolu_1"),
            Message(Role.ASSISTANT, "\t"),
        )
    )
    assert conversation.system == []
    assert conversation.turns == [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1"}]},
    ]


def test_a_system_prompt_alone_is_asked_by_the_user() -> None:
    assert conversation_of((Message(Role.SYSTEM, "Tell a joke."),)) == Conversation(
        [], [{"role": "user", "content": "Tell a joke."}], has_begun=False, may_think=True
    )


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (Message(Role.SYSTEM, parts=(ImagePart("https://x/y"),)), "no pictures in a system message"),
        (Message(Role.USER, parts=(ImagePart("data:image/png"),)), "has no data"),
        (Message(Role.USER, ""), "every message is empty"),
        (Message(Role.USER, " \n"), "every message is empty"),
    ],
)
def test_what_cannot_be_said_is_refused_before_anything_is_sent(message: Message, words: str) -> None:
    with pytest.raises(Invalid, match=words) as refusal:
        conversation_of((message,))
    assert refusal.value.reason == "PROVIDER_REJECTED_REQUEST"
