from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from opentelemetry.trace import StatusCode

from kit.interceptors import chain
from kit.status import reason_of
from tests.services.executor.outcomes import CANCELLED, ERROR, details, until
from turnout.chat.v1 import message_pb2
from turnout.events.v1 import request_pb2
from turnout.router.v1 import decision_pb2


async def test_a_streamed_call_is_served_in_pieces_and_recorded(room: Any) -> None:
    room.upstream.then(room.upstream.streams(room.upstream.paris))
    events = [event async for event in room.stream(user="ada")]

    started, *deltas, ended = events
    assert [event.WhichOneof("event") for event in events] == ["started", "delta", "delta", "ended"]
    assert (started.started.provider, started.started.model, started.started.version) == (
        "main",
        "served-model",
        "ver_1",
    )
    assert started.started.decision.variant == "var_assistant"
    assert started.started.decision.key_kind == decision_pb2.KEY_KIND_USER
    assert "".join(event.delta.content for event in deltas) == "Paris."
    assert ended.ended.finish_reason == message_pb2.FINISH_REASON_STOP
    assert (ended.ended.usage.input_tokens, ended.ended.usage.output_tokens) == (24, 8)
    assert 0 < ended.ended.time_to_first_token_us <= ended.ended.latency_us
    [attempt] = ended.ended.attempts
    assert attempt.reason == ""

    [served] = room.served()
    assert served.request_id == started.started.request_id
    assert (served.status, served.streamed, served.user) == (request_pb2.REQUEST_STATUS_OK, True, "ada")
    assert served.time_to_first_token_us == ended.ended.time_to_first_token_us
    assert "ada" not in json.dumps(room.upstream.received[0].body), "who the user is does not concern providers"
    [payload] = room.payloads()
    assert json.loads(payload.data)["message"]["content"] == "Paris."


async def test_a_stream_that_never_began_fails_as_a_call_does(room: Any) -> None:
    room.upstream.then(room.upstream.http(400, {"error": {"message": "bad"}}))
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        [_ async for _ in room.stream()]

    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(failure.value) == "PROVIDER_REJECTED_REQUEST"
    assert details(failure.value, error_details_pb2.ErrorInfo).metadata["request_id"] == room.served()[0].request_id


async def test_a_stream_that_breaks_says_so_after_what_was_sent(room: Any) -> None:
    room.upstream.then(room.upstream.streams(room.upstream.paris[:3]))
    events = []
    stream = room.stream()
    while (event := await stream.read()) is not grpc.aio.EOF:
        events.append(event)
        if len(events) == 3:
            break
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await stream.read()

    assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_of(failure.value) == "STREAM_BROKEN"
    [served] = room.served()
    assert (served.status, served.reason) == (ERROR, "STREAM_BROKEN")


async def test_a_caller_who_cancels_a_stream_ends_the_call_to_the_provider(room: Any) -> None:
    step = room.upstream.streams(room.upstream.paris[:2], stalls=True)
    room.upstream.then(step)
    stream = room.stream()
    assert (await stream.read()).WhichOneof("event") == "started"
    stream.cancel()

    async with asyncio.timeout(5):
        await step.left.wait()
    await until(room.served)
    assert (room.served()[0].status, room.served()[0].reason) == (CANCELLED, "CALLER_LEFT")


async def test_a_sampled_stream_has_a_span_for_its_attempt(traced_room: Any) -> None:
    traced_room.upstream.then(traced_room.upstream.streams(traced_room.upstream.paris))
    [_ async for _ in traced_room.stream()]

    [chat] = [span for span in await traced_room.finished_spans() if span.name.startswith("chat ")]
    assert chat.attributes["gen_ai.usage.output_tokens"] == 8
    assert (chat.status.status_code, chat.events) == (StatusCode.UNSET, ())
    assert "error.type" not in chat.attributes
    assert "traceparent" in traced_room.upstream.received[0].headers


async def test_whoever_leaves_a_sampled_stream_is_no_error_of_its_attempt(traced_room: Any) -> None:
    step = traced_room.upstream.streams(traced_room.upstream.paris[:2], stalls=True)
    traced_room.upstream.then(step)
    stream = traced_room.stream()
    assert (await stream.read()).WhichOneof("event") == "started"
    stream.cancel()
    async with asyncio.timeout(5):
        await step.left.wait()
    await until(traced_room.served)

    [chat] = [span for span in await traced_room.finished_spans() if span.name.startswith("chat ")]
    assert chat.attributes["error.type"] == "CANCELLED"
    assert (chat.status.status_code, chat.events) == (StatusCode.UNSET, ())


async def test_a_key_that_makes_calls_once_is_refused_by_its_name(room: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        async for _ in room.stream(idempotency_key="order-7"):
            pass

    assert reason_of(failure.value) == "IDEMPOTENCY_KEY_OF_STREAM"
    assert (failure.value.details() or "").startswith("run.idempotency_key must be left out: ")
    assert room.upstream.received == []


async def test_a_caller_without_a_deadline_who_does_not_read_holds_nothing_for_longer_than_the_default(
    start_room: Any, environment: pytest.MonkeyPatch
) -> None:
    environment.setattr(chain, "DEFAULT_DEADLINE_SECONDS", 1.0)
    environment.setenv("TURNOUT_EXECUTOR_MAX_CONCURRENT_CALLS", "1")
    async with start_room() as room:
        stream = await _given_up(room)

        assert (room.served()[0].status, room.served()[0].reason) == (CANCELLED, "DEADLINE_EXCEEDED")
        await room.run()
        stream.cancel()


async def test_a_caller_who_reads_on_after_a_stream_was_given_up_learns_so(
    start_room: Any, environment: pytest.MonkeyPatch
) -> None:
    environment.setattr(chain, "DEFAULT_DEADLINE_SECONDS", 1.0)
    async with start_room() as room:
        stream = await _given_up(room)

        async with asyncio.timeout(20):
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await _rest(stream)

    assert failure.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert reason_of(failure.value) == "DEADLINE_EXCEEDED"


async def _given_up(room: Any) -> Any:
    """A stream whose caller has read its beginning and then nothing, until its record is closed."""
    # More than the buffers on the way take.
    words = [room.upstream.chunk("x" * 20_000) for _ in range(3000)]
    room.upstream.then(room.upstream.streams(words, stalls=True))
    stream = room.stream(timeout=None)
    assert (await stream.read()).WhichOneof("event") == "started"
    await until(room.served)
    return stream


async def _rest(stream: Any) -> None:
    while await stream.read() is not grpc.aio.EOF:
        pass
