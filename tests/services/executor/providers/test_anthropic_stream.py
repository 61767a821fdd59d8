from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from catalog.view import ProviderKind
from completions.chat import Message, Role, ToolCall
from kit.egress import Egress, EgressPolicy
from services.executor.domain import (
    Delta,
    FinishReason,
    ProviderAnswer,
    ProviderFailure,
    Reason,
    Started,
    ToolCallDelta,
    Usage,
)
from services.executor.providers.anthropic import Anthropic
from tests.services.executor.providers.wires import (
    CREDENTIAL,
    RETRY_STATUSES,
    TRACING,
    anthropic_block,
    anthropic_end,
    anthropic_error,
    anthropic_message,
    anthropic_start,
    asked,
    event,
    root,
    version,
)

MODEL = "claude-sonnet-4-5-20250929"
TEXT = {"type": "text", "text": ""}


@pytest.fixture
async def adapter() -> AsyncIterator[Anthropic]:
    async with Egress(EgressPolicy(allow_private=True)) as egress:
        yield Anthropic(egress, TRACING, RETRY_STATUSES, max_response_bytes=50_000, max_stream_bytes=100_000)


async def streamed(adapter: Anthropic, upstream: Any, step: Any) -> list[Any]:
    upstream.then(step)
    request = asked(adapter, ProviderKind.ANTHROPIC, root(upstream), version())
    return [piece async for piece in adapter.stream(request, total_seconds=5, first_seconds=5, idle_seconds=5)]


def said(text: str) -> dict[str, Any]:
    return {"type": "text_delta", "text": text}


def argued(text: str) -> dict[str, Any]:
    return {"type": "input_json_delta", "partial_json": text}


async def test_an_answer_comes_in_pieces_and_whole_at_last(adapter: Anthropic, upstream: Any) -> None:
    events = [
        anthropic_start(cache_read_input_tokens=100, cache_creation_input_tokens=10),
        event("ping"),
        *anthropic_block(
            0,
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "thinking_delta", "thinking": "France"},
            {"type": "signature_delta", "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3h"},
        ),
        *anthropic_block(1, TEXT, said("Par"), said("is.")),
        *anthropic_end(input_tokens=None, cache_read_input_tokens=None),
    ]
    assert await streamed(adapter, upstream, upstream.streams(events)) == [
        Started(MODEL),
        Delta(reasoning="France"),
        Delta("Par"),
        Delta("is."),
        ProviderAnswer(
            Message(Role.ASSISTANT, "Paris.", reasoning="France"),
            FinishReason.STOP,
            Usage(122, 6, 100, cache_write_input_tokens=10),
            MODEL,
            200,
        ),
    ]
    [received] = upstream.received
    assert received.body["stream"] is True
    assert received.headers["accept"] == "text/event-stream"


async def test_tool_calls_are_put_together_from_their_pieces(adapter: Anthropic, upstream: Any) -> None:
    search = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    weather = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
    clock = {"type": "tool_use", "id": "toolu_2", "name": "clock", "input": {}}
    events = [
        anthropic_start(),
        *anthropic_block(0, TEXT, said("Let me see.")),
        *anthropic_block(1, search, argued('{"query":"x"}')),
        *anthropic_block(2, weather, argued(""), argued('{"city": "Pa'), argued('ris"}')),
        *anthropic_block(3, clock),
        # Servers that speak this contract may send arguments whole.
        *anthropic_block(4, clock | {"id": "toolu_3", "input": {"zone": "CET"}}),
        *anthropic_end("tool_use"),
    ]
    *pieces, answer = await streamed(adapter, upstream, upstream.streams(events))

    assert pieces[2:] == [
        Delta(tool_calls=(ToolCallDelta(0, "toolu_1", "weather"),)),
        Delta(tool_calls=(ToolCallDelta(0, arguments_json='{"city": "Pa'),)),
        Delta(tool_calls=(ToolCallDelta(0, arguments_json='ris"}'),)),
        Delta(tool_calls=(ToolCallDelta(1, "toolu_2", "clock"),)),
        # As in an answer that comes whole.
        Delta(tool_calls=(ToolCallDelta(1, arguments_json="{}"),)),
        Delta(tool_calls=(ToolCallDelta(2, "toolu_3", "clock"),)),
        Delta(tool_calls=(ToolCallDelta(2, arguments_json='{"zone":"CET"}'),)),
    ]
    assert answer.message.tool_calls == (
        ToolCall("toolu_1", "weather", '{"city": "Paris"}'),
        ToolCall("toolu_2", "clock", "{}"),
        ToolCall("toolu_3", "clock", '{"zone":"CET"}'),
    )
    assert answer.finish_reason is FinishReason.TOOL_CALLS


async def test_tool_calls_without_end_are_a_failure(adapter: Anthropic, upstream: Any) -> None:
    calls = [{"type": "tool_use", "id": f"toolu_{index}", "name": "clock", "input": {}} for index in range(129)]
    events = [event("content_block_start", index=index, content_block=call) for index, call in enumerate(calls)]
    *_, failure = await streamed(adapter, upstream, upstream.streams([anthropic_start(), *events, *anthropic_end()]))
    assert (failure.reason, failure.message) == (
        Reason.MALFORMED_RESPONSE,
        "the provider's answer has too many tool calls",
    )


async def test_a_refusal_in_the_middle_is_an_answer_that_was_filtered(adapter: Anthropic, upstream: Any) -> None:
    events = [anthropic_start(), *anthropic_block(0, TEXT, said("I will ")), *anthropic_end("refusal")]
    *_, answer = await streamed(adapter, upstream, upstream.streams(events))
    assert (answer.message.content, answer.finish_reason) == ("I will ", FinishReason.CONTENT_FILTER)


@pytest.mark.parametrize(
    ("kind", "message", "reason", "is_retryable"),
    [
        ("overloaded_error", "Overloaded", Reason.ERROR, True),
        ("api_error", "Internal server error", Reason.ERROR, True),
        ("rate_limit_error", "Slow down", Reason.RATE_LIMITED, True),
        ("billing_error", "Pay first", Reason.CREDENTIAL_REFUSED, False),
        ("invalid_request_error", "Your credit balance is too low", Reason.CREDENTIAL_REFUSED, False),
        ("invalid_request_error", "prompt is too long: 2 tokens > 1 maximum", Reason.CONTEXT_LENGTH_EXCEEDED, False),
        ("invalid_request_error", "tools.0: Input should be an object", Reason.REJECTED_REQUEST, False),
        ("new_error", "What now", Reason.ERROR, True),
    ],
)
async def test_an_error_among_the_events_means_what_its_status_would(
    adapter: Anthropic, upstream: Any, kind: str, message: str, reason: Reason, is_retryable: bool
) -> None:
    error = event("error", error={"type": kind, "message": f"{message} {CREDENTIAL}"})
    [failure] = await streamed(adapter, upstream, upstream.streams([anthropic_start(), error]))
    assert (failure.reason, failure.http_status, failure.is_retryable) == (reason, 200, is_retryable)
    assert message in failure.message
    assert CREDENTIAL not in failure.message

    begun = [anthropic_start(), *anthropic_block(0, TEXT, said("Par")), error]
    assert [type(each) for each in await streamed(adapter, upstream, upstream.streams(begun))] == [
        Started,
        Delta,
        ProviderFailure,
    ]


async def test_failures_before_the_first_piece_are_those_of_a_whole_call(adapter: Anthropic, upstream: Any) -> None:
    busy = upstream.http(529, anthropic_error("overloaded_error", "Overloaded"), ["retry-after: 3"])
    [failure] = await streamed(adapter, upstream, busy)
    assert (failure.reason, failure.http_status, failure.is_retryable) == (Reason.ERROR, 529, True)
    assert failure.retry_after_seconds == 3


async def test_a_server_that_answers_whole_is_taken_as_it_is(adapter: Anthropic, upstream: Any) -> None:
    pieces = await streamed(adapter, upstream, upstream.http(200, anthropic_message()))
    assert [type(piece) for piece in pieces] == [Started, Delta, ProviderAnswer]


async def test_an_end_without_its_mark_is_whole_if_the_model_had_finished(adapter: Anthropic, upstream: Any) -> None:
    events = [anthropic_start(), *anthropic_block(0, TEXT, said("Paris.")), *anthropic_end()[:1]]
    *_, answer = await streamed(adapter, upstream, upstream.streams(events))
    assert isinstance(answer, ProviderAnswer)


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        ([], "ends in the middle"),
        ([b"data: {oops\n\n"], "not valid JSON"),
        ([b"data: [1]\n\n"], "not a JSON object"),
        ([event("content_block_start", index="x", content_block={})], "without a place"),
        ([event("content_block_delta", index=0, delta="x")], "not an object"),
        ([event("content_block_start", index=1, content_block={"type": "tool_use", "id": "t"})], "without a name"),
    ],
)
async def test_what_makes_no_sense_is_a_failure_after_what_did(
    adapter: Anthropic, upstream: Any, tail: list[Any], words: str
) -> None:
    events = [anthropic_start(), *anthropic_block(0, TEXT, said("Par")), *tail]
    started, delta, failure = await streamed(adapter, upstream, upstream.streams(events))
    assert (started, delta) == (Started(MODEL), Delta("Par"))
    assert failure.reason is Reason.MALFORMED_RESPONSE
    assert words in failure.message


async def test_events_of_kinds_to_come_are_left_out(adapter: Anthropic, upstream: Any) -> None:
    events = [
        anthropic_start(),
        event("telemetry", x=1),
        *anthropic_block(0, {"type": "hologram"}, {"type": "hologram_delta"}),
        *anthropic_block(1, TEXT, said("Paris.")),
        *anthropic_end(),
    ]
    *_, answer = await streamed(adapter, upstream, upstream.streams(events))
    assert answer.message == Message(Role.ASSISTANT, "Paris.")


async def test_what_follows_the_last_event_is_nobody_s(adapter: Anthropic, upstream: Any) -> None:
    words = anthropic_block(0, TEXT, said("Paris."))
    whole = b"".join([anthropic_start(), *words, *anthropic_end(), b"data: {oops\n\n"])
    *_, answer = await streamed(adapter, upstream, upstream.streams([whole]))
    assert answer.message == Message(Role.ASSISTANT, "Paris.")


async def test_an_answer_that_was_finished_is_whole_before_the_time_is_up(adapter: Anthropic, upstream: Any) -> None:
    words = anthropic_block(0, TEXT, said("Paris."))
    upstream.then(upstream.streams([anthropic_start(), *words, anthropic_end()[0]], stalls=True))
    request = asked(adapter, ProviderKind.ANTHROPIC, root(upstream), version())
    *_, answer = [piece async for piece in adapter.stream(request, total_seconds=1, first_seconds=1, idle_seconds=1)]
    assert isinstance(answer, ProviderAnswer)
    assert (answer.message.content, answer.usage) == ("Paris.", Usage(12, 6, 0, cache_write_input_tokens=0))
