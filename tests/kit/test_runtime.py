from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kit.interceptors import Auth, Chain, Validation
from kit.local_channel import LocalChannel
from kit.runtime import MissingPeer, ProcessOptions, Runtime
from kit.server import PortTaken, Server, ServerOptions
from kit.telemetry import Tracing


def _server(address: str = "127.0.0.1:0") -> Server:
    tracing = Tracing(sample_ratio=0, resource={}, exporter=None)
    return Server(Chain(tracing, (Auth(), Validation())), ServerOptions(address, 10, 300, 1, shares_port=False))


def _runtime(
    *services: str, peers: dict[str, str] | None = None, ready_file: Path | None = None, server: Server | None = None
) -> Runtime:
    tracing = Tracing(sample_ratio=0, resource={}, exporter=None)
    return Runtime(ProcessOptions("ins_1", services, peers or {}, ready_file, None), server or _server(), tracing)


async def test_services_are_left_in_the_reverse_order_of_entering() -> None:
    story: list[str] = []

    def module(name: str) -> object:
        @asynccontextmanager
        async def enter(runtime: Runtime) -> AsyncIterator[None]:
            story.append(f"enter {name}")
            yield
            story.append(f"leave {name}")

        return enter

    async with _runtime() as runtime:
        await runtime.enter(module("a"))  # type: ignore[arg-type]  # a module, made here
        await runtime.enter(module("b"))  # type: ignore[arg-type]

    assert story == ["enter a", "enter b", "leave b", "leave a"]


async def test_what_is_shared_is_made_once() -> None:
    made: list[int] = []

    @asynccontextmanager
    async def connection(runtime: Runtime) -> AsyncIterator[object]:
        made.append(1)
        yield object()

    async with _runtime() as runtime:
        assert await runtime.shared(connection) is await runtime.shared(connection)
    assert made == [1]


async def test_a_peer_is_its_address_else_this_process_else_a_sentence_with_the_setting() -> None:
    async with _runtime("executor", "registry", peers={"analytics": "127.0.0.1:1"}) as runtime:
        assert isinstance(await runtime.channel("registry"), LocalChannel)
        assert not isinstance(await runtime.channel("analytics"), LocalChannel)
        with pytest.raises(MissingPeer, match="TURNOUT_ROUTER_ADDRESS"):
            await runtime.channel("router")


async def test_background_work_that_ends_stops_the_process_with_failure() -> None:
    async def end() -> None:
        raise ValueError("bug")

    async with _runtime() as runtime, runtime.background("work", end()):
        assert await asyncio.wait_for(runtime.serve(), 10) == 1


async def test_a_process_says_that_it_is_ready_only_when_every_condition_holds(tmp_path: Path) -> None:
    ready_file = tmp_path / "ready.json"
    async with _runtime("executor", ready_file=ready_file) as runtime:
        condition = runtime.ready_when("the catalog")
        serving = asyncio.create_task(runtime.serve())
        await asyncio.wait_for(runtime.wired.wait(), 10)
        assert not ready_file.exists()

        condition.set()
        async with asyncio.timeout(10):
            while not ready_file.exists():
                await asyncio.sleep(0.01)
        assert json.loads(ready_file.read_text())["port"] == runtime.server.port

        runtime.stop()
        assert await asyncio.wait_for(serving, 10) == 0


async def test_a_taken_port_is_a_sentence_with_the_setting() -> None:
    first = _server()
    await first.start()
    with pytest.raises(PortTaken, match="TURNOUT_LISTEN_ADDRESS"):
        await _server(f"127.0.0.1:{first.port}").start()
    await first.stop()


async def test_background_work_that_swallows_a_cancellation_is_cancelled_again() -> None:
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if swallowed:
                    raise
                swallowed += 1

    async with asyncio.timeout(10), _runtime() as runtime, runtime.background("work", stubborn()):
        await asyncio.sleep(0)

    assert swallowed == 1
