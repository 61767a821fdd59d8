"""How late the event loop is: what makes every call slow at once, and shows nowhere else."""

from __future__ import annotations

import asyncio
from typing import Final

from kit.metrics.instruments import HistogramSeries

_EVERY_SECONDS: Final = 0.25
BOUNDS_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


async def measure_lag(series: HistogramSeries) -> None:
    """Ask to be woken four times a second, for ever, and note how many seconds later than asked it happens."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _EVERY_SECONDS
        await asyncio.sleep(_EVERY_SECONDS)
        series.observe(max(0.0, loop.time() - due))
