"""TensorZero's gateway inside its caller's process, as its Python package offers it. Runs in an environment of its own,
`.peers/tensorzero`, with a job on standard input and an outcome on standard output (`bench/jobs.py`).

There is no socket between caller and gateway, which flatters it, and its CPU is counted with its caller's, which does
not.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from tensorzero import AsyncTensorZeroGateway  # type: ignore[import-not-found]  # it lives in its own environment

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.jobs import WARM_UP_SHARE, Job, Outcome, read_job, write_outcome


async def run(job: Job) -> Outcome:
    """Do the job; any failure ends it."""
    gateway: Any = await AsyncTensorZeroGateway.build_embedded(
        config_file=job.config, postgres_url=job.database or None, async_setup=True
    )
    latencies: list[float] = []
    calls, end = 0, 0.0
    question = {"system": dict(job.variables), "messages": [{"role": "user", "content": job.question}]}

    async def caller() -> None:
        nonlocal calls
        while (began := time.perf_counter()) < end:
            calls += 1
            answer = await gateway.inference(function_name="bench", input=question)
            if not answer.content[0].text:
                raise AssertionError("an answer is empty")
            latencies.append(time.perf_counter() - began)

    gc.freeze()
    end = time.perf_counter() + job.seconds * WARM_UP_SHARE
    await asyncio.gather(*(caller() for _ in range(job.concurrency)))
    latencies.clear()
    cpu, began = time.process_time(), time.perf_counter()
    end = began + job.seconds
    await asyncio.gather(*(caller() for _ in range(job.concurrency)))
    elapsed, cpu = time.perf_counter() - began, time.process_time() - cpu
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Outcome(latencies, elapsed, cpu, pages * resource.getpagesize() / 1e6, calls, 0.0)


if __name__ == "__main__":
    print(write_outcome(asyncio.run(run(read_job(sys.stdin.read())))), flush=True)
    # Its threads are not asked whether they want to end.
    os._exit(0)
