"""Whatever is killed under load, every number in analytics is the caller's own count."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Set
from pathlib import Path

import nats
import pytest

from kit.events.stream import STREAM
from kit.events.subjects import subject_of
from stack.nats import Nats
from stack.server import Server
from stack.services import ROOMS, Installation
from tests.system.clients import Clients, eventually, tenant
from tests.system.load import (
    Books,
    Outcome,
    assert_counted_once,
    load,
    on_disk,
    own_installation,
    settled,
    spooled,
    stats,
)
from tests.system.processes import upstream
from turnout.events.v1 import request_pb2

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def split(open_folder: Path) -> Iterator[Installation]:
    """One process each."""
    with own_installation(open_folder, "faults") as running:
        yield running


@pytest.fixture(scope="module")
def together(open_folder: Path) -> Iterator[Installation]:
    """All services in one process."""
    with own_installation(open_folder, "faults-together", "all") as running:
        yield running


@pytest.fixture
def mortal(split: Installation) -> Installation:
    """An installation whose every server may be killed."""
    return _alive(split)


@pytest.fixture(params=["together", "split"])
def either(request: pytest.FixtureRequest) -> Installation:
    """As `mortal`, in both modes: the same must hold."""
    installation: Installation = request.getfixturevalue(request.param)
    return _alive(installation)


@pytest.fixture
def flaky_llm(tmp_path: Path) -> Iterator[str]:
    """An upstream of one test's own, which fails every 17th call."""
    with upstream(tmp_path, "--latency-ms", "40", "--fail-every", "17") as base_url:
        yield base_url


def _alive(installation: Installation) -> Installation:
    """Whatever the test before left dead is started."""
    for server in (installation.postgres, installation.nats, *installation.processes):
        server.start()
    return installation


def _server(installation: Installation, name: str) -> Server:
    return {
        "nats": installation.nats,
        "postgres": installation.postgres,
        **{room: installation.process(room) for room in ROOMS},
    }[name]


async def _deploy(shop: Clients, base_url: str) -> None:
    await shop.create_provider("flaky", base_url)
    await shop.create_deployment("agent", "flaky", prompts=("one", "two"))


async def test_callers_do_not_notice_that_servers_beside_the_executor_are_killed(
    mortal: Installation, flaky_llm: str
) -> None:
    async with tenant(mortal) as shop:
        await _deploy(shop, flaky_llm)
        async with load(shop, "agent") as books:
            await books.answered(100)
            for victim in ("analytics", "registry", "nats", "postgres"):
                await asyncio.to_thread(_server(mortal, victim).kill)
                await books.answered(200)
                await asyncio.to_thread(_server(mortal, victim).start)
                await books.answered(100)

        assert not books.of(Outcome.UNKNOWN)
        seen, statuses = await stats(flaky_llm)
        assert seen == len(books.calls)
        assert Counter(call.reason for call in books.calls.values()) == {
            "": statuses["200"],
            "PROVIDER_FAILED": statuses["503"],
        }
        await settled(shop, mortal.nats, len(books.calls))
        await assert_counted_once(shop, books.calls)


async def test_every_call_is_counted_once_though_the_executor_is_killed_again_and_again(
    either: Installation, flaky_llm: str
) -> None:
    lost: set[str] = set()
    async with tenant(either) as shop:
        await _deploy(shop, flaky_llm)
        async with load(shop, "agent") as books:
            await books.answered(100)
            for more in (100, 0, 100):
                await asyncio.to_thread(either.process("executor").kill)
                lost |= spooled(either, shop.project).open
                await asyncio.to_thread(either.process("executor").start)
                await books.answered(more)

        assert lost, "16 callers always have calls open"
        await _assert_lost_and_found(either, shop, flaky_llm, books, lost)


async def test_every_call_is_counted_once_though_everything_is_killed_at_once(
    mortal: Installation, flaky_llm: str
) -> None:
    servers = (mortal.postgres, mortal.nats, *mortal.processes)
    async with tenant(mortal) as shop:
        await _deploy(shop, flaky_llm)
        await on_disk(mortal, shop.sequence)
        async with load(shop, "agent") as books:
            await books.answered(200)
            await asyncio.gather(*(asyncio.to_thread(server.kill) for server in servers))
            lost = spooled(mortal, shop.project).open
            await asyncio.to_thread(mortal.process("executor").start)
            await books.answered(200)
            for name in ("nats", "postgres", "registry", "analytics"):
                await asyncio.to_thread(_server(mortal, name).start)
            await books.answered(200)

        await _assert_lost_and_found(mortal, shop, flaky_llm, books, lost)


async def _assert_lost_and_found(
    mortal: Installation, shop: Clients, base_url: str, books: Books, lost: Set[str]
) -> None:
    assert {seen.reason for seen in books.of(Outcome.ERROR).values()} <= {"PROVIDER_FAILED"}
    assert lost <= books.of(Outcome.UNKNOWN).keys(), "of a call that was not over, nobody had an answer"
    started = spooled(mortal, shop.project).started
    assert books.recorded.keys() <= started <= books.calls.keys()

    await settled(shop, mortal.nats, len(started))
    await assert_counted_once(shop, books.calls, lost)
    total = (await shop.totals()).total
    assert total.requests == len(started), "what was begun is there, and nothing else"
    assert total.lost == len(lost)
    seen, _ = await stats(base_url)
    # A lost call may have died before it reached the provider, or after its answer.
    assert total.ok + total.errors <= seen <= total.requests


async def test_calls_that_wait_for_their_provider_when_the_executor_is_killed_are_lost(
    either: Installation, flaky_llm: str, tmp_path: Path
) -> None:
    with upstream(tmp_path / "slow", "--latency-ms", "20000") as slow_llm:
        async with tenant(either) as shop:
            await shop.create_provider("instant", flaky_llm)
            await shop.create_provider("slow", slow_llm)
            await shop.create_deployment("agent", "instant")
            await shop.create_deployment("slow", "slow")
            for _ in range(5):
                await shop.run("agent", trace_id="before")
            async with load(shop, "slow", callers=12) as books:

                async def all_wait() -> None:
                    assert (await stats(slow_llm))[0] == 12

                await eventually(all_wait)
                books.close()
                await asyncio.to_thread(either.process("executor").kill)
            # The second dies while, or just after, it recovers what the first left.
            await asyncio.to_thread(either.process("executor").start)
            await asyncio.to_thread(either.process("executor").kill)
            await asyncio.to_thread(either.process("executor").start)

            assert len(books.of(Outcome.UNKNOWN)) == len(books.calls) == 12
            await settled(shop, either.nats, 17)
            total = (await shop.totals("slow")).total
            assert (total.requests, total.lost, total.output_tokens) == (12, 12, 0)
            assert total.requests == (await stats(slow_llm))[0], "the provider was asked once for each"
            assert not total.HasField("latency_p50_us"), "nobody knows how long they would have taken"
            total = (await shop.totals("agent")).total
            assert (total.requests, total.ok) == (5, 5)
            logs = [log.request for log in await shop.all_logs("slow")]
            assert {log.caller_trace_id for log in logs} == books.calls.keys()
            assert all(log.decision.variant and log.provider == "slow" for log in logs)


async def test_events_arrive_after_nats_lost_its_stream(mortal: Installation, flaky_llm: str) -> None:
    """What the spool has relayed is the stream's to keep: if NATS loses its disk before analytics has read it, only
    `python -m services replay` can bring it back. It publishes what was acknowledged within the spool's retention (an
    hour at least) again, under the same ids: what arrives twice counts once.
    """
    async with tenant(mortal) as shop:
        await _deploy(shop, flaky_llm)
        books = Books(shop, "agent")
        await _call(books, 20)
        await settled(shop, mortal.nats, 20)

        mortal.process("analytics").stop()
        await _call(books, 20)
        await _relayed(mortal.nats, shop.project, 40)
        mortal.nats.stop()
        shutil.rmtree(mortal.nats.folder / "store")
        mortal.nats.start()
        mortal.process("analytics").start()
        await _call(books, 20)
        await settled(shop, mortal.nats, 40)
        assert (await shop.totals()).total.requests == 40, "20 went with the stream"

        await _replay(mortal)
        await settled(shop, mortal.nats, 60)
        await assert_counted_once(shop, books.calls)


async def _call(books: Books, times: int) -> None:
    for _ in range(times):
        assert (await books.call()).outcome is not Outcome.UNKNOWN


async def _relayed(broker: Nats, project: str, requests: int) -> None:
    """Wait until so many requests of a project lie in the stream."""
    client = await nats.connect(broker.url)
    subject = subject_of(request_pb2.RequestServed, project)

    async def stored() -> None:
        state = (await client.jetstream().stream_info(STREAM, subjects_filter=subject)).state
        assert (state.subjects or {}).get(subject) == requests

    try:
        await eventually(stored)
    finally:
        await client.close()


async def _replay(installation: Installation) -> None:
    """As an operator does it."""
    replay = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services", "replay", "--hours", "1", env=installation.process("executor").environment
    )
    assert await asyncio.wait_for(replay.wait(), 60) == 0
