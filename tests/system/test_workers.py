"""`--workers N`: several processes on one port that are kept alive, and lose and double nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import psutil
import pytest

from stack.nats import Nats
from stack.postgres import Postgres
from stack.services import Installation, ServiceProcess
from tests.system.clients import Clients, eventually, tenant
from tests.system.processes import installed, upstream
from turnout.chat.v1 import message_pb2
from turnout.executor.v1 import execution_service_pb2
from turnout.executor.v1.execution_service_pb2_grpc import ExecutionServiceStub

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nats(open_folder: Path) -> Iterator[Nats]:
    """Its own: installations on one NATS would take each other's events."""
    with Nats(open_folder / f"nats-{uuid.uuid4().hex[:8]}") as server:
        yield server


@pytest.fixture(scope="module")
def running(open_folder: Path, postgres: Postgres, nats: Nats) -> Iterator[Installation]:
    """All services in one process; the workers under test are executors beside it."""
    with installed(open_folder, postgres, nats, "all") as installation:
        yield installation


@pytest.fixture
async def shop(running: Installation) -> AsyncIterator[Clients]:
    """A tenant of it."""
    async with tenant(running) as clients:
        yield clients


@pytest.fixture
def settings(running: Installation, tmp_path: Path) -> dict[str, str]:
    """Of an executor that follows the installation's registry, with a spool of its own."""
    data = tmp_path / "data"
    data.mkdir()
    return running.processes[0].environment | {
        "TURNOUT_REGISTRY_ADDRESS": running.address("registry"),
        "TURNOUT_DATA_DIR": str(data),
    }


@pytest.fixture
def workers(settings: dict[str, str], tmp_path: Path) -> Iterator[ServiceProcess]:
    """Two executors on one port."""
    with ServiceProcess(tmp_path, ["executor"], settings, workers=2) as process:
        yield process


def children(pid: int) -> set[int]:
    """The workers of a parent that are there now."""
    return {child.pid for child in psutil.Process(pid).children()}


def calls_at(base_url: str) -> int:
    """How many calls an upstream has seen."""
    with urllib.request.urlopen(f"{base_url.removesuffix('/v1')}/stats", timeout=5) as answer:
        calls: int = json.load(answer)["calls"]
    return calls


@asynccontextmanager
async def connections(address: str, count: int) -> AsyncIterator[list[grpc.aio.Channel]]:
    """So many connections of their own: channels of one process to one address would share one."""
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 200))
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(count)]
    try:
        yield channels
    finally:
        for channel in channels:
            await channel.close()


async def run(channel: grpc.aio.Channel, shop: Clients) -> str:
    """One call; the id of the request."""
    request = execution_service_pb2.RunRequest(deployment="agent")
    request.messages.add(role=message_pb2.ROLE_USER, content="Hello")
    answer = await ExecutionServiceStub(channel).Run(request, metadata=shop.metadata(), timeout=20)
    return str(answer.request_id)


async def instances(shop: Clients, calls: int) -> dict[str, int]:
    """How many requests each process recorded, once all are there."""

    async def counted() -> dict[str, int]:
        logs = await shop.all_logs("agent")
        assert len(logs) == calls
        assert len({log.request.request_id for log in logs}) == calls
        found: dict[str, int] = {}
        for log in logs:
            found[log.request.service_instance] = found.get(log.request.service_instance, 0) + 1
        return found

    return await eventually(counted, seconds=30)


async def both_serve(workers: ServiceProcess) -> None:
    """Wait until every worker listens: the parent is ready with the first."""

    async def listening() -> None:
        pids = children(workers.pid)
        assert len(pids) == 2
        for pid in pids:
            assert any(each.status == psutil.CONN_LISTEN for each in psutil.Process(pid).net_connections())

    await eventually(listening)


async def test_both_workers_serve_and_every_call_is_counted_once(
    workers: ServiceProcess, shop: Clients, instant_llm: str
) -> None:
    await shop.create_provider("instant", instant_llm)
    await shop.create_deployment("agent", "instant")
    await both_serve(workers)

    async with connections(workers.address, 24) as channels:
        served = [await asyncio.gather(*(run(channel, shop) for channel in channels)) for _ in range(5)]

    assert len({request for turn in served for request in turn}) == 120
    found = await instances(shop, 120)
    print(f"calls by worker: {sorted(found.values())}")
    assert len(found) == 2
    assert (await shop.totals("agent")).total.requests == 120


async def test_a_killed_worker_is_restarted_and_its_open_calls_become_lost(
    workers: ServiceProcess, shop: Clients, open_folder: Path
) -> None:
    with upstream(open_folder / "three-seconds", "--latency-ms", "3000") as base_url:
        await shop.create_provider("slow", base_url)
        await shop.create_deployment("agent", "slow")
        await both_serve(workers)
        before = children(workers.pid)
        async with connections(workers.address, 16) as channels:
            calls = [asyncio.create_task(run(channel, shop)) for channel in channels]

            async def in_flight() -> None:
                assert await asyncio.to_thread(calls_at, base_url) == len(calls)

            await eventually(in_flight)
            victim = before.pop()
            os.kill(victim, signal.SIGKILL)
            answers = await asyncio.gather(*calls, return_exceptions=True)

        failed = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
        assert {failure.code() for failure in failed} == {grpc.StatusCode.UNAVAILABLE}
        assert 0 < len(failed) < 16

        async def counted() -> None:
            total = (await shop.totals("agent")).total
            assert (total.ok, total.lost) == (16 - len(failed), len(failed))
            assert total.requests == 16

        await eventually(counted, seconds=30)
        await both_serve(workers)
        after = children(workers.pid)
        assert victim not in after
        assert before < after


class TestTheParent:
    @pytest.fixture
    async def parent(self, settings: dict[str, str], tmp_path: Path) -> AsyncIterator[subprocess.Popen[bytes]]:
        """Without the supervisor of the stack, which would end what the parent leaves."""
        ready_file = tmp_path / "ready.json"
        command = [sys.executable, "-m", "services", "executor", "--workers", "2", "--ready-file", str(ready_file)]
        environment = settings | {"TURNOUT_LISTEN_ADDRESS": "127.0.0.1:0"}
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(command, env=environment, stderr=log, cwd=tmp_path)

        async def ready() -> None:
            assert process.poll() is None
            assert json.loads(ready_file.read_text())["port"] if ready_file.exists() else False
            assert len(children(process.pid)) == 2

        await eventually(ready)
        left = psutil.Process(process.pid).children(recursive=True)
        yield process
        for each in left:
            if each.is_running():
                each.kill()
        process.kill()
        process.wait()

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_stops_all(self, parent: subprocess.Popen[bytes], number: signal.Signals) -> None:
        workers = psutil.Process(parent.pid).children()

        parent.send_signal(number)

        assert parent.wait(20) == 0
        assert [worker for worker in workers if worker.is_running()] == []

    def test_workers_stop_by_themselves_when_it_is_killed(self, parent: subprocess.Popen[bytes]) -> None:
        workers = psutil.Process(parent.pid).children()

        began = time.monotonic()
        parent.kill()
        parent.wait()
        _, alive = psutil.wait_procs(workers, timeout=20)

        print(f"workers ended {time.monotonic() - began:.2f} s after their parent")
        assert alive == []
