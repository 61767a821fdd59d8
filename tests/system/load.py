"""Callers that keep books, and what their books are compared with: the spool, the broker and analytics."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import nats

from catalog import disk
from kit import status
from kit.events.outbox import lost_event_of
from kit.events.stream import STREAM
from kit.spool import folder, record, segment
from stack.nats import Nats
from stack.postgres import Postgres
from stack.services import Installation, Mode
from tests.system.clients import Clients, eventually
from tests.system.processes import installed
from turnout.analytics.v1 import metrics_service_pb2
from turnout.events.v1 import request_pb2

_PAUSE_SECONDS = 0.05
"""What a caller waits before it calls again a server that is not there; without it, callers would only burn cores."""

_GRAINS_SECONDS = (3600, 86400)
"""What analytics keeps sums of. The default window ends in the middle of an hour, which is counted from single
requests; a repetition that was added to a sum shows in whole hours and days only."""

_STATUSES = {
    "ok": request_pb2.REQUEST_STATUS_OK,
    "errors": request_pb2.REQUEST_STATUS_ERROR,
    "cancelled": request_pb2.REQUEST_STATUS_CANCELLED,
    "lost": request_pb2.REQUEST_STATUS_LOST,
}


class Outcome(StrEnum):
    """What a caller knows of a call."""

    OK = "ok"
    ERROR = "error"
    """Turnout said why."""
    UNKNOWN = "unknown"
    """The connection broke, or there was none: nobody said anything."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One call as its caller saw it."""

    outcome: Outcome
    reason: str = ""
    """Of an error; the status code's name if there is none."""
    request_id: str = ""
    """Empty if Turnout named none: then it recorded nothing, or nobody said anything."""
    input_tokens: int = 0
    output_tokens: int = 0


class Books:
    """What became of each call, by the caller's own id for it."""

    def __init__(self, clients: Clients, deployment: str, *, timeout_seconds: float = 20) -> None:
        self._clients = clients
        self._deployment = deployment
        self._timeout_seconds = timeout_seconds
        self._names = (f"{uuid.uuid4().hex[:8]}-{number}" for number in itertools.count())
        self._is_over = False
        self.calls: dict[str, Seen] = {}

    def of(self, outcome: Outcome) -> dict[str, Seen]:
        """Those that ended so."""
        return {call: seen for call, seen in self.calls.items() if seen.outcome is outcome}

    @property
    def recorded(self) -> dict[str, Seen]:
        """Those of which Turnout said that it recorded them."""
        return {call: seen for call, seen in self.calls.items() if seen.request_id}

    async def answered(self, more: int) -> None:
        """Wait until so many more calls than now were answered."""
        wanted = len(self.of(Outcome.OK)) + more

        async def enough() -> None:
            assert len(self.of(Outcome.OK)) >= wanted

        await eventually(enough, seconds=60)

    async def call(self) -> Seen:
        """Call once."""
        name = next(self._names)
        timeout = self._timeout_seconds
        try:
            # Also said, so that an upstream can tell calls apart.
            answer = await self._clients.run(self._deployment, f"call-{name}", trace_id=name, timeout=timeout)
        except grpc.aio.AioRpcError as failure:
            seen = _seen(failure)
        else:
            usage = answer.usage
            seen = Seen(Outcome.OK, "", answer.request_id, usage.input_tokens, usage.output_tokens)
        self.calls[name] = seen
        return seen

    async def call_on(self) -> None:
        """Call again and again until :meth:`close`."""
        while not self._is_over:
            if (await self.call()).outcome is Outcome.UNKNOWN:
                await asyncio.sleep(_PAUSE_SECONDS)

    def close(self) -> None:
        """Let running calls end, and begin none."""
        self._is_over = True


@asynccontextmanager
async def load(clients: Clients, deployment: str, *, callers: int = 16) -> AsyncIterator[Books]:
    """So many callers at once while the block runs. Behind it all calls have ended and the books are closed."""
    books = Books(clients, deployment)
    tasks = [asyncio.create_task(books.call_on()) for _ in range(callers)]
    try:
        yield books
    finally:
        books.close()
        await asyncio.gather(*tasks)


def _seen(failure: grpc.aio.AioRpcError) -> Seen:
    reason = status.reason_of(failure)
    if failure.code() is grpc.StatusCode.UNAVAILABLE and not reason:
        return Seen(Outcome.UNKNOWN)
    error = status.from_rpc_error(failure, peer="turnout")
    return Seen(Outcome.ERROR, reason or failure.code().name, error.metadata.get("request_id", ""))


@dataclass(frozen=True, slots=True)
class Spooled:
    """Calls in the spool of an executor, by the caller's id."""

    started: frozenset[str]
    open: frozenset[str]
    """Those without an end."""


def spooled(installation: Installation, project: str) -> Spooled:
    """What the executor's disk says of a project's calls. Exact only while no executor runs."""
    started: dict[record.Call, str] = {}
    ended: set[record.Call] = set()
    for owned in folder.folder_paths(installation.process("executor").folder / "data" / "spool"):
        for part in segment.list_segments(owned):
            for frame in _frames(part):
                mark = record.mark_of(frame)
                if mark.started is not None:
                    event = lost_event_of(record.start_payload_of(frame))
                    request = request_pb2.RequestServed.FromString(event.payload)
                    if request.project_slug == project:
                        started[mark.started] = request.caller_trace_id
                if mark.ended is not None:
                    ended.add(mark.ended)
    still_open = frozenset(name for call, name in started.items() if call not in ended)
    return Spooled(frozenset(started.values()), still_open)


def _frames(part: segment.Segment) -> Iterator[record.Frame]:
    begin = len(segment.MAGIC)
    data = part.path.read_bytes()[begin:]
    try:
        yield from record.frames(data, begin, begin + len(data))
    except record.FlawedError as flaw:
        # Death tears a last write at most.
        if not flaw.is_torn:
            raise


async def stats(base_url: str) -> tuple[int, Counter[str]]:
    """How many calls an upstream has seen, and the statuses that it answered, or will answer, them with."""
    async with aiohttp.ClientSession() as session, session.get(base_url.removesuffix("/v1") + "/stats") as answer:
        told: dict[str, Any] = await answer.json()
    return told["calls"], Counter(told["statuses"])


async def unread(broker: Nats) -> int:
    """How many events analytics has not taken for good: what it was not given, and what might be given to it again."""
    client = await nats.connect(broker.url)
    try:
        consumer = await client.jetstream().consumer_info(STREAM, "analytics")
        return (consumer.num_pending or 0) + (consumer.num_ack_pending or 0)
    finally:
        await client.close()


async def on_disk(installation: Installation, sequence: int) -> None:
    """Wait until the executor's disk copy of the catalog holds `sequence`."""
    path = installation.process("executor").folder / "data" / "catalog" / "copy"

    async def copied() -> None:
        found = disk.read(path)
        assert found is not None
        assert found[1] >= sequence

    await eventually(copied)


async def settled(clients: Clients, broker: Nats, requests: int) -> None:
    """Wait until analytics has counted so many requests and nothing is left that could make it count more."""

    async def counted() -> None:
        found = (await clients.totals()).total.requests
        assert found >= requests, f"{found} of {requests} requests are counted"
        left = await unread(broker)
        assert left == 0, f"{left} events are left"

    # Events given to an analytics that died are given to the next only after the consumer's 30 s.
    await eventually(counted, seconds=90)


async def assert_counted_once(clients: Clients, calls: dict[str, Seen], lost: Collection[str] = ()) -> None:
    """Analytics says what the caller's books say, of each call and in total, and nothing besides.

    :param lost: the calls, by the caller's id, that the executor had begun when it was killed
    """
    logs = [log.request for log in await clients.all_logs()]
    by_call = {log.caller_trace_id: log for log in logs}
    assert len(by_call) == len(logs), "a call is there twice"
    assert len({log.request_id for log in logs}) == len(logs), "a request is there twice"
    assert by_call.keys() <= calls.keys(), "there are calls that nobody made"

    for name, seen in calls.items():
        log = by_call.get(name)
        if seen.outcome is Outcome.UNKNOWN:
            # It never reached the executor, died with it, or its answer did not reach the caller.
            assert (log is not None and log.status == request_pb2.REQUEST_STATUS_LOST) == (name in lost), name
            continue
        if not seen.request_id:
            assert log is None, f"{name} was refused with {seen.reason} and recorded all the same"
            continue
        assert log is not None, f"{name} is missing"
        expected = _STATUSES["ok" if seen.outcome is Outcome.OK else "errors"]
        assert (log.request_id, log.status, log.reason) == (seen.request_id, expected, seen.reason), name
        assert (log.usage.input_tokens, log.usage.output_tokens) == (seen.input_tokens, seen.output_tokens), name

    for answer in [await clients.totals(), *[await _rolled_up(clients, logs, seconds) for seconds in _GRAINS_SECONDS]]:
        _assert_adds_up(answer, logs)


async def _rolled_up(
    clients: Clients, logs: Sequence[request_pb2.RequestServed], seconds: int
) -> metrics_service_pb2.QueryMetricsResponse:
    """Totals over the whole hours, or days, in which these calls were made."""
    moments = [log.start_time.seconds for log in logs]
    request = metrics_service_pb2.QueryMetricsRequest(parent=clients.parent)
    request.start_time.FromSeconds(min(moments) // seconds * seconds)
    request.end_time.FromSeconds((max(moments) // seconds + 1) * seconds)
    return await clients.read(clients.metrics.QueryMetrics, request)


def _assert_adds_up(
    answer: metrics_service_pb2.QueryMetricsResponse, logs: Sequence[request_pb2.RequestServed]
) -> None:
    statuses = Counter(log.status for log in logs)
    assert answer.total.requests == len(logs), f"{answer.total.requests} are counted, {len(logs)} are listed"
    for field, number in _STATUSES.items():
        assert getattr(answer.total, field) == statuses[number], field
        assert sum(getattr(row, field) for row in answer.rows) == statuses[number], field
    assert answer.total.input_tokens == sum(log.usage.input_tokens for log in logs)
    assert answer.total.output_tokens == sum(log.usage.output_tokens for log in logs)
    by_variant = Counter(log.decision.variant for log in logs)
    assert {row.variant: row.requests for row in answer.rows} == by_variant


@contextmanager
def own_installation(open_folder: Path, name: str, mode: Mode = "split") -> Iterator[Installation]:
    """An installation on a Postgres and a NATS that nobody else uses: all may be killed."""
    with Postgres(open_folder / name / "postgres") as postgres, Nats(open_folder / name / "nats") as broker:
        with installed(open_folder / name, postgres, broker, mode) as running:
            yield running
