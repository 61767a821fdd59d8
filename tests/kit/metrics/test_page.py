from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from kit.metrics import Counter, CounterSeries, Metrics, Reading
from kit.metrics.page import _LARGE_SERIES, _MAX_SCRAPES, Page
from tests.kit.http_server.serving import until


class Held(Counter):
    """One that is not read before its gate is open."""

    def __init__(self) -> None:
        super().__init__("turnout_held", "Held.", ("name",), 1000)
        for number in range(_LARGE_SERIES + 1):
            self.series(str(number))
        self.gate = threading.Event()
        self.begun = self.reading = self.most = 0

    def all(self) -> Iterator[tuple[tuple[str, ...], CounterSeries]]:
        self.begun += 1
        self.reading += 1
        self.most = max(self.most, self.reading)
        self.gate.wait(10)
        self.reading -= 1
        return iter(list(super().all()))


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    held.gate.set()


async def test_a_scraper_who_leaves_does_not_have_the_next_page_written_beside_its_own(held: Held) -> None:
    metrics = Metrics()
    metrics.add(held)
    page = Page(metrics)
    leaves = asyncio.create_task(page.write(""))
    await until(lambda: held.begun)

    leaves.cancel()
    await asyncio.wait((leaves,))
    assert leaves.cancelled()
    stay = [asyncio.create_task(page.write("")) for _ in range(_MAX_SCRAPES - 1)]
    # The page that nobody reads is still one of them.
    assert await asyncio.wait_for(page.write(""), 5) is None
    held.gate.set()

    assert all([await each for each in stay])
    assert (held.begun, held.most) == (_MAX_SCRAPES, 1)
    assert await page.write("") is not None


async def test_a_scraper_who_leaves_before_its_turn_leaves_its_place(held: Held) -> None:
    metrics = Metrics()
    metrics.add(held)
    page = Page(metrics)
    stay = [asyncio.create_task(page.write("")) for _ in range(_MAX_SCRAPES)]
    await until(lambda: held.begun)
    assert await page.write("") is None

    left = stay.pop()
    left.cancel()
    await asyncio.wait((left,))
    stay.append(asyncio.create_task(page.write("")))
    held.gate.set()

    assert all([await each for each in stay])
    assert held.begun == _MAX_SCRAPES


async def test_a_page_that_fails_does_not_keep_the_next_from_being_written(held: Held) -> None:
    held.gate.set()
    metrics = Metrics()
    metrics.add(held)
    failing = [True]

    def read() -> list[Reading]:
        if failing:
            raise RuntimeError
        return []

    metrics.read(read)
    page = Page(metrics)
    for _ in range(_MAX_SCRAPES + 1):
        with pytest.raises(RuntimeError):
            await page.write("")
    failing.clear()
    assert await page.write("") is not None
