"""What the local channel promises by itself: generated stubs, isolation, its life, and that nothing leaks."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from kit.local_channel import LocalChannel
from kit.local_channel.rpc import Rpc

if TYPE_CHECKING:
    from tests.kit.local_channel.conftest import Lab

WHO: ContextVar[str] = ContextVar("who")


@pytest.fixture
async def lab(connect: Any) -> AsyncIterator[Lab]:
    opened: AbstractAsyncContextManager[Lab] = connect("local")
    async with opened as here:
        yield here


async def forever(request: StringValue, context: Any) -> StringValue:
    await asyncio.Event().wait()
    return request


def text(value: str) -> StringValue:
    return StringValue(value=value)


async def echo_struct(request: Struct, context: Any) -> Struct:
    request["servicer"] = "was here"
    request.get_or_create_struct("inner")["servicer"] = "here too"
    return KEPT.setdefault("response", request)


KEPT: dict[str, Struct] = {}


class Handlers:
    """Keeps what generated code registers, as `kit.server.Server` does."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None: ...

    def add_registered_method_handlers(self, service_name: str, method_handlers: dict[str, Any]) -> None:
        self.found.update({f"/{service_name}/{name}": handler for name, handler in method_handlers.items()})


async def test_generated_stubs_and_servicers_work_unchanged() -> None:
    handlers, servicer = Handlers(), health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, handlers)
    async with LocalChannel(handlers.found.get) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="x")
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await stub.Check(request)
        assert failure.value.code() is grpc.StatusCode.NOT_FOUND
        watching = stub.Watch(request)
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        await servicer.set("x", health_pb2.HealthCheckResponse.SERVING)
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
        assert (await stub.Check(request, timeout=5)).status == health_pb2.HealthCheckResponse.SERVING


async def test_neither_side_sees_what_the_other_changes_later() -> None:
    KEPT.clear()
    handler = grpc.unary_unary_rpc_method_handler(
        echo_struct, request_deserializer=Struct.FromString, response_serializer=Struct.SerializeToString
    )
    async with LocalChannel({"/test.Echo/Struct": handler}.get) as channel:
        call = channel.unary_unary("/test.Echo/Struct", Struct.SerializeToString, Struct.FromString)
        request = Struct()
        request.get_or_create_struct("inner")["caller"] = "first"
        calling = call(request)
        request["caller"] = "changed after the call began"
        response = await calling
        assert "servicer" not in request
        assert "servicer" not in request.get_or_create_struct("inner")
        assert "caller" not in response
        response["caller"] = "changed after the call ended"
        KEPT["response"]["servicer"] = "changed after the call ended"
        assert "caller" not in KEPT["response"]
        assert response["servicer"] == "was here"


async def test_stream_messages_are_copied_when_they_are_written(lab: Lab) -> None:
    async def answers(requests: Any, context: Any) -> AsyncIterator[StringValue]:
        response = text("")
        async for request in requests:
            response.value = request.value
            request.value = "changed"
            yield response
            response.value = "changed"

    call = lab.stream_stream(answers)()
    request = text("a")
    await call.write(request)
    request.value = "b"
    await call.write(request)
    await call.done_writing()
    assert [response.value async for response in call] == ["a", "b"]
    assert request.value == "b"


async def test_context_variables_of_the_caller_do_not_reach_the_servicer(lab: Lab) -> None:
    async def looks(request: StringValue, context: Any) -> StringValue:
        seen = WHO.get("nobody")
        WHO.set("servicer")
        return text(seen)

    WHO.set("caller")
    assert (await lab.unary_unary(looks)(text("a"))).value == "nobody"
    assert WHO.get() == "caller"


async def test_done_callbacks_see_the_context_in_which_they_were_given(lab: Lab) -> None:
    seen: list[str] = []

    async def sets(request: StringValue, context: Any) -> StringValue:
        WHO.set("servicer")
        context.add_done_callback(lambda _: seen.append(WHO.get()))
        return request

    WHO.set("caller")
    call = lab.unary_unary(sets)(text("a"))
    call.add_done_callback(lambda _: seen.append(WHO.get()))
    await call
    assert seen == ["caller", "servicer"]


async def test_context_variables_of_the_caller_reach_its_own_iterator(lab: Lab) -> None:
    async def joins(requests: Any, context: Any) -> StringValue:
        return text(",".join([request.value async for request in requests]))

    async def requests() -> AsyncIterator[StringValue]:
        yield text(WHO.get())

    WHO.set("caller")
    assert (await lab.stream_unary(joins)(requests())).value == "caller"


async def test_a_servicer_is_found_when_it_is_called_not_before() -> None:
    handlers: dict[str, Any] = {}
    async with LocalChannel(handlers.get) as channel:
        call = channel.unary_unary("/test.Echo/Late", StringValue.SerializeToString, StringValue.FromString)
        with pytest.raises(grpc.aio.AioRpcError):
            await call(text("a"))

        async def first(request: StringValue, context: Any) -> StringValue:
            return text("first")

        async def second(request: StringValue, context: Any) -> StringValue:
            return text("second")

        for behaviour in (first, second):
            handlers["/test.Echo/Late"] = grpc.unary_unary_rpc_method_handler(
                behaviour,
                request_deserializer=StringValue.FromString,
                response_serializer=StringValue.SerializeToString,
            )
            assert (await call(text("a"))).value == behaviour.__name__


async def test_methods_without_serialisers_carry_bytes() -> None:
    async def echo(request: bytes, context: Any) -> bytes:
        return request + b"!"

    handlers: dict[str, Any] = {"/test.Echo/Bytes": grpc.unary_unary_rpc_method_handler(echo)}
    async with LocalChannel(handlers.get, max_message_bytes=10) as channel:
        call: Any = channel.unary_unary("/test.Echo/Bytes")
        assert await call(b"a") == b"a!"
        with pytest.raises(grpc.aio.AioRpcError, match=r"CLIENT: Received message larger than max \(11 vs\. 10\)"):
            await call(b"x" * 10)
        with pytest.raises(grpc.aio.AioRpcError, match=r"SERVER: Received message larger than max \(11 vs\. 10\)"):
            await call(b"x" * 11)


async def test_calls_leave_nothing_for_the_garbage_collector(lab: Lab) -> None:
    async def echo(request: StringValue, context: Any) -> StringValue:
        return request

    call = lab.unary_unary(echo)
    gc.collect()
    gc.disable()
    try:
        # Other tests of this process may have left some: what matters is that ours do not.
        before = {id(thing) for thing in gc.get_objects() if isinstance(thing, Rpc)}
        for _ in range(10):
            await call(text("a"), timeout=5)
        assert not [thing for thing in gc.get_objects() if isinstance(thing, Rpc) and id(thing) not in before]
    finally:
        gc.enable()


async def test_closing_cancels_calls_and_waits_for_their_servicers() -> None:
    log: list[str] = []

    async def cleans_up(request: StringValue, context: Any) -> StringValue:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            log.append("cleaned up")
        return request

    channel = LocalChannel({"/test.Echo/Slow": unary(cleans_up)}.get)
    call = channel.unary_unary("/test.Echo/Slow", StringValue.SerializeToString, StringValue.FromString)(text("a"))
    await asyncio.sleep(0)
    await channel.close()
    assert log == ["cleaned up"]
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not channel.live


async def test_closing_with_grace_lets_calls_end() -> None:
    may_end = asyncio.Event()

    async def waits(request: StringValue, context: Any) -> StringValue:
        await may_end.wait()
        return request

    channel = LocalChannel({"/test.Echo/Slow": unary(waits)}.get)
    method = channel.unary_unary("/test.Echo/Slow", StringValue.SerializeToString, StringValue.FromString)
    call = method(text("a"))
    closing = asyncio.create_task(channel.close(grace=5))
    await asyncio.sleep(0)
    with pytest.raises(grpc.aio.UsageError, match="closed"):
        method(text("b"))
    may_end.set()
    await asyncio.wait_for(closing, 5)
    assert (await call).value == "a"


async def test_grace_that_runs_out_cancels() -> None:
    channel = LocalChannel({"/test.Echo/Slow": unary(forever)}.get)
    call = channel.unary_unary("/test.Echo/Slow", StringValue.SerializeToString, StringValue.FromString)(text("a"))
    with pytest.raises(ValueError, match="non-negative"):
        await channel.close(-1)
    await asyncio.wait_for(channel.close(grace=0.01), 5)
    assert call.cancelled()
    await channel.close()


async def test_a_servicer_may_close_the_channel_that_called_it() -> None:
    async def closes(request: StringValue, context: Any) -> StringValue:
        await channel.close()
        return request

    channel = LocalChannel({"/test.Echo/Close": unary(closes)}.get)
    call = channel.unary_unary("/test.Echo/Close", StringValue.SerializeToString, StringValue.FromString)(text("a"))
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(awaited(call), 5)


async def test_a_channel_is_ready_until_it_is_closed() -> None:
    channel = LocalChannel(lambda _: None)
    assert channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY
    await channel.channel_ready()
    await channel.wait_for_state_change(grpc.ChannelConnectivity.IDLE)
    changing = asyncio.create_task(channel.wait_for_state_change(grpc.ChannelConnectivity.READY))
    await asyncio.sleep(0)
    assert not changing.done()
    await channel.close()
    await asyncio.wait_for(changing, 5)
    assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN
    for waiting in (channel.channel_ready(), channel.wait_for_state_change(grpc.ChannelConnectivity.SHUTDOWN)):
        with pytest.raises(grpc.aio.UsageError):
            await waiting


async def test_a_synchronous_servicer_is_refused_by_name() -> None:
    def synchronous(request: StringValue, context: Any) -> StringValue:
        return request

    async with LocalChannel({"/test.Echo/Sync": unary(synchronous)}.get) as channel:
        with pytest.raises(TypeError, match="synchronous"):
            channel.unary_unary("/test.Echo/Sync")(text("a"))


async def test_the_limit_is_grpcs_own_unless_said_otherwise() -> None:
    async def echo(request: bytes, context: Any) -> bytes:
        return request

    handlers: dict[str, Any] = {"/test.Echo/Bytes": grpc.unary_unary_rpc_method_handler(echo)}
    async with LocalChannel(handlers.get) as channel:
        call: Any = channel.unary_unary("/test.Echo/Bytes")
        assert len(await call(bytes(4 * 1024 * 1024))) == 4 * 1024 * 1024
        with pytest.raises(grpc.aio.AioRpcError, match=r"SERVER: .* \(4194305 vs\. 4194304\)"):
            await call(bytes(4 * 1024 * 1024 + 1))


async def awaited(call: Any) -> Any:
    return await call


def unary(behaviour: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        behaviour, request_deserializer=StringValue.FromString, response_serializer=StringValue.SerializeToString
    )
