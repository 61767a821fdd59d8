"""What the local channel promises of streams by itself: neither side runs far ahead, and whoever leaves is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from kit.local_channel import LocalChannel
from kit.local_channel.pipe import CAPACITY

if TYPE_CHECKING:
    from tests.kit.local_channel.conftest import Lab


@pytest.fixture
async def lab(connect: Any) -> AsyncIterator[Lab]:
    async with connect("local") as here:
        yield here


async def forever(request: StringValue, context: Any) -> StringValue:
    await asyncio.Event().wait()
    return request


def text(value: str) -> StringValue:
    return StringValue(value=value)


@pytest.mark.parametrize("streams_requests", [False, True])
async def test_a_servicer_is_at_most_some_messages_ahead_of_its_reader(lab: Lab, streams_requests: bool) -> None:
    written = 0

    async def counts(request: Any, context: Any) -> AsyncIterator[StringValue]:
        nonlocal written
        for number in range(CAPACITY * 10):
            yield text(str(number))
            written = number + 1

    call = lab.stream_stream(counts)([]) if streams_requests else lab.unary_stream(counts)(text("a"))
    got = []
    async for response in call:
        got.append(response.value)
        assert written <= len(got) + CAPACITY
        await asyncio.sleep(0)
    assert len(got) == CAPACITY * 10


async def test_a_caller_is_at_most_some_messages_ahead_of_its_servicer(lab: Lab) -> None:
    may_read = asyncio.Event()

    async def counts(requests: Any, context: Any) -> StringValue:
        await may_read.wait()
        return text(str(len([request async for request in requests])))

    call = lab.stream_unary(counts)()
    for _ in range(CAPACITY):
        await call.write(text("x"))
    writing = asyncio.ensure_future(call.write(text("one more")))
    await asyncio.sleep(0)
    assert not writing.done()
    may_read.set()
    await asyncio.wait_for(writing, 5)
    await call.done_writing()
    assert (await call).value == str(CAPACITY + 1)


async def test_cancelling_a_writer_that_waits_cancels_the_call(lab: Lab) -> None:
    call = lab.stream_unary(forever)()

    async def writes() -> None:
        while True:
            await call.write(text("x"))

    writing = asyncio.create_task(writes())
    while not lab_is_full(lab):
        await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert call.cancelled()


async def test_a_writer_that_waits_learns_that_the_call_has_ended(lab: Lab) -> None:
    may_end = asyncio.Event()

    async def ends(requests: Any, context: Any) -> None:
        await may_end.wait()
        await context.abort(grpc.StatusCode.ABORTED, "enough")

    call = lab.stream_unary(ends)()

    async def writes() -> None:
        while True:
            await call.write(text("x"))

    writing = asyncio.create_task(writes())
    while not lab_is_full(lab):
        await asyncio.sleep(0)
    may_end.set()
    with pytest.raises(asyncio.InvalidStateError):
        await asyncio.wait_for(writing, 5)
    assert await call.code() is grpc.StatusCode.ABORTED


def lab_is_full(lab: Lab) -> bool:
    """Whether the one call of a lab cannot take another request."""
    channel = lab.channel
    assert isinstance(channel, LocalChannel)
    (rpc,) = channel.live
    return rpc.requests is not None and rpc.requests.is_full


async def test_a_reader_that_breaks_off_cancels_the_servicer(lab: Lab) -> None:
    ended = asyncio.Event()

    async def endless(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        try:
            while True:
                yield request
        finally:
            ended.set()

    async for _ in lab.unary_stream(endless)(text("a")):
        break
    await asyncio.wait_for(ended.wait(), 5)


async def test_a_writer_that_drops_its_call_cancels_the_servicer(lab: Lab) -> None:
    ended = asyncio.Event()

    async def joins(requests: Any, context: Any) -> StringValue:
        try:
            return text(",".join([request.value async for request in requests]))
        finally:
            ended.set()

    call = lab.stream_unary(joins)()
    await call.write(text("a"))
    del call
    await asyncio.wait_for(ended.wait(), 5)


async def test_closing_waits_until_a_streaming_servicer_has_cleaned_up() -> None:
    log: list[str] = []

    async def endless(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        try:
            while True:
                yield request
        finally:
            for _ in range(3):
                await asyncio.sleep(0)
            log.append("cleaned up")

    codec: Any = {
        "request_deserializer": StringValue.FromString,
        "response_serializer": StringValue.SerializeToString,
    }
    handler = grpc.unary_stream_rpc_method_handler(endless, **codec)
    channel = LocalChannel(lambda _: handler)
    call = channel.unary_stream("/test.Echo/Endless", StringValue.SerializeToString, StringValue.FromString)(text("a"))
    await call.read()
    await channel.close()
    assert log == ["cleaned up"]
