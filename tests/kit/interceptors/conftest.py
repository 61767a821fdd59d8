"""A small service behind the real chain and the real server, called over TCP and in the process alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from kit.calls import Call, Principal
from kit.errors import Unauthenticated
from kit.interceptors import Auth, Chain, Validation
from kit.local_channel import LocalChannel
from kit.server import Server, ServerOptions
from kit.telemetry import Span, Tracing
from turnout.executor.v1 import execution_service_pb2 as pb
from turnout.executor.v1 import execution_service_pb2_grpc as rpc

KEY = "the-key"


class OneKey:
    """Knows one key."""

    def __init__(self) -> None:
        self.scopes = frozenset({"deployments:run"})

    async def authenticate(self, key: str, call: Call) -> Principal:
        if key != KEY:
            raise Unauthenticated("unknown", reason="KEY_UNKNOWN")
        return Principal("id", "prj_1", self.scopes)


class Spans(SpanExporter):
    """Keeps what was exported."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def export(self, spans: Any) -> SpanExportResult:
        self.spans.extend(spans)
        return SpanExportResult.SUCCESS


Behaviour = Callable[[pb.RunRequest, Any], Awaitable[pb.RunResponse]]


class Servicer(rpc.ExecutionServiceServicer):
    """Does what a test wants."""

    def __init__(self) -> None:
        self.behaviour: Behaviour | None = None

    async def Run(self, request: pb.RunRequest, context: Any) -> pb.RunResponse:
        assert self.behaviour is not None
        return await self.behaviour(request, context)

    async def GetConfig(self, request: pb.GetConfigRequest, context: Any) -> pb.GetConfigResponse:
        return pb.GetConfigResponse()

    def RunStream(self, request: pb.RunStreamRequest, context: Any) -> AsyncIterator[pb.RunStreamResponse]:
        raise NotImplementedError


@dataclass
class Served:
    """The service, and how to call it."""

    servicer: Servicer
    keys: OneKey
    tracing: Tracing
    spans: Spans
    channel: grpc.aio.Channel
    metadata: tuple[tuple[str, str], ...] = field(default=(("authorization", f"Bearer {KEY}"),))

    async def run(self, behaviour: Behaviour, **arguments: Any) -> pb.RunResponse:
        self.servicer.behaviour = behaviour
        stub: rpc.ExecutionServiceAsyncStub = rpc.ExecutionServiceStub(self.channel)
        arguments.setdefault("metadata", self.metadata)
        request = arguments.pop("request", pb.RunRequest(deployment="d"))
        return await stub.Run(request, **arguments)

    def exported(self) -> list[Span]:
        self.tracing.shutdown()
        return self.spans.spans


@asynccontextmanager
async def serve(kind: str, sample_ratio: float) -> AsyncIterator[Served]:
    spans, keys, servicer = Spans(), OneKey(), Servicer()
    tracing = Tracing(sample_ratio=sample_ratio, resource={"service.name": "test"}, exporter=spans)
    options = ServerOptions("127.0.0.1:0", 100, 300, 5, shares_port=False)
    server = Server(Chain(tracing, (Auth(keys), Validation())), options)
    rpc.add_ExecutionServiceServicer_to_server(servicer, server.registrar)
    await server.start()
    channel = LocalChannel(server.handler) if kind == "local" else grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")
    try:
        yield Served(servicer, keys, tracing, spans, channel)
    finally:
        await channel.close()
        await server.stop()
        tracing.shutdown()


@pytest.fixture(params=["tcp", "local"])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    async with serve(request.param, 0.0) as service:
        yield service


@pytest.fixture(params=["tcp", "local"])
async def traced(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    async with serve(request.param, 1.0) as service:
        yield service
