from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from kit.calls import Call, Principal
from kit.interceptors import Auth, Chain
from kit.server import Server, ServerOptions
from kit.telemetry import Tracing
from turnout.executor.v1 import execution_service_pb2 as pb
from turnout.executor.v1 import execution_service_pb2_grpc as rpc


class AnyKey:
    async def authenticate(self, key: str, call: Call) -> Principal:
        return Principal("id", "prj_1", frozenset({"deployments:run"}))


class Servicer(rpc.ExecutionServiceServicer):
    """Keeps from where it was called."""

    def __init__(self) -> None:
        self.peers: set[str] = set()
        self.may_answer = asyncio.Event()
        """Calls to the deployment `slow` wait for it."""

    async def Run(self, request: pb.RunRequest, context: Any) -> pb.RunResponse:
        self.peers.add(context.peer())
        if request.deployment == "slow":
            await self.may_answer.wait()
        return pb.RunResponse()

    async def GetConfig(self, request: pb.GetConfigRequest, context: Any) -> pb.GetConfigResponse:
        return pb.GetConfigResponse()

    def RunStream(self, request: pb.RunStreamRequest, context: Any) -> AsyncIterator[pb.RunStreamResponse]:
        raise NotImplementedError


@asynccontextmanager
async def serving(
    connection_age_seconds: int, drain_seconds: float = 5
) -> AsyncIterator[tuple[Servicer, rpc.ExecutionServiceAsyncStub]]:
    tracing, servicer = Tracing(sample_ratio=0, resource={}, exporter=None), Servicer()
    options = ServerOptions("127.0.0.1:0", 10, connection_age_seconds, drain_seconds, shares_port=False)
    server = Server(Chain(tracing, (Auth(AnyKey()),)), options)
    rpc.add_ExecutionServiceServicer_to_server(servicer, server.registrar)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield servicer, rpc.ExecutionServiceStub(channel)
    await server.stop()
    tracing.shutdown()


async def test_a_long_lived_channel_connects_anew_after_the_connection_age_and_no_call_fails() -> None:
    async with serving(connection_age_seconds=1) as (servicer, stub):
        async with asyncio.timeout(15):
            while len(servicer.peers) < 3:
                # No retry of grpc's hides a failure: a call that a server has begun is never repeated.
                await stub.Run(pb.RunRequest(deployment="d"), metadata=(("x-api-key", "k"),), timeout=5)

    assert len({peer.rpartition(":")[2] for peer in servicer.peers}) == 3


async def test_a_call_that_outlives_its_connections_age_is_answered_however_short_a_drain_is() -> None:
    async with serving(connection_age_seconds=1, drain_seconds=0) as (servicer, stub):
        metadata = (("x-api-key", "k"),)
        slow = asyncio.ensure_future(stub.Run(pb.RunRequest(deployment="slow"), metadata=metadata, timeout=20))
        async with asyncio.timeout(15):
            while len(servicer.peers) < 3 and not slow.done():
                await stub.Run(pb.RunRequest(deployment="d"), metadata=metadata, timeout=5)
        servicer.may_answer.set()

        assert await slow == pb.RunResponse()


async def test_a_young_connection_is_kept() -> None:
    async with serving(connection_age_seconds=300) as (servicer, stub):
        for _ in range(200):
            await stub.Run(pb.RunRequest(deployment="d"), metadata=(("x-api-key", "k"),), timeout=5)

    assert len(servicer.peers) == 1
