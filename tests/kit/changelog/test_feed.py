from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from kit import database
from kit.changelog import (
    Change,
    ChangeLog,
    Event,
    Feed,
    Head,
    Idle,
    Resumed,
    SnapshotBegin,
    SnapshotChunk,
    SnapshotEnd,
)
from kit.database import Sessions, transaction
from kit.errors import Unavailable
from stack.postgres import Postgres
from tests.kit.changelog.logs import SCHEMA, append, eventually, new_log, replay, state


@contextlib.asynccontextmanager
async def feeding(
    log: ChangeLog,
    sessions: Sessions,
    url: str,
    *,
    kept_changes: int = 1000,
    largest_change_bytes: int = 2 << 20,
    recoveries: list[str] | None = None,
) -> AsyncIterator[Feed]:
    async def recovered() -> None:
        if recoveries is not None:
            recoveries.append("recovered")

    feed = Feed(
        log,
        sessions,
        url,
        on_recovery=recovered,
        kept_changes=kept_changes,
        largest_change_bytes=largest_change_bytes,
    )
    await feed.start()
    task = asyncio.create_task(feed.run())
    try:
        yield feed
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def watch(feed: Feed, after: int, epoch: str, *, until: Callable[[list[Event]], bool]) -> list[Event]:
    events: list[Event] = []
    async with asyncio.timeout(20), contextlib.aclosing(feed.watch(after, epoch)) as stream:
        async for event in stream:
            if not isinstance(event, Idle):
                events.append(event)
            if until(events):
                return events
    return events


async def drain(stream: AsyncIterator[Event]) -> None:
    """Read a stream on which nothing happens until it ends."""
    async for event in stream:
        assert isinstance(event, Idle)


def last_is(sequence: int) -> Callable[[list[Event]], bool]:
    """Whether the watcher stands at `sequence`, by a change or by a snapshot."""

    def reached(events: list[Event]) -> bool:
        if ended(events):
            return [event.head.sequence for event in events if isinstance(event, SnapshotBegin)][-1] >= sequence
        return bool(events) and isinstance(events[-1], Change) and events[-1].sequence == sequence

    return reached


def ended(events: list[Event]) -> bool:
    return bool(events) and isinstance(events[-1], SnapshotEnd)


async def test_a_watcher_gets_a_snapshot_and_then_every_change(url: str, sessions: Sessions, log: ChangeLog) -> None:
    await append(sessions, log, ("a", b"1"))
    async with feeding(log, sessions, url) as feed:
        watching = [asyncio.create_task(watch(feed, 0, "", until=last_is(21))) for _ in range(3)]
        for number in range(20):
            await append(sessions, log, ("b", b"%d" % number))
        for events in await asyncio.gather(*watching):
            begin = events[0]
            assert isinstance(begin, SnapshotBegin)
            changes = [event for event in events if isinstance(event, Change)]
            assert [change.sequence for change in changes] == list(range(begin.head.sequence + 1, 22))
            start = dict(entry for event in events if isinstance(event, SnapshotChunk) for entry in event.entries)
            assert replay(changes, start) == {"a": b"1", "b": b"19"}


async def test_a_watcher_resumes_with_what_it_missed(url: str, sessions: Sessions, log: ChangeLog) -> None:
    for number in range(10):
        await append(sessions, log, ("a", b"%d" % number))
    async with transaction(sessions) as session:
        epoch = (await log.head(session)).epoch
    async with feeding(log, sessions, url) as feed:
        events = await watch(feed, 4, epoch, until=last_is(10))

    assert isinstance(events[0], Resumed)
    assert [event.sequence for event in events[1:] if isinstance(event, Change)] == list(range(5, 11))


@pytest.mark.parametrize("case", ["another epoch", "newer than the log", "cut from the log", "too far behind"])
async def test_who_cannot_resume_gets_a_snapshot(url: str, sessions: Sessions, log: ChangeLog, case: str) -> None:
    for _ in range(20):
        await append(sessions, log, ("a", b"1"))
    async with transaction(sessions) as session:
        epoch = (await log.head(session)).epoch
        if case == "cut from the log":
            await session.execute(text("DELETE FROM change_log WHERE sequence < 10"))
    after = {"newer than the log": 21, "cut from the log": 5, "too far behind": 3}.get(case, 19)
    async with feeding(log, sessions, url, kept_changes=10) as feed:
        events = await watch(feed, after, "other" if case == "another epoch" else epoch, until=ended)

    assert events[0] == SnapshotBegin(Head(20, epoch))


async def test_a_watcher_that_reads_too_slowly_is_sent_away(url: str, sessions: Sessions, log: ChangeLog) -> None:
    async with feeding(log, sessions, url, kept_changes=5) as feed, contextlib.aclosing(feed.watch(0, "")) as slow:
        while not isinstance(await anext(slow), SnapshotEnd):
            pass
        for _ in range(12):
            await append(sessions, log, ("a", b"1"))

        async def has_seen_all() -> bool:
            return feed.sequence == 12

        await eventually(has_seen_all, "the feed has seen all changes")
        with pytest.raises(Unavailable) as failure:
            await anext(slow)
        assert failure.value.reason == "WATCHER_BEHIND"


async def test_a_change_too_large_for_a_message_comes_as_a_snapshot(
    url: str, sessions: Sessions, log: ChangeLog
) -> None:
    async with feeding(log, sessions, url, largest_change_bytes=1000) as feed:
        watching = asyncio.create_task(watch(feed, 0, "", until=last_is(3)))
        await append(sessions, log, ("a", b"1"))
        await append(sessions, log, *((f"b{number}", b"x" * 100) for number in range(20)))
        await append(sessions, log, ("a", b"2"))
        events = await watching

    assert all(event.size_bytes <= 1000 for event in events if isinstance(event, Change))
    start: dict[str, bytes] = {}
    changes: list[Change] = []
    for event in events:
        if isinstance(event, SnapshotBegin):
            start, changes = {}, []
        elif isinstance(event, SnapshotChunk):
            start |= dict(event.entries)
        elif isinstance(event, Change):
            changes.append(event)
    assert replay(changes, start) == (await state(sessions, log))[1]


async def test_an_idle_watcher_hears_heartbeats_with_the_sequence_it_was_given(
    url: str, sessions: Sessions, log: ChangeLog
) -> None:
    await append(sessions, log, ("a", b"1"))
    async with feeding(log, sessions, url) as feed, contextlib.aclosing(feed.watch(0, "")) as stream:
        async with asyncio.timeout(5):
            events = [await anext(stream) for _ in range(6)]

    assert [event.sequence for event in events if isinstance(event, Idle)] == [1, 1, 1]


async def test_a_restored_database_begins_a_new_epoch(url: str, sessions: Sessions, log: ChangeLog) -> None:
    recoveries: list[str] = []
    for _ in range(3):
        await append(sessions, log, ("a", b"1"))
    async with feeding(log, sessions, url, recoveries=recoveries) as feed:
        begin = (await watch(feed, 0, "", until=ended))[0]
        assert isinstance(begin, SnapshotBegin)
        watching = asyncio.create_task(watch(feed, 3, begin.head.epoch, until=lambda _: False))
        async with transaction(sessions) as session:
            await session.execute(text("UPDATE change_head SET sequence = 1"))
            await session.execute(text("DELETE FROM change_log WHERE sequence > 1"))
        with pytest.raises(Unavailable) as failure:
            await watching
        assert failure.value.reason == "CHANGE_LOG_REPLACED"

        async def is_back() -> bool:
            with contextlib.suppress(Unavailable):
                again = (await watch(feed, 3, begin.head.epoch, until=ended))[0]
                return isinstance(again, SnapshotBegin) and again.head.epoch != begin.head.epoch
            return False

        await eventually(is_back, "a new epoch")
        assert recoveries == ["recovered"]


async def test_an_outage_ends_watchers_as_unavailable_and_the_feed_recovers_by_itself(
    open_folder: Path, log: ChangeLog
) -> None:
    postgres = Postgres(open_folder / "mortal")
    await asyncio.to_thread(postgres.start)
    url = await new_log(postgres, "log")
    recoveries: list[str] = []
    async with (
        database.sessions(url, schema=SCHEMA) as sessions,
        feeding(log, sessions, url, recoveries=recoveries) as feed,
    ):
        await append(sessions, log, ("a", b"1"))
        events = await watch(feed, 0, "", until=ended)
        begin = events[0]
        assert isinstance(begin, SnapshotBegin)
        async with contextlib.aclosing(feed.watch(begin.head.sequence, begin.head.epoch)) as stream:
            assert isinstance(await anext(stream), Resumed)
            await asyncio.to_thread(postgres.kill)
            with pytest.raises(Unavailable) as failure:
                await drain(stream)
        assert failure.value.reason == "DATABASE_UNAVAILABLE"
        await asyncio.to_thread(postgres.start)

        async def resumes() -> bool:
            with contextlib.suppress(Unavailable):
                return bool(await watch(feed, begin.head.sequence, begin.head.epoch, until=bool))
            return False

        await eventually(resumes, "the feed is back")
        await append(sessions, log, ("a", b"2"))
        back = await watch(feed, begin.head.sequence, begin.head.epoch, until=lambda found: len(found) == 2)
        assert [type(event) for event in back] == [Resumed, Change]
        assert recoveries == ["recovered"]
    await asyncio.to_thread(postgres.stop)


async def test_a_watcher_that_waits_for_its_turn_is_not_left_in_silence(
    url: str, sessions: Sessions, log: ChangeLog
) -> None:
    await append(sessions, log, ("a", b"1"))
    async with feeding(log, sessions, url) as feed, contextlib.AsyncExitStack() as slow:
        # As many as may take snapshots at once, none of which reads on.
        for _ in range(4):
            stream = await slow.enter_async_context(contextlib.aclosing(feed.watch(0, "")))
            assert isinstance(await anext(stream), SnapshotBegin)
        async with contextlib.aclosing(feed.watch(7, "another epoch")) as waiting:
            assert [await asyncio.wait_for(anext(waiting), 2) for _ in range(2)] == [Idle(7), Idle(7)]
        # One that gave up gives its turn away.
        async with contextlib.aclosing(feed.watch(0, "")) as last:
            assert await asyncio.wait_for(anext(last), 2) == Idle(0)
            await slow.aclose()
            events = [await asyncio.wait_for(anext(last), 5) for _ in range(3)]
            while isinstance(events[0], Idle):
                events = [*events[1:], await asyncio.wait_for(anext(last), 5)]
            assert [type(event) for event in events] == [SnapshotBegin, SnapshotChunk, SnapshotEnd]
    # All turns were given back.
    async with feeding(log, sessions, url) as feed:
        for _ in range(9):
            assert ended(await watch(feed, 0, "", until=ended))


async def test_who_waits_for_its_turn_is_sent_away_when_the_log_is_lost(
    url: str, sessions: Sessions, log: ChangeLog
) -> None:
    for _ in range(3):
        await append(sessions, log, ("a", b"1"))
    async with feeding(log, sessions, url) as feed, contextlib.AsyncExitStack() as slow:
        for _ in range(4):
            stream = await slow.enter_async_context(contextlib.aclosing(feed.watch(0, "")))
            assert isinstance(await anext(stream), SnapshotBegin)
        async with contextlib.aclosing(feed.watch(0, "")) as waiting:
            assert await asyncio.wait_for(anext(waiting), 2) == Idle(0)
            async with transaction(sessions) as session:
                await session.execute(text("UPDATE change_head SET sequence = 1"))
                await session.execute(text("DELETE FROM change_log WHERE sequence > 1"))
            with pytest.raises(Unavailable) as failure:
                await asyncio.wait_for(drain(waiting), 5)
        assert failure.value.reason in ("CHANGE_LOG_REPLACED", "FEED_RESTARTED")
