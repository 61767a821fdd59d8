"""Load by coroutines, in a closed loop: each caller asks again once it has its answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from bench.figures import Row, cpu_seconds, row_of, rss_mb

Call = Callable[[], Awaitable[None]]


async def load(name: str, call: Call, pid: int, *, concurrency: int, seconds: float) -> Row:
    """Warm up for a fifth of the time, then measure; any exception of `call` fails the run.

    :param pid: of the process whose CPU and memory is counted
    """
    latencies: list[float] = []
    end = 0.0

    async def caller() -> None:
        while (began := time.perf_counter()) < end:
            await call()
            latencies.append(time.perf_counter() - began)

    end = time.perf_counter() + seconds / 5
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    latencies.clear()
    before, began = cpu_seconds(pid), time.perf_counter()
    end = began + seconds
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    elapsed, cpu = time.perf_counter() - began, cpu_seconds(pid) - before
    return row_of(name, concurrency, latencies, elapsed, cpu, rss_mb(pid))
