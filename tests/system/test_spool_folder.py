"""The volume of the spool: shared by processes that know nothing of each other, and full."""

from __future__ import annotations

import contextlib
import os
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import psutil
import pytest

from kit import status
from stack.nats import Nats
from stack.postgres import Postgres
from stack.services import Installation, ServiceProcess
from tests.system.clients import Clients, eventually, tenant
from tests.system.processes import installed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nats(open_folder: Path) -> Iterator[Nats]:
    """Its own: installations on one NATS would take each other's events."""
    with Nats(open_folder / f"nats-{uuid.uuid4().hex[:8]}") as server:
        yield server


@pytest.fixture(scope="module")
def running(open_folder: Path, postgres: Postgres, nats: Nats) -> Iterator[Installation]:
    """All services in one process; the executors under test stand beside it."""
    with installed(open_folder, postgres, nats, "all") as installation:
        yield installation


@pytest.fixture
async def shop(running: Installation) -> AsyncIterator[Clients]:
    """A tenant of it."""
    async with tenant(running) as clients:
        yield clients


def executor(running: Installation, folder: Path, data: Path) -> ServiceProcess:
    """One that follows the installation's registry and has its spool in `data`."""
    settings = running.processes[0].environment | {
        "TURNOUT_REGISTRY_ADDRESS": running.address("registry"),
        "TURNOUT_DATA_DIR": str(data),
    }
    return ServiceProcess(folder, ["executor"], settings)


def clients_of(process: ServiceProcess, shop: Clients) -> Clients:
    """The tenant's, with its calls going to another executor."""
    return Clients(shop.addresses | {"executor": process.address}, shop.key, shop.project, sequence=shop.sequence)


async def test_two_services_with_one_folder_serve_and_count_every_call_once(
    running: Installation, shop: Clients, instant_llm: str, tmp_path: Path
) -> None:
    await shop.create_provider("instant", instant_llm)
    await shop.create_deployment("agent", "instant")
    data = tmp_path / "data"

    with (
        executor(running, tmp_path / "one", data) as one,
        executor(running, tmp_path / "two", data) as two,
    ):
        first, second = clients_of(one, shop), clients_of(two, shop)
        for _ in range(25):
            await first.run("agent")
            await second.run("agent")
        one.kill()
        for _ in range(25):
            await second.run("agent")

        async def counted() -> None:
            assert (await shop.totals("agent")).total.ok == 75

        await eventually(counted, seconds=30)
        await first.close()
        await second.close()

    logs = await shop.all_logs("agent")
    assert len({log.request.request_id for log in logs}) == len(logs) == 75
    assert len({log.request.service_instance for log in logs}) == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "small-disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or (refused := subprocess.run(mount, capture_output=True, text=True, check=False)).returncode:
        pytest.skip("a small file system cannot be mounted: " + ("not root" if os.geteuid() else refused.stderr))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    """Write until there is no room."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


async def test_a_full_disk_refuses_calls_and_space_brings_them_back(
    running: Installation, shop: Clients, instant_llm: str, small_disk: Path, tmp_path: Path
) -> None:
    await shop.create_provider("instant", instant_llm)
    await shop.create_deployment("agent", "instant")

    with executor(running, tmp_path / "executor", small_disk) as process:
        clients = clients_of(process, shop)
        await clients.run("agent")
        served = 1
        refused: list[tuple[grpc.StatusCode, str]] = []
        filler = small_disk / "filler"
        fill(filler)

        while len(refused) < 3 and served < 100:
            try:
                await clients.run("agent")
                served += 1
            except grpc.aio.AioRpcError as failure:
                refused.append((failure.code(), status.reason_of(failure)))
        assert refused == [(grpc.StatusCode.UNAVAILABLE, "SPOOL_FULL")] * 3
        assert process.alive()

        filler.unlink()

        async def recovered() -> None:
            try:
                await clients.run("agent")
            except grpc.aio.AioRpcError as failure:
                raise AssertionError(failure.details()) from None

        await eventually(recovered)
        served += 1
        for _ in range(10):
            await clients.run("agent")
        served += 10

        async def counted() -> None:
            assert (await shop.totals("agent")).total.ok == served

        await eventually(counted)
        print(f"{served} served, and refused before there was space: {len(refused)}")
        await clients.close()


async def test_writes_that_fail_refuse_calls_and_writes_that_succeed_bring_them_back(
    running: Installation, shop: Clients, instant_llm: str, tmp_path: Path
) -> None:
    """The same where no file system can be mounted: by a limit that the kernel sets on how large files may become."""
    await shop.create_provider("instant", instant_llm)
    await shop.create_deployment("agent", "instant")

    with executor(running, tmp_path / "executor", tmp_path / "data") as process:
        clients = clients_of(process, shop)
        await clients.run("agent")
        served = psutil.Process(process.pid)
        was = served.rlimit(psutil.RLIMIT_FSIZE)
        served.rlimit(psutil.RLIMIT_FSIZE, (0, was[1]))
        try:
            for _ in range(3):
                with pytest.raises(grpc.aio.AioRpcError) as failure:
                    await clients.run("agent")
                assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
                assert status.reason_of(failure.value) in {"SPOOL_FULL", "SPOOL_UNWRITABLE"}
            assert process.alive()
        finally:
            served.rlimit(psutil.RLIMIT_FSIZE, was)

        async def recovered() -> None:
            try:
                await clients.run("agent")
            except grpc.aio.AioRpcError as failure:
                raise AssertionError(failure.details()) from None

        await eventually(recovered)
        for _ in range(10):
            await clients.run("agent")

        async def counted() -> None:
            total = (await shop.totals("agent")).total
            assert (total.requests, total.ok) == (12, 12), "a refused call was not begun"

        await eventually(counted)
        await clients.close()
