from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from catalog.view import ProviderKind
from completions.chat import Message, Role, ToolCall
from kit.egress import Egress, EgressPolicy
from services.executor.domain import Delta, FinishReason, ProviderAnswer, Reason, Started, ToolCallDelta, Usage
from services.executor.providers.ollama import Ollama
from tests.services.executor.providers.wires import (
    CREDENTIAL,
    RETRY_STATUSES,
    TRACING,
    Lines,
    asked,
    ollama_chat,
    ollama_piece,
    root,
    version,
)


@pytest.fixture
async def adapter() -> AsyncIterator[Ollama]:
    async with Egress(EgressPolicy(allow_private=True)) as egress:
        yield Ollama(egress, TRACING, RETRY_STATUSES, max_response_bytes=50_000, max_stream_bytes=100_000)


async def streamed(adapter: Ollama, upstream: Any, step: Any) -> list[Any]:
    upstream.then(step)
    request = asked(adapter, ProviderKind.OLLAMA, root(upstream), version("llama3.2"))
    return [piece async for piece in adapter.stream(request, total_seconds=5, first_seconds=5, idle_seconds=5)]


async def test_an_answer_comes_in_pieces_and_whole_at_last(adapter: Ollama, upstream: Any) -> None:
    lines = [ollama_piece(thinking="France"), ollama_piece("Par"), ollama_piece("is."), ollama_chat("")]

    assert await streamed(adapter, upstream, Lines(lines)) == [
        Started("llama3.2"),
        Delta(reasoning="France"),
        Delta("Par"),
        Delta("is."),
        ProviderAnswer(
            Message(Role.ASSISTANT, "Paris.", reasoning="France"), FinishReason.STOP, Usage(26, 8), "llama3.2", 200
        ),
    ]
    [received] = upstream.received
    assert received.body["stream"] is True
    assert received.headers["accept"] == "application/x-ndjson"


async def test_tool_calls_come_whole(adapter: Ollama, upstream: Any) -> None:
    calls = [
        [{"id": "c1", "function": {"index": 0, "name": "weather", "arguments": {"city": "Paris"}}}],
        [{"id": "c2", "function": {"index": 1, "name": "clock", "arguments": {}}}],
    ]
    lines = [ollama_piece(tool_calls=each) for each in calls]
    *pieces, answer = await streamed(adapter, upstream, Lines([*lines, ollama_chat("")]))

    assert pieces[1:] == [
        Delta(tool_calls=(ToolCallDelta(0, "c1", "weather", '{"city":"Paris"}'),)),
        Delta(tool_calls=(ToolCallDelta(1, "c2", "clock", "{}"),)),
    ]
    assert answer.message.tool_calls == (ToolCall("c1", "weather", '{"city":"Paris"}'), ToolCall("c2", "clock", "{}"))
    assert answer.finish_reason is FinishReason.TOOL_CALLS


@pytest.mark.parametrize(
    ("words", "reason", "is_retryable"),
    [
        ("an error was encountered while running the model", Reason.ERROR, True),
        ("prompt too long; exceeded max context length by 4021 tokens", Reason.CONTEXT_LENGTH_EXCEEDED, False),
    ],
)
async def test_an_error_among_the_lines_is_a_failure(
    adapter: Ollama, upstream: Any, words: str, reason: Reason, is_retryable: bool
) -> None:
    error = {"error": f"{words} {CREDENTIAL}"}
    *begun, failure = await streamed(adapter, upstream, Lines([ollama_piece("Par"), error]))
    assert begun == [Started("llama3.2"), Delta("Par")]
    assert (failure.reason, failure.is_retryable) == (reason, is_retryable)
    assert words in failure.message
    assert CREDENTIAL not in failure.message


async def test_failures_before_the_first_piece_are_those_of_a_whole_call(adapter: Ollama, upstream: Any) -> None:
    [failure] = await streamed(adapter, upstream, upstream.http(404, {"error": "model 'llama3.2' not found"}))
    assert (failure.reason, failure.is_retryable) == (Reason.MODEL_NOT_FOUND, False)


async def test_a_server_that_answers_whole_is_taken_as_it_is(adapter: Ollama, upstream: Any) -> None:
    pieces = await streamed(adapter, upstream, upstream.http(200, ollama_chat()))
    assert [type(piece) for piece in pieces] == [Started, Delta, ProviderAnswer]


async def test_a_last_line_without_its_end_counts(adapter: Ollama, upstream: Any) -> None:
    *_, answer = await streamed(adapter, upstream, Lines([b'{"message":{"content":"Paris."},"done":true}']))
    assert answer.message.content == "Paris."
    assert answer.model == "llama3.2"


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        ([], "ends in the middle"),
        ([b"{oops\n"], "not valid JSON"),
        ([b"[1]\n"], "not a JSON object"),
        ([{"message": "x"}], "not an object"),
        ([ollama_piece(tool_calls=[{"function": {}}])], "without a name"),
        ([b"x" * 60_000 + b"\n"], "50000 bytes"),
    ],
)
async def test_what_makes_no_sense_is_a_failure_after_what_did(
    adapter: Ollama, upstream: Any, tail: list[Any], words: str
) -> None:
    *pieces, failure = await streamed(adapter, upstream, Lines([ollama_piece("Par"), *tail]))
    assert pieces == [Started("llama3.2"), Delta("Par")]
    assert failure.reason is Reason.MALFORMED_RESPONSE
    assert words in failure.message


async def test_what_follows_the_last_line_is_nobody_s(adapter: Ollama, upstream: Any) -> None:
    lines = [json.dumps(each).encode() + b"\n" for each in (ollama_piece("Par"), ollama_chat("is."))]
    for tail in (b"{oops\n", b'{"error":"late"}\n', b'{"message":{"content":"!"}}\n', b"{half"):
        *_, answer = await streamed(adapter, upstream, Lines([b"".join(lines) + tail]))
        assert answer.message.content == "Paris."
