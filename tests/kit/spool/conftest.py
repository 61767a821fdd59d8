"""A broker in memory, and spools that are quick to notice what happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import pytest

from kit.spool import ACKNOWLEDGED, Event, Outcome, Record, Rejected, Spool, SpoolOptions


class Broker:
    """Our own port, in memory: takes what it is given unless told to be down, to refuse or to take only so many."""

    def __init__(self) -> None:
        self.taken: list[Record] = []
        self.failures = 0
        self.is_down = False
        self.budget: int | None = None
        """How many more records it takes before it goes down; in the middle of a batch, too."""
        self.refusal: Callable[[Record], str | None] = lambda _: None

    async def publish(self, batch: Sequence[Record]) -> Sequence[Outcome]:
        await asyncio.sleep(0)
        outcomes: list[Outcome] = []
        for record in batch:
            if self.is_down or self.budget == 0:
                self.failures += 1
                raise ConnectionError("the broker is down")
            if self.budget is not None:
                self.budget -= 1
            if (reason := self.refusal(record)) is not None:
                outcomes.append(Rejected(reason))
            else:
                self.taken.append(record)
                outcomes.append(ACKNOWLEDGED)
        return outcomes

    @property
    def payloads(self) -> list[bytes]:
        return [record.payload for record in self.taken]


class MakeSpool(Protocol):
    def __call__(self, root: Path | None = None, **options: Any) -> Spool: ...


Running = Callable[[Spool, Broker], AbstractAsyncContextManager[None]]


class Until(Protocol):
    async def __call__(self, condition: Callable[[], bool], seconds: float = 10) -> None: ...


def report_lost(payload: bytes) -> Event:
    return Event("lost", payload)


@pytest.fixture(scope="session")
def make_broker() -> Callable[[], Broker]:
    return Broker


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture(scope="session")
def options() -> Callable[..., SpoolOptions]:
    """Options for a root, impatient unless told otherwise."""

    def make(root: Path, **options: Any) -> SpoolOptions:
        impatient: dict[str, Any] = {
            "root_setting": "TURNOUT_SPOOL_DIR",
            "linger_seconds": 0,
            "backoff_min_seconds": 0.002,
            "backoff_max_seconds": 0.01,
            "adopt_interval_seconds": 0.01,
        }
        return SpoolOptions(root=root, **(impatient | options))

    return make


@pytest.fixture
def make_spool(tmp_path: Path, options: Callable[..., SpoolOptions]) -> Iterator[MakeSpool]:
    """Spools that are closed after the test; `tmp_path` is the root of those that name none."""
    spools: list[Spool] = []

    def make(root: Path | None = None, **given: Any) -> Spool:
        extras: dict[str, Any] = {name: given.pop(name) for name in ("lost", "clock") if name in given}
        spools.append(Spool(options(root or tmp_path, **given), **({"lost": report_lost} | extras)))
        return spools[-1]

    yield make
    for spool in spools:
        spool.close()


@pytest.fixture(scope="session")
def running() -> Running:
    """The relay of a spool, as long as the block lasts."""

    @asynccontextmanager
    async def run(spool: Spool, broker: Broker) -> AsyncIterator[None]:
        task = asyncio.create_task(spool.run(broker))
        try:
            yield
            assert not task.done(), "run() ended by itself"
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    return run


@pytest.fixture(scope="session")
def until() -> Until:
    """Wait for a condition, for at most so long."""

    async def wait(condition: Callable[[], bool], seconds: float = 10) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.001)

    return wait
