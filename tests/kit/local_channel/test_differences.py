"""The differences from TCP that `kit.local_channel` lists, each shown on the local channel."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import StringValue

from kit.local_channel import LocalChannel

if TYPE_CHECKING:
    from tests.kit.local_channel.conftest import Lab

SET_AT_START: ContextVar[str] = ContextVar("set_at_start", default="unset")


@pytest.fixture
async def lab(connect: Any) -> AsyncIterator[Lab]:
    async with connect("local") as here:
        yield here


def text(value: str) -> StringValue:
    return StringValue(value=value)


async def echo(request: StringValue, context: Any) -> StringValue:
    return request


async def failure_of(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        async with asyncio.timeout(5):
            await call
    return failure.value


async def test_a_servicer_sees_a_local_peer_without_transport(lab: Lab) -> None:
    async def looks(request: StringValue, context: Any) -> StringValue:
        lab.saw(context.peer(), context.auth_context(), context.invocation_metadata(), context.time_remaining())
        return request

    await lab.unary_unary(looks)(text("a"), metadata=(("grpc-timeout", "1S"),))
    assert lab.record.servicer == [("local:", {}, (), None)]


async def test_a_servicer_runs_in_an_empty_context(lab: Lab) -> None:
    SET_AT_START.set("set")

    async def looks(request: StringValue, context: Any) -> StringValue:
        return text(SET_AT_START.get())

    assert (await lab.unary_unary(looks)(text("a"))).value == "unset"


async def test_a_reading_servicer_is_cancelled_and_does_not_see_the_end(lab: Lab) -> None:
    reading, ended = asyncio.Event(), asyncio.Event()

    async def reads(requests: Any, context: Any) -> StringValue:
        reading.set()
        try:
            lab.saw(await context.read())
        except asyncio.CancelledError:
            lab.saw("cancelled")
            raise
        finally:
            ended.set()
        return text("never")

    call = lab.stream_unary(reads)()
    await lab.soon(reading.wait())
    call.cancel()
    await lab.soon(ended.wait())
    assert lab.record.servicer == ["cancelled"]


async def test_debug_strings_name_the_rpc(lab: Lab) -> None:
    call = lab.method(lab.channel.unary_unary, "/test.Echo/Nope")(text("a"))
    assert "in progress" in repr(call)
    failure = await failure_of(call)
    assert failure.debug_error_string() == "local:/test.Echo/Nope UNIMPLEMENTED: Method not found!"
    assert await call.debug_error_string() == failure.debug_error_string()
    assert repr(call) == "<LocalUnaryUnaryCall /test.Echo/Nope: UNIMPLEMENTED>"
    succeeding = lab.unary_unary(echo)(text("a"))
    await succeeding
    assert await succeeding.debug_error_string() == ""


async def test_details_are_those_of_the_cause(lab: Lab) -> None:
    async def large(request: StringValue, context: Any) -> StringValue:
        return text("x" * 40_000)

    details = (await failure_of(lab.unary_unary(large)(text("a")))).details()
    assert details == "CLIENT: Received message larger than max (40004 vs. 32768)"


async def test_a_request_that_cannot_be_serialised_raises_at_once(lab: Lab) -> None:
    with pytest.raises(TypeError):
        lab.unary_unary(echo)(None)
    call = lab.stream_unary(echo)()
    with pytest.raises(TypeError):
        await call.write(None)
    assert not call.done()


async def test_deep_messages_pass(lab: Lab) -> None:
    async def echo_struct(request: Struct, context: Any) -> Struct:
        return request

    handler = grpc.unary_unary_rpc_method_handler(
        echo_struct, request_deserializer=Struct.FromString, response_serializer=Struct.SerializeToString
    )
    deep = Struct()
    inner = deep
    for _ in range(120):
        inner = inner.fields["x"].struct_value
    with pytest.raises(Exception, match="Exceeded"):
        Struct.FromString(deep.SerializeToString())
    async with LocalChannel(lambda _: handler) as channel:
        call = channel.unary_unary("/test.Echo/Deep", Struct.SerializeToString, Struct.FromString)
        assert await call(deep) == deep


async def test_a_response_that_the_caller_cannot_parse_is_unknown(lab: Lab) -> None:
    def refuses(data: bytes) -> StringValue:
        raise ValueError("not mine")

    lab.unary_unary(echo)
    call = lab.channel.unary_unary("/test.Echo/UnaryUnary", StringValue.SerializeToString, refuses)
    assert (await failure_of(call(text("a")))).details() == "Unexpected <class 'ValueError'>: not mine"


@pytest.mark.parametrize(
    "metadata",
    [(("x", 1),), ((1, "x"),), (("x-bin", "text"),), {"x": "1"}, ["xy-"]],
    ids=["number value", "number key", "text in bytes", "mapping", "no pairs"],
)
async def test_metadata_of_wrong_types_raises_when_the_call_is_made(lab: Lab, metadata: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        lab.unary_unary(echo)(text("a"), metadata=metadata)


async def test_invalid_metadata_ends_a_unary_call(lab: Lab) -> None:
    call = lab.unary_unary(echo)(text("a"), metadata=(("X-Upper", "1"),))
    failure = await failure_of(call)
    assert (failure.code(), failure.details()) == (grpc.StatusCode.INTERNAL, "Invalid metadata")
    assert await call.code() is grpc.StatusCode.INTERNAL


async def test_metadata_between_the_limits_passes(lab: Lab) -> None:
    async def returns(request: StringValue, context: Any) -> StringValue:
        context.set_trailing_metadata(context.invocation_metadata())
        return request

    call = lab.unary_unary(returns)(text("a"), metadata=(("x", "1" * 16_000),))
    await call
    assert tuple(await call.trailing_metadata()) == (("x", "1" * 16_000),)


async def test_an_infinite_timeout_never_passes(lab: Lab) -> None:
    async def looks(request: StringValue, context: Any) -> StringValue:
        return text(str(context.time_remaining()))

    call = lab.unary_unary(looks)(text("a"), timeout=float("inf"))
    assert (await call).value == "inf"


@pytest.mark.parametrize("begins_to_read", [True, False])
async def test_a_stream_that_is_dropped_is_cancelled(lab: Lab, begins_to_read: bool) -> None:
    ended, started = asyncio.Event(), asyncio.Event()

    async def endless(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        started.set()
        try:
            while True:
                yield request
        finally:
            ended.set()

    call = lab.unary_stream(endless)(text("a"))
    await lab.soon(started.wait())
    if begins_to_read:
        await call.read()
    del call
    await lab.soon(ended.wait())


async def test_a_request_iterator_is_cancelled_when_its_call_ends(lab: Lab) -> None:
    waiting, cancelled = asyncio.Event(), asyncio.Event()

    async def early(requests: Any, context: Any) -> StringValue:
        await waiting.wait()
        return text("early")

    async def requests() -> AsyncIterator[StringValue]:
        waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        yield text("never")

    assert (await lab.stream_unary(early)(requests())).value == "early"
    await lab.soon(cancelled.wait())


async def test_a_done_callback_that_raises_is_logged(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    def raises(_: object) -> None:
        raise ValueError("boom")

    call = lab.unary_unary(echo)(text("a"))
    call.add_done_callback(raises)
    call.add_done_callback(lambda _: lab.note("still called"))
    with caplog.at_level(logging.ERROR, "kit.local_channel"):
        await call
    assert [record.message for record in caplog.records] == ["a done callback of a local call raises"]
    assert lab.record.caller == ["still called"]


async def test_a_servicer_that_cancels_itself_gives_cancelled(lab: Lab) -> None:
    async def cancels(request: StringValue, context: Any) -> StringValue:
        raise asyncio.CancelledError

    async def cancels_stream(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        yield request
        raise asyncio.CancelledError

    failure = await failure_of(lab.unary_unary(cancels)(text("a")))
    assert (failure.code(), failure.details()) == (grpc.StatusCode.CANCELLED, "The servicer cancelled itself.")
    outcome = await lab.outcome(lab.unary_stream(cancels_stream)(text("a")))
    assert (outcome.responses, outcome.code) == (("a",), grpc.StatusCode.CANCELLED)


async def test_aborting_with_ok_is_a_bug(lab: Lab) -> None:
    async def aborts(request: StringValue, context: Any) -> None:
        await context.abort(grpc.StatusCode.OK)

    assert (await failure_of(lab.unary_unary(aborts)(text("a")))).code() is grpc.StatusCode.UNKNOWN


async def test_text_under_a_binary_key_in_trailing_metadata_ends_the_call(lab: Lab) -> None:
    async def sets(request: StringValue, context: Any) -> StringValue:
        context.set_trailing_metadata((("x-bin", "text"),))
        return request

    async def aborts(request: StringValue, context: Any) -> None:
        await context.abort(grpc.StatusCode.ABORTED, "words", (("x-bin", "text"),))

    for behaviour in (sets, aborts):
        assert (await failure_of(lab.unary_unary(behaviour)(text("a")))).code() is grpc.StatusCode.INTERNAL


async def test_a_method_of_another_kind_is_unimplemented(lab: Lab) -> None:
    lab.unary_unary(echo)
    outcome = await lab.outcome(lab.method(lab.channel.unary_stream, "/test.Echo/UnaryUnary")(text("a")))
    assert (outcome.code, outcome.details) == (
        grpc.StatusCode.UNIMPLEMENTED,
        "/test.Echo/UnaryUnary is an rpc of another kind",
    )
