from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from catalog.view import Provider, ProviderKind
from completions.chat import Message, Role, ToolCall
from completions.version import Version
from kit.egress import Egress, EgressPolicy
from kit.secrets import Secret
from kit.telemetry import Tracing
from services.executor.domain import (
    Delta,
    FinishReason,
    ProviderAnswer,
    ProviderFailure,
    ProviderRequest,
    Reason,
    Started,
    ToolCallDelta,
    Usage,
)
from services.executor.providers.openai import OpenAi

CREDENTIAL = "sk-planted-credential-0123456789"
TRACING = Tracing(sample_ratio=0, resource={}, exporter=None)


@pytest.fixture
async def adapter() -> AsyncIterator[OpenAi]:
    async with Egress(EgressPolicy(allow_private=True)) as egress:
        yield OpenAi(egress, TRACING, frozenset({503}), max_response_bytes=50_000, max_stream_bytes=100_000)


def asked(upstream: Any) -> ProviderRequest:
    kind = ProviderKind.OPENAI_COMPATIBLE
    provider = Provider("prv_main", "prj_shop", "main", kind, upstream.base_url)
    body = OpenAi(None, TRACING, frozenset(), 1, 1).prepare(Version("prv_main", "test-model"), kind)  # type: ignore[arg-type]
    return ProviderRequest(provider, Secret(CREDENTIAL), "test-model", body, (Message(Role.USER, "Capital?"),))


async def streamed(adapter: OpenAi, upstream: Any, step: Any, silence: float = 5) -> list[Any]:
    upstream.then(step)
    return [
        piece
        async for piece in adapter.stream(asked(upstream), total_seconds=5, first_seconds=silence, idle_seconds=silence)
    ]


async def test_an_answer_comes_in_pieces_and_whole_at_last(adapter: OpenAi, upstream: Any) -> None:
    pieces = await streamed(adapter, upstream, upstream.streams(upstream.paris))

    assert pieces == [
        Started("served-model"),
        Delta("Par"),
        Delta("is."),
        ProviderAnswer(Message(Role.ASSISTANT, "Paris."), FinishReason.STOP, Usage(24, 8), "served-model", 200),
    ]
    body = upstream.received[0].body
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})
    assert upstream.received[0].headers["accept"] == "text/event-stream"


async def test_tool_calls_are_put_together_from_their_pieces(adapter: OpenAi, upstream: Any) -> None:
    def call(index: int, **fields: Any) -> dict[str, Any]:
        function = {name: fields.pop(name) for name in ("name", "arguments") if name in fields}
        return {"index": index, "function": function, **fields}

    events = [
        upstream.chunk(reasoning_content="hm"),
        upstream.chunk(tool_calls=[call(0, id="c1", name="look", arguments="")]),
        upstream.chunk(tool_calls=[call(0, arguments='{"at"')]),
        upstream.chunk(tool_calls=[call(0, arguments=":1}"), call(1, id="c2", name="jump")]),
        upstream.chunk(finish_reason="tool_calls"),
        upstream.done,
    ]
    *_, answer = pieces = await streamed(adapter, upstream, upstream.streams(events))

    assert pieces[1:-1] == [
        Delta(reasoning="hm"),
        Delta(tool_calls=(ToolCallDelta(0, "c1", "look"),)),
        Delta(tool_calls=(ToolCallDelta(0, arguments_json='{"at"'),)),
        Delta(tool_calls=(ToolCallDelta(0, arguments_json=":1}"), ToolCallDelta(1, "c2", "jump"))),
    ]
    assert answer.message.tool_calls == (ToolCall("c1", "look", '{"at":1}'), ToolCall("c2", "jump", "{}"))
    assert answer.message.reasoning == "hm"
    assert answer.finish_reason is FinishReason.TOOL_CALLS


async def test_a_wish_for_a_tool_that_ends_as_any_answer_is_one(adapter: OpenAi, upstream: Any) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    events = [upstream.chunk(tool_calls=[call]), upstream.chunk(finish_reason="stop"), upstream.done]
    *_, answer = await streamed(adapter, upstream, upstream.streams(events))
    assert answer.finish_reason is FinishReason.TOOL_CALLS


async def test_the_id_and_the_name_of_a_call_may_come_late_and_the_first_of_each_stays(
    adapter: OpenAi, upstream: Any
) -> None:
    def piece(function: dict[str, Any], **fields: Any) -> Any:
        return upstream.chunk(tool_calls=[{"index": 0, "function": function, **fields}])

    events = [
        piece({"arguments": "{"}),
        piece({}, id="c1"),
        piece({"name": "look"}),
        piece({"name": "jump", "arguments": "}"}, id="c2"),
        upstream.chunk(finish_reason="tool_calls"),
    ]
    *pieces, answer = await streamed(adapter, upstream, upstream.streams([*events, upstream.done]))

    assert [delta.tool_calls for delta in pieces[1:]] == [
        (ToolCallDelta(0, arguments_json="{"),),
        (ToolCallDelta(0, "c1"),),
        (ToolCallDelta(0, tool="look"),),
        (ToolCallDelta(0, arguments_json="}"),),
    ]
    assert answer.message.tool_calls == (ToolCall("c1", "look", "{}"),)


async def test_of_several_choices_the_first_alone_is_the_answer(adapter: OpenAi, upstream: Any) -> None:
    def piece(index: int, content: str, finish: str | None = None) -> dict[str, Any]:
        return {"index": index, "delta": {"content": content}, "finish_reason": finish}

    events = [
        upstream.chunk(choices=[piece(1, "Ly")]),
        upstream.chunk(choices=[piece(1, "on."), piece(0, "Par")]),
        upstream.chunk(choices=[piece(1, "", "length")]),
        upstream.chunk(choices=[piece(0, "is.", "stop")]),
        upstream.chunk(choices=[piece(2, "Nice.", "length")], usage={"prompt_tokens": 24, "completion_tokens": 8}),
        upstream.done,
    ]
    *pieces, answer = await streamed(adapter, upstream, upstream.streams(events))

    assert pieces == [Started("served-model"), Delta("Par"), Delta("is.")]
    assert (answer.message.content, answer.finish_reason) == ("Paris.", FinishReason.STOP)
    assert answer.usage == Usage(24, 8)


async def test_another_choice_s_end_is_not_the_answer_s(adapter: OpenAi, upstream: Any) -> None:
    other = {"index": 1, "delta": {}, "finish_reason": "stop"}
    *_, failure = await streamed(adapter, upstream, upstream.streams([*upstream.paris[:2], {"choices": [other]}]))
    assert failure.message == "the provider's answer ends in the middle"


async def test_texts_may_come_as_parts(adapter: OpenAi, upstream: Any) -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    events = [
        upstream.chunk(content=[thought]),
        upstream.chunk(content=[{"type": "text", "text": "Par"}, {"type": "text", "text": "is."}]),
        upstream.chunk(finish_reason="stop"),
        upstream.done,
    ]
    *pieces, answer = await streamed(adapter, upstream, upstream.streams(events))
    assert pieces[1:] == [Delta("Paris.")]
    assert answer.message == Message(Role.ASSISTANT, "Paris.")


def called(*calls: tuple[int | None, str, str, str]) -> list[dict[str, Any]]:
    return [
        {"function": {"name": tool, "arguments": arguments}, "id": uid} | ({} if index is None else {"index": index})
        for index, uid, tool, arguments in calls
    ]


@pytest.mark.parametrize(
    "calls",
    [
        pytest.param([(0, "c1", "look", '{"a":1}'), (0, "c2", "look", '{"b":2}')], id="all at index 0"),
        pytest.param(
            [(0, "c1", "look", '{"a"'), (0, "", "", ":1}"), (0, "c2", "look", '{"b"'), (0, "", "", ":2}")],
            id="all at index 0 in pieces",
        ),
        pytest.param(
            [(0, "c1", "look", '{"a"'), (0, "c2", "look", '{"b"'), (0, "c1", "", ":1}"), (0, "c2", "look", ":2}")],
            id="all at index 0 by turns",
        ),
        pytest.param([(1, "c1", "look", '{"a":'), (2, "c2", "look", '{"b":2}'), (1, "", "", "1}")], id="from 1"),
        pytest.param([(3, "c1", "look", '{"a":1}'), (7, "c2", "look", '{"b":2}')], id="with gaps"),
        pytest.param([(1, "c1", "look", '{"a":1}'), (0, "c2", "look", '{"b":2}')], id="backwards"),
        pytest.param([(-1, "c1", "look", '{"a":1}'), (2**70, "c2", "look", '{"b":2}')], id="far away"),
        pytest.param([(None, "c1", "look", '{"a":1}'), (None, "c2", "look", '{"b":2}')], id="without"),
        pytest.param([(None, "c1", "look", '{"a":'), (0, "", "", "1}"), (1, "c2", "look", '{"b":2}')], id="sometimes"),
        pytest.param(
            [(None, "c1", "look", ""), (None, "", "", '{"a":1}'), (None, "c2", "look", '{"b"'), (None, "", "", ":2}")],
            id="without in pieces",
        ),
        pytest.param(
            [
                (None, "c1", "look", '{"a"'),
                (None, "c2", "look", '{"b"'),
                (None, "c1", "", ":1}"),
                (None, "c2", "", ":2}"),
            ],
            id="without by turns",
        ),
    ],
)
@pytest.mark.parametrize("together", [False, True])
async def test_calls_are_told_apart_whatever_index_a_server_gives_them(
    adapter: OpenAi, upstream: Any, calls: list[Any], together: bool
) -> None:
    pieces = called(*calls)
    events = [upstream.chunk(tool_calls=each) for each in ([pieces] if together else [[piece] for piece in pieces])]
    events += [upstream.chunk(finish_reason="tool_calls"), upstream.done]
    *said, answer = await streamed(adapter, upstream, upstream.streams(events))

    assert answer.message.tool_calls == (ToolCall("c1", "look", '{"a":1}'), ToolCall("c2", "look", '{"b":2}'))
    deltas = [delta for piece in said[1:] for delta in piece.tool_calls]
    for index, call in enumerate(answer.message.tool_calls):
        mine = [delta for delta in deltas if delta.index == index]
        assert [(delta.id, delta.tool) for delta in mine if delta.id or delta.tool] == [(call.id, call.name)]
        assert "".join(delta.arguments_json for delta in mine) == call.arguments_json
    assert {delta.index for delta in deltas} == {0, 1}


async def test_a_server_that_gives_each_piece_an_id_of_its_own_means_one_call(adapter: OpenAi, upstream: Any) -> None:
    pieces = called((0, "c1", "look", '{"a"'), (0, "c2", "", ":"), (0, "c3", "", "1}"))
    events = [upstream.chunk(tool_calls=pieces), upstream.chunk(finish_reason="tool_calls"), upstream.done]
    *_, answer = await streamed(adapter, upstream, upstream.streams(events))
    assert answer.message.tool_calls == (ToolCall("c1", "look", '{"a":1}'),)


async def test_calls_without_ids_in_one_place_are_told_apart(adapter: OpenAi, upstream: Any) -> None:
    calls = called((0, "", "weather", '{"c":"Paris"}'), (0, "", "clock", '{"z"'), (0, "", "clock", ':"CET"}'))
    events = [upstream.chunk(tool_calls=calls), upstream.chunk(finish_reason="tool_calls"), upstream.done]
    *_, answer = await streamed(adapter, upstream, upstream.streams(events))
    assert [(call.name, call.arguments_json) for call in answer.message.tool_calls] == [
        ("weather", '{"c":"Paris"}'),
        ("clock", '{"z":"CET"}'),
    ]


async def test_a_call_that_is_named_without_an_id_gets_one_at_once(adapter: OpenAi, upstream: Any) -> None:
    calls = called((0, "", "look", ""), (1, "", "look", "{}"), (0, "c1", "look", '{"a":1}'))
    events = [upstream.chunk(tool_calls=[call]) for call in calls]
    *pieces, answer = await streamed(adapter, upstream, upstream.streams([*events, upstream.done]))

    first, second = (call.id for call in answer.message.tool_calls)
    assert re.fullmatch("call_[0-9a-z]{26}", first)
    assert re.fullmatch("call_[0-9a-z]{26}", second)
    assert first != second
    assert [piece.tool_calls for piece in pieces[1:]] == [
        (ToolCallDelta(0, first, "look"),),
        (ToolCallDelta(1, second, "look", "{}"),),
        (ToolCallDelta(0, arguments_json='{"a":1}'),),
    ]


async def test_a_custom_tool_is_called_in_pieces_too(adapter: OpenAi, upstream: Any) -> None:
    calls: list[dict[str, Any]] = [
        {"index": 0, "id": "c1", "type": "custom", "custom": {"name": "sql", "input": ""}},
        {"index": 0, "custom": {"input": "SELECT"}},
        {"index": 0, "custom": {"input": " 1"}},
    ]
    events = [upstream.chunk(tool_calls=[call]) for call in calls]
    events += [upstream.chunk(finish_reason="tool_calls"), upstream.done]
    *pieces, answer = await streamed(adapter, upstream, upstream.streams(events))

    assert answer.message.tool_calls == (ToolCall("c1", "sql", "SELECT 1"),)
    assert [piece.tool_calls for piece in pieces[1:]] == [
        (ToolCallDelta(0, "c1", "sql"),),
        (ToolCallDelta(0, arguments_json="SELECT"),),
        (ToolCallDelta(0, arguments_json=" 1"),),
    ]


async def test_tool_calls_without_end_are_a_failure(adapter: OpenAi, upstream: Any) -> None:
    calls = [{"function": {"name": "look", "arguments": {}}} for _ in range(129)]
    [failure] = await streamed(adapter, upstream, upstream.streams([upstream.chunk(tool_calls=calls), upstream.done]))

    assert (failure.reason, failure.message) == (
        Reason.MALFORMED_RESPONSE,
        "the provider's answer has too many tool calls",
    )


async def test_a_server_that_answers_whole_is_taken_as_it_is(adapter: OpenAi, upstream: Any) -> None:
    pieces = await streamed(adapter, upstream, upstream.http(200, upstream.completion("Paris.")))

    assert [type(piece) for piece in pieces] == [Started, Delta, ProviderAnswer]


async def test_an_answer_of_nothing_is_an_answer(adapter: OpenAi, upstream: Any) -> None:
    events = [upstream.chunk(finish_reason="stop"), upstream.done]
    started, answer = await streamed(adapter, upstream, upstream.streams(events))

    assert started == Started("served-model")
    assert answer.message.content == ""


async def test_an_end_without_its_mark_is_whole_if_the_model_had_finished(adapter: OpenAi, upstream: Any) -> None:
    *_, answer = await streamed(adapter, upstream, upstream.streams(upstream.paris[:4]))
    assert isinstance(answer, ProviderAnswer)


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        ([], "ends in the middle"),
        ([b"data: {oops\n\n"], "not valid JSON"),
        ([b"data: [1]\n\n"], "not a JSON object"),
        ([{"error": {"message": "overloaded " + CREDENTIAL}}], "is an error"),
        (
            [{"choices": [{"delta": {"content": ""}, "finish_reason": "error"}]}, b"data: [DONE]\n\n"],
            "ends in an error",
        ),
        ([{"choices": ["x"]}], "not an object"),
        ([{"choices": [{"delta": {"tool_calls": [{"index": 5, "function": {}}]}}]}], "ends in the middle"),
        ([{"choices": [{"index": 1}, "x"]}], "not an object"),
        ([{"choices": [{"delta": {"tool_calls": ["x"]}}]}], "not an object"),
        (
            [{"choices": [{"delta": {"tool_calls": [{"index": 0}]}, "finish_reason": "stop"}]}, b"data: [DONE]\n\n"],
            "without a name",
        ),
    ],
)
async def test_what_makes_no_sense_is_a_failure_after_what_did(
    adapter: OpenAi, upstream: Any, tail: list[Any], words: str
) -> None:
    *pieces, failure = await streamed(adapter, upstream, upstream.streams([*upstream.paris[:2], *tail]))

    assert pieces[:2] == [Started("served-model"), Delta("Par")]
    assert isinstance(failure, ProviderFailure)
    assert failure.reason is Reason.MALFORMED_RESPONSE
    assert words in failure.message
    assert CREDENTIAL not in failure.message


@pytest.mark.parametrize(
    "event",
    [
        {"error": {"code": 503, "message": "Provider disconnected"}, "choices": []},
        {"choices": [{"delta": {}, "finish_reason": "error", "error": {"code": 503, "message": "Disconnected"}}]},
    ],
)
async def test_an_error_among_the_events_means_what_its_code_says(
    adapter: OpenAi, upstream: Any, event: dict[str, Any]
) -> None:
    *_, failure = await streamed(adapter, upstream, upstream.streams([*upstream.paris[:2], event, upstream.done]))

    assert (failure.reason, failure.http_status, failure.is_retryable) == (Reason.ERROR, 200, True)
    assert "isconnected" in failure.message


async def test_a_prompt_that_an_older_llama_cpp_cannot_take_does_not_fit(adapter: OpenAi, upstream: Any) -> None:
    told = b'error: {"code":400,"message":"the request exceeds the available context size. try increasing it"}\n\n'
    [failure] = await streamed(adapter, upstream, upstream.streams([told, upstream.done]))
    assert (failure.reason, failure.is_retryable) == (Reason.CONTEXT_LENGTH_EXCEEDED, False)


async def test_an_end_without_anything_before_it_is_a_failure(adapter: OpenAi, upstream: Any) -> None:
    [failure] = await streamed(adapter, upstream, upstream.streams([{"choices": []}, upstream.done]))
    assert (failure.reason, failure.is_retryable) == (Reason.MALFORMED_RESPONSE, True)
    assert failure.message == "the provider's answer has no choices"


async def test_an_answer_that_is_too_large_is_a_failure(adapter: OpenAi, upstream: Any) -> None:
    *_, failure = await streamed(adapter, upstream, upstream.streams([b"data: " + b"x" * 200_000]))

    assert failure.reason is Reason.MALFORMED_RESPONSE


async def test_a_stream_may_be_larger_than_any_piece_of_it(adapter: OpenAi, upstream: Any) -> None:
    events = [upstream.chunk(content="x" * 20_000) for _ in range(4)]

    *_, answer = await streamed(adapter, upstream, upstream.streams([*events, upstream.done]))

    assert len(answer.message.content) == 80_000


@pytest.mark.parametrize("size_bytes", [60_000, 200_000])
async def test_a_whole_answer_is_bounded_as_one_that_was_asked_for(
    adapter: OpenAi, upstream: Any, size_bytes: int
) -> None:
    [failure] = await streamed(adapter, upstream, upstream.http(200, upstream.completion("x" * size_bytes)))

    assert failure.reason is Reason.MALFORMED_RESPONSE
    assert "bytes" in failure.message


async def test_a_piece_is_bounded(adapter: OpenAi, upstream: Any) -> None:
    events = [upstream.chunk(content="x"), upstream.chunk(content="x" * 60_000)]

    *_, failure = await streamed(adapter, upstream, upstream.streams([*events, upstream.done]))

    assert failure.reason is Reason.MALFORMED_RESPONSE
    assert "50000 bytes" in failure.message


async def test_failures_before_the_first_piece_are_those_of_a_whole_call(adapter: OpenAi, upstream: Any) -> None:
    busy = upstream.http(503, {"error": {"message": "busy"}}, ["retry-after: 3"])
    [failure] = await streamed(adapter, upstream, busy)

    assert (failure.reason, failure.http_status, failure.retry_after_seconds) == (Reason.ERROR, 503, 3)
    assert failure.is_retryable
    # Twice: what ends on a connection that was kept is sent once more.
    upstream.then(upstream.reset)
    assert [each.reason for each in await streamed(adapter, upstream, upstream.reset)] == [Reason.UNREACHABLE]


async def test_silence_between_pieces_is_bounded(adapter: OpenAi, upstream: Any) -> None:
    *_, failure = await streamed(adapter, upstream, upstream.streams(upstream.paris[:2], stalls=True), silence=0.2)

    assert failure.reason is Reason.TIMEOUT


async def test_closing_a_stream_closes_the_connection(adapter: OpenAi, upstream: Any) -> None:
    step = upstream.streams(upstream.paris[:2], stalls=True)
    upstream.then(step)
    async with aclosing(adapter.stream(asked(upstream), total_seconds=60, first_seconds=60, idle_seconds=60)) as pieces:
        assert await anext(pieces) == Started("served-model")

    async with asyncio.timeout(5):
        await step.left.wait()
