"""A process that serves says so, is small, and ends without losing a call."""

from __future__ import annotations

import asyncio
import json
import signal
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from stack.nats import Nats
from stack.postgres import Postgres
from stack.services import Installation
from tests.system.clients import Clients, eventually, tenant
from tests.system.processes import installed, upstream

pytestmark = pytest.mark.slow

DRAIN_SECONDS = 8


@pytest.fixture(scope="module")
def nats(open_folder: Path) -> Iterator[Nats]:
    """Its own: installations on one NATS would take each other's events."""
    with Nats(open_folder / f"nats-{uuid.uuid4().hex[:8]}") as server:
        yield server


@pytest.fixture(scope="module")
def running(open_folder: Path, postgres: Postgres, nats: Nats) -> Iterator[Installation]:
    """All services in one process."""
    extra = {"TURNOUT_DRAIN_SECONDS": str(DRAIN_SECONDS)}
    with installed(open_folder, postgres, nats, "all", extra=extra) as installation:
        yield installation


@pytest.fixture
async def shop(running: Installation) -> AsyncIterator[Clients]:
    """A tenant of it."""
    async with tenant(running) as clients:
        yield clients


class TestAtTheDoor:
    async def test_health_answers_without_a_key_for_the_process_and_each_service(self, running: Installation) -> None:
        async with grpc.aio.insecure_channel(running.address("executor")) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            for service in ("", "turnout.executor.v1.ExecutionService", "turnout.registry.v1.CatalogService"):
                answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING

            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await stub.Check(health_pb2.HealthCheckRequest(service="nope"), timeout=5)
            assert failure.value.code() is grpc.StatusCode.NOT_FOUND

    async def test_reflection_lists_and_describes_the_services_without_a_key(self, running: Installation) -> None:
        async with grpc.aio.insecure_channel(running.address("executor")) as channel:
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            ask = reflection_pb2.ServerReflectionRequest
            symbol = "turnout.executor.v1.ExecutionService"
            call = stub.ServerReflectionInfo(iter([ask(list_services=""), ask(file_containing_symbol=symbol)]))
            listed, described = [answer async for answer in call]

        assert {service.name for service in listed.list_services_response.service} >= {
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
            "turnout.analytics.v1.LogService",
            "turnout.executor.v1.ExecutionService",
            "turnout.registry.v1.DeploymentService",
        }
        files = [
            descriptor_pb2.FileDescriptorProto.FromString(each)
            for each in described.file_descriptor_response.file_descriptor_proto
        ]
        assert "ExecutionService" in {service.name for file in files for service in file.service}

    async def test_every_other_rpc_wants_a_key(self, running: Installation, shop: Clients) -> None:
        stranger = shop.with_key("")

        for call in (stranger.run("agent"), stranger.totals(), stranger.all_logs()):
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await call
            assert failure.value.code() is grpc.StatusCode.UNAUTHENTICATED
        await stranger.close()


def calls_at(base_url: str) -> int:
    """How many calls an upstream has seen."""
    with urllib.request.urlopen(f"{base_url.removesuffix('/v1')}/stats", timeout=5) as answer:
        calls: int = json.load(answer)["calls"]
    return calls


async def test_a_signal_drains_the_process_and_loses_no_call(
    open_folder: Path, running: Installation, shop: Clients
) -> None:
    with upstream(open_folder / "a-second", "--latency-ms", "1000") as base_url:
        await shop.create_provider("second", base_url)
        await shop.create_deployment("agent", "second")
        for turn, number in enumerate((signal.SIGTERM, signal.SIGINT), start=1):
            await _drain(running, shop, base_url, number, turn)
            running.processes[0].start()

    async def counted() -> None:
        totals = await shop.totals("agent")
        assert (totals.total.requests, totals.total.ok) == (10, 10)

    began = time.monotonic()
    await eventually(counted, seconds=60)
    print(f"all counted {time.monotonic() - began:.1f} s after the last start")


async def _drain(running: Installation, shop: Clients, base_url: str, number: signal.Signals, turn: int) -> None:
    child = running.processes[0]._child
    assert child is not None
    async with grpc.aio.insecure_channel(running.address("executor")) as channel:
        # Watched, because a new Check may find the door closed already, which is as good an answer.
        health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await health.read()).status == health_pb2.HealthCheckResponse.SERVING
        calls = [asyncio.create_task(shop.run("agent")) for _ in range(5)]

        async def in_flight() -> None:
            assert await asyncio.to_thread(calls_at, base_url) == turn * len(calls)

        await eventually(in_flight)
        began = time.monotonic()
        psutil.Process(child.pid).send_signal(number)

        assert (await health.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        told = time.monotonic() - began
        health.cancel()
        answers = await asyncio.gather(*calls)
        answered = time.monotonic() - began
        ended = await asyncio.to_thread(child.wait, 40)
        took = time.monotonic() - began
    print(f"{number.name}: NOT_SERVING after {told:.2f} s, answered after {answered:.2f} s, ended after {took:.2f} s")
    assert all(answer.message.content for answer in answers)
    assert ended == 0
    assert told < 0.5
    assert took < 5


async def test_who_watches_the_health_does_not_hold_up_the_stop(running: Installation) -> None:
    child = running.processes[0]._child
    assert child is not None
    async with grpc.aio.insecure_channel(running.address("executor")) as channel:
        health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await health.read()).status == health_pb2.HealthCheckResponse.SERVING
        began = time.monotonic()
        psutil.Process(child.pid).terminate()
        assert await asyncio.to_thread(child.wait, 40) == 0
        took = time.monotonic() - began
        health.cancel()
    running.processes[0].start()

    assert took < DRAIN_SECONDS / 2


@pytest.fixture(scope="module")
def split(open_folder: Path, postgres: Postgres) -> Iterator[Installation]:
    """One process each."""
    with (
        Nats(open_folder / f"nats-{uuid.uuid4().hex[:8]}") as nats,
        installed(open_folder, postgres, nats, "split") as installation,
    ):
        yield installation


async def test_a_data_plane_process_is_small_and_ready_fast(open_folder: Path, split: Installation) -> None:
    with upstream(open_folder / "instant-small") as base_url:
        async with tenant(split) as shop:
            await shop.create_provider("instant", base_url)
            await shop.create_deployment("agent", "instant")
            executor = split.process("executor")
            executor.stop(timeout_seconds=30)
            began = time.monotonic()
            executor.start()
            ready = time.monotonic() - began
            cpu = sum(psutil.Process(executor.pid).cpu_times()[:2])

            for _ in range(200):
                await shop.run("agent")

            memory = psutil.Process(executor.pid).memory_info().rss / 1e6
    print(f"executor alone: ready after {ready:.2f} s ({cpu:.2f} s CPU), {memory:.0f} MB after 200 calls")
    assert memory <= 150
    assert ready <= 5


async def test_processes_that_others_follow_stop_within_seconds(split: Installation) -> None:
    took: dict[str, float] = {}
    for room in ("registry", "analytics", "executor"):
        child = split.process(room)._child
        assert child is not None
        began = time.monotonic()
        psutil.Process(child.pid).terminate()
        assert await asyncio.to_thread(child.wait, 40) == 0
        took[room] = round(time.monotonic() - began, 2)

    print(f"ended after {took}")
    assert max(took.values()) < 5
