"""gRPC `Run` against an instant upstream: `make bench`.

What is on: authentication, routing, template rendering, events to the spool and on to JetStream, payload capture,
10 % traces to a collector that discards them. What is off: streaming, caching. Upstream, registry, NATS, Postgres and
the callers are processes of their own; the executor is one process. Analytics is stopped while calls are timed (it is
another machine's work) and started afterwards to count what arrived: a call that failed or an event that is missing or
doubled fails the run.

Two things are measured beside it in the same run: the same request straight to the upstream with aiohttp (so that
"added" latency is a difference within one run), and an empty grpc.aio call (what Python's gRPC costs by itself).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import grpc
import uvloop

from bench.figures import Row, interpreter, table
from bench.hotspots import Recording
from bench.load import Call, load
from bench.surroundings import ON, QUESTION, SYSTEM, VARIABLES, count_events, furnish, surroundings
from stack.services import Installation
from turnout.chat.v1 import message_pb2
from turnout.executor.v1 import execution_service_pb2 as pb
from turnout.executor.v1.execution_service_pb2_grpc import ExecutionServiceStub

if TYPE_CHECKING:
    # It exists for type checkers only.
    from turnout.executor.v1.execution_service_pb2_grpc import ExecutionServiceAsyncStub

CONCURRENCIES: Final = (1, 10, 50)
PROFILED_CONCURRENCY: Final = 10
GROUPS: Final = (("registry",), ("executor",), ("analytics",))

_TARGET: Final = "projects/bench/deployments/bench"


class Counted:
    """A client of `Run` that counts its calls."""

    def __init__(self, address: str, key: str, deployment: str, sequence: str) -> None:
        options = (("grpc.use_local_subchannel_pool", 1),)
        self._channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(4)]
        stubs: list[ExecutionServiceAsyncStub] = [ExecutionServiceStub(channel) for channel in self._channels]
        self._stubs = stubs
        self._metadata = (("authorization", f"Bearer {key}"), ("turnout-sequence", sequence))
        self._request = pb.RunRequest(deployment=deployment, variables_json=json.dumps(VARIABLES))
        self._request.messages.add(role=message_pb2.ROLE_USER, content=QUESTION)
        self.calls = 0

    async def __call__(self) -> None:
        self.calls += 1
        stub = self._stubs[self.calls % len(self._stubs)]
        answer = await stub.Run(self._request, metadata=self._metadata, timeout=30)
        if not answer.message.content:
            raise AssertionError("an answer is empty")

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()


async def direct(session: aiohttp.ClientSession, base_url: str) -> Call:
    """The same question straight to the upstream."""
    body = json.dumps(
        {
            "model": "bench-model",
            "temperature": 0.9,
            "messages": [
                {
                    "role": "system",
                    "content": SYSTEM.replace("{{ country }}", "France").replace("{{ language }}", "English"),
                },
                {"role": "user", "content": QUESTION},
            ],
        }
    ).encode()

    async def call() -> None:
        async with session.post(
            f"{base_url}/chat/completions", data=body, headers={"content-type": "application/json"}
        ) as r:
            if r.status != 200 or not json.loads(await r.read())["choices"]:
                raise AssertionError("the upstream failed")

    return call


async def empty_grpc(address: str) -> tuple[Call, grpc.aio.Channel]:
    """A call that does nothing."""
    channel = grpc.aio.insecure_channel(address)
    stub: ExecutionServiceAsyncStub = ExecutionServiceStub(channel)
    request = pb.RunRequest()

    async def call() -> None:
        await stub.Run(request)

    return call, channel


async def measure(
    installation: Installation, upstream: str, empty: dict[str, Any], seconds: float, profile: Path | None
) -> tuple[list[Row], int, int]:
    """All rows, how many calls of `Run` were made, and how many analytics counted."""
    rows: list[Row] = []
    furnished = await furnish(installation, upstream)
    executor = installation.process("executor").pid
    client = Counted(installation.address("executor"), furnished.key, _TARGET, furnished.sequence)
    async with aiohttp.ClientSession() as session:
        call = await direct(session, upstream)
        for concurrency in CONCURRENCIES:
            row = await load("direct", call, os.getpid(), concurrency=concurrency, seconds=seconds / 2)
            rows.append(row)  # one after the other is the point
    call, channel = await empty_grpc(empty["address"])
    rows.append(await load("empty grpc.aio", call, empty["pid"], concurrency=10, seconds=seconds / 2))
    await channel.close()
    await client()
    for concurrency in CONCURRENCIES:
        is_profiled = profile is not None and concurrency == PROFILED_CONCURRENCY
        recording = Recording.begin(executor, profile, seconds) if profile and is_profiled else None
        rows.append(await load("Run", client, executor, concurrency=concurrency, seconds=seconds))
        if recording is not None:
            print(await asyncio.to_thread(recording.summary), end="\n\n")
    await client.close()
    return rows, client.calls, await count_events(installation, furnished.sequence, client.calls)


def main() -> int:
    """Measure and print; 1 if a call failed or an event is missing or doubled."""
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=10, help="how long each concurrency is timed (default 10)")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    parser.add_argument("--profile", type=Path, help="write py-spy stacks of the executor at concurrency 10 here")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting to try; not the default run"
    )
    options = parser.parse_args()
    with surroundings() as around:
        upstream = around.program("bench.upstream", "--port", "0")
        empty = around.program("bench.empty")
        installation = around.installation(GROUPS, settings=options.set)
        base_url = f"http://{upstream['address']}/v1"
        rows, calls, events = uvloop.run(measure(installation, base_url, empty, options.seconds, options.profile))
        report(rows, calls, events, options.set)
        if options.json:
            options.json.write_text(json.dumps([asdict(row) for row in rows]))
    return 0 if events == calls else 1


def report(rows: Sequence[Row], calls: int, events: int, settings: Sequence[str]) -> None:
    """A table for people."""
    base = {row.concurrency: row for row in rows if row.name == "direct"}
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {interpreter()}")
    print(f"on: {ON}")
    print(f"differently from that: {', '.join(settings)}\n" if settings else "")
    lines = []
    for row in rows:
        added = ("", "")
        if row.name == "Run":
            straight = base[row.concurrency]
            added = (f"{row.p50_ms - straight.p50_ms:.2f}", f"{row.p99_ms - straight.p99_ms:.2f}")
        cost = (f"{row.cpu_ms:.2f}", f"{row.rss_mb:.0f}")
        shown = (f"{row.rate:.0f}", f"{row.p50_ms:.2f}", f"{row.p99_ms:.2f}")
        lines.append((row.name, str(row.concurrency), *shown, *added, *cost))
    print(table(("", "at once", "calls/s", "p50 ms", "p99 ms", "added p50", "added p99", "CPU ms", "RSS MB"), lines))
    print(f"\n{calls} calls, none failed; {events} events counted by analytics", end="")
    print("" if calls == events else " — THEY DIFFER")


if __name__ == "__main__":
    sys.exit(main())
