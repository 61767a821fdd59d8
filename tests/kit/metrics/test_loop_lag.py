from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from kit.metrics import Metrics
from kit.metrics.loop_lag import BOUNDS_SECONDS, measure_lag


async def test_a_blocked_loop_shows() -> None:
    series = Metrics().histogram("lag_seconds", "Lag.", bounds=BOUNDS_SECONDS).series()
    measuring = asyncio.create_task(measure_lag(series))
    await asyncio.sleep(0)

    time.sleep(0.6)  # the fault under test
    async with asyncio.timeout(5):
        while not sum(series.counts):
            await asyncio.sleep(0.005)
    measuring.cancel()
    with suppress(asyncio.CancelledError):
        await measuring

    assert series.total >= 0.3
