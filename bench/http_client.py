"""HTTP callers in a process of their own, cheaper than anything they measure: `python -m bench.http_client < job`.

One connection a caller, kept alive, on uvloop's bare transport: no client library. Every answer is read whole and must
hold a choice that says something; the first that does not ends the process with its text and status 1.

Whole answers are asked for in a closed loop. Streams begin at random moments, the same in each run, over the time that
one takes, so that callers do not keep step with each other, as under real load: at even distances the pieces of all
would come in a few bursts, and each beginning within one. Each connection begins the next when one has ended. Timed are
those that begin once all connections are busy.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import sys
import time
from dataclasses import replace
from typing import Final, cast

import uvloop

from bench.answers import AnswerReader, BadAnswer, StreamReader, content_of
from bench.figures import cpu_seconds, rss_mb
from bench.jobs import WARM_UP_SHARE, Job, Outcome, read_job, write_outcome

_SEED: Final = 1
_ANSWER_SECONDS: Final = 60.0
"""How long a phase may last beyond its end: what a slow server takes for the last answers."""


class Load:
    """What all connections of a job have in common."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.request = request_of(job)
        self.latencies: list[float] = []
        self.calls = 0
        self.end = 0.0
        """No call begins after it."""
        self.timed_from = 0.0
        """No stream that begins before it is timed."""
        self._asking = 0
        self._idle: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin(self, end: float, asking: int) -> None:
        """Forget what was timed; a phase with so many callers begins."""
        self.end, self._asking, self.latencies = end, asking, []
        self._idle = asyncio.get_running_loop().create_future()

    async def ended(self) -> None:
        """When every caller has had its last answer.

        :raises BadAnswer: the first that was none
        """
        try:
            async with asyncio.timeout(self.end - time.perf_counter() + _ANSWER_SECONDS):
                await self._idle
        except TimeoutError:
            raise BadAnswer(f"{self._asking} callers were left without an answer for {_ANSWER_SECONDS:g} s") from None

    def rest(self) -> None:
        """A caller asks no more."""
        self._asking -= 1
        if self._asking == 0 and not self._idle.done():
            self._idle.set_result(None)

    def fail(self, error: BadAnswer) -> None:
        """End it all."""
        if not self._idle.done():
            self._idle.set_exception(error)


class Caller(asyncio.Protocol):
    """One connection that asks for whole answers."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._reader = AnswerReader()
        self._pieces: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._began = 0.0
        self._is_asking = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready to ask."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody may hang up while it owes an answer."""
        self._transport = None
        if self._is_asking:
            self._load.fail(BadAnswer(f"a connection was closed before its answer was whole ({exc})"))

    def ask(self) -> None:
        """Send the request."""
        if self._transport is None:
            self._load.fail(BadAnswer("a connection was closed between two requests"))
            return
        self._is_asking = True
        self._load.calls += 1
        self._began = time.perf_counter()
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        """Read; once the answer is whole and good, ask again."""
        try:
            self._take(self._reader.feed(data))
            if self._reader.is_complete:
                self._finish()
        except BadAnswer as bad:
            self._is_asking = False
            self._load.fail(bad)
            return
        if self._reader.is_complete:
            self._go_on()

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def _take(self, piece: bytes) -> None:
        self._pieces.append(piece)

    def _finish(self) -> None:
        content_of(self._reader.status, b"".join(self._pieces))
        self._load.latencies.append(time.perf_counter() - self._began)

    def _go_on(self) -> None:
        self._pieces.clear()
        self._reader.start()
        self._is_asking = False
        if time.perf_counter() < self._load.end:
            self.ask()
        else:
            self._load.rest()


class StreamCaller(Caller):
    """One connection that asks for streams, and times their first piece."""

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        self._events = StreamReader()
        self._is_timed = False

    def ask(self) -> None:
        """Send the request; timed if all others are at it."""
        self._events = StreamReader()
        super().ask()
        self._is_timed = self._began >= self._load.timed_from

    def _take(self, piece: bytes) -> None:
        if self._reader.status not in {0, 200}:
            self._pieces.append(piece)
            return
        was_silent = not self._events.pieces
        self._events.feed(piece)
        if was_silent and self._events.pieces and self._is_timed:
            self._load.latencies.append(time.perf_counter() - self._began)

    def _finish(self) -> None:
        if self._reader.status != 200:
            content_of(self._reader.status, b"".join(self._pieces))
        self._events.check(self._load.job.stream_pieces)


def request_of(job: Job) -> bytes:
    """The request's bytes."""
    body = job.body.encode()
    headers = {"host": job.address, "content-type": "application/json", **job.headers, "content-length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {job.path} HTTP/1.1\r\n{head}\r\n".encode() + body


async def run(job: Job) -> Outcome:
    """Do the job.

    :raises BadAnswer: the first answer that is none
    """
    load = Load(job)
    kind = StreamCaller if job.stream_pieces else Caller
    host, _, port = job.address.rpartition(":")
    loop = asyncio.get_running_loop()
    callers: list[Caller] = []
    for _ in range(job.concurrency):
        _, caller = await loop.create_connection(lambda: kind(load), host, int(port))
        callers.append(caller)
    gc.freeze()
    try:
        return await (_run_streams if job.stream_pieces else _run_whole)(load, callers)
    finally:
        for caller in callers:
            caller.close()


async def _run_whole(load: Load, callers: list[Caller]) -> Outcome:
    job = load.job
    load.begin(time.perf_counter() + job.seconds * WARM_UP_SHARE, len(callers))
    for caller in callers:
        caller.ask()
    await load.ended()
    cpu, own_cpu, began = cpu_seconds(job.pid), time.process_time(), time.perf_counter()
    load.begin(began + job.seconds, len(callers))
    for caller in callers:
        caller.ask()
    await load.ended()
    elapsed = time.perf_counter() - began
    return Outcome(
        load.latencies,
        elapsed,
        cpu_seconds(job.pid) - cpu,
        rss_mb(job.pid),
        load.calls,
        time.process_time() - own_cpu,
    )


async def _run_streams(load: Load, callers: list[Caller]) -> Outcome:
    job, loop = load.job, asyncio.get_running_loop()
    began = time.perf_counter()
    load.timed_from = began + job.stream_seconds * 1.1
    load.begin(load.timed_from + job.seconds, len(callers))
    moments = random.Random(_SEED)
    for caller in callers:
        loop.call_later(moments.uniform(0, job.stream_seconds), caller.ask)
    await asyncio.sleep(load.timed_from - time.perf_counter())
    cpu, own_cpu = cpu_seconds(job.pid), time.process_time()
    await asyncio.sleep(load.end - time.perf_counter())
    cpu, own_cpu, memory = cpu_seconds(job.pid) - cpu, time.process_time() - own_cpu, rss_mb(job.pid)
    await load.ended()
    return Outcome(load.latencies, job.seconds, cpu, memory, load.calls, own_cpu)


def main() -> int:
    """Read a job, do it, write its outcome."""
    job = read_job(sys.stdin.read())
    try:
        outcome = uvloop.run(run(job if job.pid else replace(job, pid=os.getpid())))
    except (BadAnswer, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(write_outcome(outcome))
    return 0


if __name__ == "__main__":
    sys.exit(main())
