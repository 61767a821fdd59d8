"""Bytes that are no request, to rpcs of all four kinds, over the network."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from kit import status
from kit.calls import Call, Principal
from kit.errors import Unauthenticated
from kit.interceptors import Auth, Chain, Validation
from kit.server import MAX_MESSAGE_BYTES, Server, ServerOptions
from kit.telemetry import Tracing
from turnout.analytics.v1 import log_service_pb2
from turnout.executor.v1 import execution_service_pb2 as pb
from turnout.registry.v1 import catalog_service_pb2

# Each behind the rule of an rpc that there is; of what kind that one is does not matter here.
KINDS = {
    "unary_unary": (pb.DESCRIPTOR.services_by_name["ExecutionService"].full_name, "Run"),
    "unary_stream": (pb.DESCRIPTOR.services_by_name["ExecutionService"].full_name, "RunStream"),
    "stream_unary": (catalog_service_pb2.DESCRIPTOR.services_by_name["CatalogService"].full_name, "WatchCatalog"),
    "stream_stream": (log_service_pb2.DESCRIPTOR.services_by_name["LogService"].full_name, "ListLogs"),
}
RAW: Any = {"request_serializer": bytes, "response_deserializer": pb.RunResponse.FromString}
KEY = (("authorization", "Bearer the-key"),)
GOOD = pb.RunRequest(deployment="d").SerializeToString()
GARBAGE = [b"\xff\xff\xff", b"\x0a", b"\x0a\x7f", b"\x0a\x02\xc3\x28", b"\x00", GOOD[:-1]]


class TheKey:
    async def authenticate(self, key: str, call: Call) -> Principal:
        if key != "the-key":
            raise Unauthenticated("unknown", reason="KEY_UNKNOWN")
        return Principal("id", "prj_1", frozenset({"deployments:run", "catalog:watch", "analytics:read"}))


@dataclass
class Servicer:
    """One rpc of each kind; they answer with what they were sent."""

    seen: list[pb.RunRequest] = field(default_factory=list)

    async def unary_unary(self, request: pb.RunRequest, context: Any) -> pb.RunResponse:
        self.seen.append(request)
        return pb.RunResponse(request_id=request.deployment[:10])

    async def unary_stream(self, request: pb.RunRequest, context: Any) -> AsyncIterator[pb.RunResponse]:
        self.seen.append(request)
        yield pb.RunResponse(request_id=request.deployment[:10])

    async def stream_unary(self, requests: AsyncIterator[pb.RunRequest], context: Any) -> pb.RunResponse:
        async for request in requests:
            self.seen.append(request)
        return pb.RunResponse(request_id=self.seen[-1].deployment[:10])

    async def stream_stream(
        self, requests: AsyncIterator[pb.RunRequest], context: Any
    ) -> AsyncIterator[pb.RunResponse]:
        async for request in requests:
            self.seen.append(request)
            yield pb.RunResponse(request_id=request.deployment[:10])


@dataclass
class Served:
    servicer: Servicer
    channel: grpc.aio.Channel

    async def call(self, kind: str, *requests: bytes, metadata: Any = KEY) -> list[str]:
        """Send these bytes; the ids that were answered.

        :raises grpc.aio.AioRpcError: if the call failed
        """
        method = getattr(self.channel, kind)("/" + "/".join(KINDS[kind]), **RAW)
        sent = iter(requests) if kind.startswith("stream") else requests[0]
        call = method(sent, metadata=metadata, timeout=20)
        if kind.endswith("stream"):
            return [answer.request_id async for answer in call]
        return [(await call).request_id]

    async def failure(self, kind: str, *requests: bytes, metadata: Any = KEY) -> tuple[grpc.StatusCode, str, str]:
        """Code, reason and sentence of a call that must fail."""
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await self.call(kind, *requests, metadata=metadata)
        return failure.value.code(), status.reason_of(failure.value), failure.value.details() or ""


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    tracing, servicer = Tracing(sample_ratio=0, resource={}, exporter=None), Servicer()
    server = Server(
        Chain(tracing, (Auth(TheKey()), Validation())), ServerOptions("127.0.0.1:0", 10, 300, 5, shares_port=False)
    )
    for kind, (service, name) in KINDS.items():
        make: Any = getattr(grpc, f"{kind}_rpc_method_handler")
        handler = make(
            getattr(servicer, kind),
            request_deserializer=pb.RunRequest.FromString,
            response_serializer=pb.RunResponse.SerializeToString,
        )
        server.add_registered_method_handlers(service, {name: handler})
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield Served(servicer, channel)
    await server.stop()
    tracing.shutdown()


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_a_request_is_served(served: Served, kind: str) -> None:
    assert await served.call(kind, GOOD) == ["d"]


@pytest.mark.parametrize("kind", KINDS)
async def test_bytes_that_are_no_request_are_refused_with_a_reason_and_without_a_traceback(
    served: Served, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    for garbage in GARBAGE:
        code, reason, text = await served.failure(kind, garbage)

        assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_UNREADABLE"), garbage
        assert "turnout.executor.v1.RunRequest" in text
    assert caplog.records == []
    assert served.servicer.seen == []


@pytest.mark.parametrize("kind", KINDS)
async def test_who_may_not_call_hears_nothing_of_the_bytes(served: Served, kind: str) -> None:
    # Where the client streams, grpc.aio says INTERNAL of its own if the call ends while it writes a large message.
    large = () if kind.startswith("stream") else (bytes(MAX_MESSAGE_BYTES + 1),)
    for bad in (GARBAGE[0], *large):
        code, reason, _ = await served.failure(kind, bad, metadata=(("authorization", "Bearer no"),))

        assert (code, reason) == (grpc.StatusCode.UNAUTHENTICATED, "KEY_UNKNOWN")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_request_that_is_too_large_is_refused_with_the_limit(served: Served, kind: str) -> None:
    def of_size(size_bytes: int) -> bytes:
        # A tag and four bytes of length stand before the text.
        return pb.RunRequest(deployment="d" * (size_bytes - 5)).SerializeToString()

    with_limit = of_size(MAX_MESSAGE_BYTES)
    assert len(with_limit) == MAX_MESSAGE_BYTES
    code, reason, text = await served.failure(kind, of_size(6 << 20))

    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_TOO_LARGE")
    assert str(MAX_MESSAGE_BYTES) in text
    assert served.servicer.seen == []
    # As large as allowed: read, and judged by its content.
    code, reason, _ = await served.failure("unary_unary", with_limit)
    assert reason == "INVALID_REQUEST"


@pytest.mark.parametrize("kind", ["stream_unary", "stream_stream"])
async def test_a_stream_fails_at_the_message_that_cannot_be_read(served: Served, kind: str) -> None:
    code, reason, _ = await served.failure(kind, GOOD, GARBAGE[0], GOOD)

    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_UNREADABLE")
    assert len(served.servicer.seen) == 1


async def test_a_stream_whose_caller_leaves_ends_its_rpc(served: Served) -> None:
    sent, ended = asyncio.Event(), asyncio.Event()

    async def requests() -> AsyncIterator[bytes]:
        yield GOOD
        sent.set()
        await ended.wait()

    method: Any = served.channel.stream_stream("/" + "/".join(KINDS["stream_stream"]), **RAW)
    call = method(requests(), metadata=KEY, timeout=20)
    assert (await call.read()).request_id == "d"
    await sent.wait()
    call.cancel()
    ended.set()

    assert await call.code() is grpc.StatusCode.CANCELLED
    assert await served.call("unary_unary", GOOD) == ["d"]
