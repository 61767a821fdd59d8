from __future__ import annotations

from typing import Any

import orjson
import pytest
from openai.types.chat import ChatCompletionChunk

from services.gateway.convert import stream
from services.gateway.convert.stream import Events
from tests.services.gateway.executors import delta, ended, started
from turnout.chat.v1.message_pb2 import FINISH_REASON_OTHER, Usage
from turnout.executor.v1.execution_service_pb2 import ToolCallDelta


def parsed(data: bytes) -> list[Any]:
    """The events in a text; each must be one of OpenAI's."""
    found = []
    for event in data.decode().split("\n\n")[:-1]:
        assert event.startswith("data: ")
        assert "\n" not in event
        if event != "data: [DONE]":
            found.append(orjson.loads(event[6:]))
            ChatCompletionChunk.model_validate(found[-1])
    return found


def events(*, wants_usage: bool = False) -> Events:
    return Events(started().started, created=1, wants_usage=wants_usage)


@pytest.mark.parametrize("text", ["a", 'q"uo\\te', "line\n\nbreak\r", "\u2028 ünï 🚂", "data: [DONE]"])
def test_a_piece_of_text_survives_its_frame(text: str) -> None:
    [chunk] = parsed(events().delta(delta(text).delta))
    assert chunk["choices"][0]["delta"] == {"content": text}


def test_a_mixed_piece_tells_all_of_it() -> None:
    piece = delta("a", reasoning="b", tool_calls=[ToolCallDelta(index=1, arguments_json="{")]).delta
    [chunk] = parsed(events().delta(piece))
    assert chunk["choices"][0]["delta"] == {
        "content": "a",
        "reasoning_content": "b",
        "tool_calls": [{"index": 1, "function": {"arguments": "{"}}],
    }


def test_the_first_piece_of_a_tool_call_names_it() -> None:
    piece = delta(tool_calls=[ToolCallDelta(index=0, id="call_1", tool="weather")]).delta
    [chunk] = parsed(events().delta(piece))
    assert chunk["choices"][0]["delta"]["tool_calls"] == [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    ]


def test_the_end_says_why_and_with_what() -> None:
    data = events().end(ended(cost_usd_micros=2_000_000, finish_reason=FINISH_REASON_OTHER).ended)
    [chunk] = parsed(data)
    assert chunk["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]
    assert (chunk["turnout"]["cost_usd"], chunk["turnout"]["attempts"]) == (2.0, 1)
    assert "usage" not in chunk
    assert data.endswith(stream.DONE)


def test_the_end_says_what_became_of_the_answer() -> None:
    begun = started().started
    begun.fallback_index = 1
    made = Events(begun, created=1, wants_usage=False, is_mocked=True)
    [chunk] = parsed(made.end(ended(output_violations=["a must be a string"]).ended))
    said = chunk["turnout"]
    assert (said["fallback_index"], said["output_violations"], said["mocked"]) == (1, ["a must be a string"], True)


def test_all_events_say_that_usage_comes_if_it_does() -> None:
    made = events(wants_usage=True)
    chunks = parsed(made.start() + made.delta(delta("a").delta) + made.end(ended().ended))
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None, None, None]
    assert chunks[-1]["usage"]["total_tokens"] == 32
    assert (chunks[-1]["choices"], chunks[-1]["id"]) == ([], "req_1")


def test_usage_that_the_provider_does_not_tell_is_left_out() -> None:
    data = events(wants_usage=True).end(ended(usage=Usage()).ended)
    assert len(parsed(data)) == 1
    assert data.endswith(stream.DONE)


def test_a_failure_is_an_event_without_a_good_end() -> None:
    assert stream.failure(b'{"error":{}}') == b'data: {"error":{}}\n\n'
