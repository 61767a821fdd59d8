"""Followers of the catalog in processes of their own: what `bench.catalog` measures.

As a program it reads one line from standard input for each thing to do, and answers one line of JSON: `start`, then
`arrivals <sequence>`, `digests`. Times are those of the machine's monotonic clock, which all processes share.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Final, Self

import grpc
import psutil
import uvloop
from pydantic import SecretStr

from bench.jobs import ROOT
from catalog.config import CatalogConfig
from catalog.watch import Catalog
from kit.errors import Unavailable
from kit.runtime import CHANNEL_OPTIONS

_PATIENCE_SECONDS: Final = 300.0
_LINE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Told:
    """What a process with followers says once all their views are whole."""

    seconds: float
    """Since the first began to connect."""
    grown_bytes: int
    """Resident memory now, less before."""
    sequence: int


class Followers:
    """Processes with followers: `async with Followers(…) as followers`."""

    def __init__(self, address: str, key: str, *, processes: int, each: int) -> None:
        self._command = [sys.executable, "-m", "bench.catalog_followers", address, str(each)]
        # The seed, so that sets of equal members are written alike everywhere.
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0", "BENCH_SERVICE_KEY": key}
        self._count = processes
        self._processes: list[asyncio.subprocess.Process] = []

    async def __aenter__(self) -> Self:
        for _ in range(self._count):
            pipe = asyncio.subprocess.PIPE
            self._processes.append(
                await asyncio.create_subprocess_exec(
                    *self._command, env=self._environment, stdin=pipe, stdout=pipe, limit=_LINE_BYTES
                )
            )
        return self

    async def __aexit__(self, *exc: object) -> None:
        for process in self._processes:
            if process.returncode is None:
                process.terminate()
            await process.wait()

    async def start(self) -> list[Told]:
        """Have all of them connect, and wait until every view is whole."""
        return [Told(**each) for each in await self._ask("start")]

    async def arrivals(self, sequence: int) -> list[float]:
        """When each follower's view had the change, in seconds of the monotonic clock."""
        return [time for each in await self._ask(f"arrivals {sequence}") for time in each]

    async def digests(self) -> list[str]:
        """What each follower's view amounts to."""
        return [digest for each in await self._ask("digests") for digest in each]

    async def _ask(self, question: str) -> list[Any]:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return await asyncio.gather(*(self._ask_one(process, question) for process in self._processes))

    async def _ask_one(self, process: asyncio.subprocess.Process, question: str) -> Any:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{question}\n".encode())
        await process.stdin.drain()
        return json.loads(await process.stdout.readline())


class Follower:
    """One of them: a stream and a view of its own."""

    def __init__(self, address: str, key: str) -> None:
        self.catalog = Catalog(CatalogConfig(service_key=SecretStr(key)))
        self._channel = grpc.aio.insecure_channel(
            address, options=(*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
        )
        self.ready = asyncio.Event()
        self._arrivals: dict[int, float] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to follow."""
        wired = asyncio.Event()
        wired.set()
        self._tasks.append(asyncio.create_task(self.catalog.follow(self._channel, self.ready, wired)))
        self._tasks.append(asyncio.create_task(self._note()))

    async def _note(self) -> None:
        await self.ready.wait()
        sequence = self.catalog.sequence
        while True:
            # It gives up after a while without a change; there may be none for long.
            with suppress(Unavailable):
                await self.catalog.reach(sequence + 1)
                sequence = self.catalog.sequence
                self._arrivals[sequence] = time.monotonic()

    async def arrival(self, sequence: int) -> float:
        """When the view had it; later ones that came with it count."""
        while True:
            found = [when for number, when in self._arrivals.items() if number >= sequence]
            if found:
                self._arrivals = {}
                return min(found)
            await asyncio.sleep(0.002)

    def digest(self) -> str:
        """Of all that the view holds, in any order of arrival."""
        view = self.catalog.usable_view()
        text = repr((view.sequence, sorted(view.things.items())))
        return blake2b(text.encode(), digest_size=16).hexdigest()


async def _serve(address: str, count: int) -> None:
    key = os.environ["BENCH_SERVICE_KEY"]
    followers = [Follower(address, key) for _ in range(count)]
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := (await lines.readline()).decode().split():
        print(json.dumps(await _answer(line, followers)), flush=True)


async def _answer(line: Sequence[str], followers: Sequence[Follower]) -> object:
    match line:
        case ["start"]:
            before, began = psutil.Process().memory_info().rss, time.monotonic()
            # One after the other: while one of this process makes its view, the others cannot read.
            for follower in followers:
                follower.start()
                await follower.ready.wait()
            seconds = time.monotonic() - began
            return asdict(Told(seconds, psutil.Process().memory_info().rss - before, followers[0].catalog.sequence))
        case ["arrivals", sequence]:
            return [await follower.arrival(int(sequence)) for follower in followers]
        case ["digests"]:
            return [follower.digest() for follower in followers]
    raise ValueError(line)


def main() -> None:
    """Serve until the input ends."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.catalog_followers", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("address")
    parser.add_argument("count", type=int)
    options = parser.parse_args()
    uvloop.run(_serve(options.address, options.count))


if __name__ == "__main__":
    main()
