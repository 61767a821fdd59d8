"""A real NATS for this folder, and brokers that follow it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from kit import ids
from kit.events.broker import Broker
from kit.events.stream import StreamOptions
from kit.spool import Record
from stack.nats import Nats

SUBJECT = "turnout.events.v1.RequestServed.shop"

Brokers = Callable[[], AbstractAsyncContextManager[Broker]]


class Until(Protocol):
    async def __call__(self, condition: Callable[[], Any], seconds: float = 20) -> None: ...


@pytest.fixture(scope="session")
def until() -> Until:
    """Wait for a condition, for at most so long."""

    async def wait(condition: Callable[[], Any], seconds: float = 20) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.005)

    return wait


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[Nats]:
    with Nats(tmp_path / "nats") as server:
        yield server


@pytest.fixture
def brokers(nats: Nats) -> Brokers:
    """Opens a broker of its own for every block."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Broker]:
        broker = Broker(nats.url, name="test", stream_options=StreamOptions(max_bytes=64 << 20))
        task = asyncio.create_task(broker.run())
        try:
            yield broker
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    return opened


@pytest.fixture
async def broker(brokers: Brokers) -> AsyncIterator[Broker]:
    async with brokers() as opened:
        connection = await asyncio.wait_for(opened.connected(), 10)
        # NATS removes the folder of all streams after the last of them, late, and makes no stream at that moment.
        await connection.manager.add_stream(name="ANOTHER", subjects=["another.>"])
        yield opened


@pytest.fixture(scope="session")
def records() -> Callable[..., list[Record]]:
    """So many records with new ids; the payload is the number."""

    def make(count: int, *, subject: str = SUBJECT, headers: dict[str, str] | None = None) -> list[Record]:
        return [
            Record(ids.encode(ids.uuid7()), subject, str(number).encode(), headers or {}) for number in range(count)
        ]

    return make
