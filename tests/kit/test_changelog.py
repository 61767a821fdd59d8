from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from kit import database
from kit.changelog import (
    Change,
    ChangeLog,
    Discontinuity,
    Event,
    Feed,
    Head,
    Idle,
    Resumed,
    SnapshotBegin,
    SnapshotChunk,
    SnapshotEnd,
    create_tables,
)
from kit.database import Sessions, transaction
from kit.errors import Unavailable
from stack.postgres import Postgres

SCHEMA = "notes"


async def new_log(server: Postgres, name: str) -> str:
    """A fresh database with the log's tables; its address."""
    server.create_database(name)
    engine = create_async_engine(server.url(name))
    async with engine.begin() as connection:
        await connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
        await connection.execute(text(f"SET search_path TO {SCHEMA}"))
        await connection.run_sync(create_tables)
    await engine.dispose()
    return server.url(name)


@pytest.fixture
async def url(postgres: Postgres) -> str:
    return await new_log(postgres, f"log_{uuid.uuid4().hex}")


@pytest.fixture
async def sessions(url: str) -> AsyncIterator[Sessions]:
    async with database.sessions(url, schema=SCHEMA) as opened:
        yield opened


@pytest.fixture
def log() -> ChangeLog:
    return ChangeLog(SCHEMA)


async def append(sessions: Sessions, log: ChangeLog, *entries: tuple[str, bytes | None]) -> int:
    async with transaction(sessions) as session:
        return await log.append(session, entries)


async def collect(
    log: ChangeLog, sessions: Sessions, url: str, after: int, count: int, poll_seconds: float = 0.5
) -> list[Change]:
    found: list[Change] = []
    async with (
        asyncio.timeout(20),
        contextlib.aclosing(log.tail(sessions, url, after, poll_seconds=poll_seconds)) as tail,
    ):
        async for change in tail:
            found.append(change)
            if len(found) == count:
                break
    return found


async def eventually(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    try:
        async with asyncio.timeout(15):
            while not await condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"not within 15 s: {what}")


async def state(sessions: Sessions, log: ChangeLog, chunk_bytes: int = 1 << 20) -> tuple[Head, dict[str, bytes]]:
    async with transaction(sessions, read_only_snapshot=True) as session:
        snapshot = await log.snapshot(session, chunk_bytes=chunk_bytes)
        return snapshot.head, {key: payload async for chunk in snapshot.chunks for key, payload in chunk}


def replay(changes: list[Change], start: dict[str, bytes] | None = None) -> dict[str, bytes]:
    now = dict(start or {})
    for change in changes:
        for key, payload in change.entries:
            if payload is None:
                now.pop(key, None)
            else:
                now[key] = payload
    return now


async def test_concurrent_writers_leave_no_gap_and_no_disorder_for_a_tailing_reader(
    url: str, sessions: Sessions, log: ChangeLog
) -> None:
    randomness = random.Random(7)
    committed: dict[int, bytes] = {}

    async def write(engine: Sessions, name: str) -> None:
        for number in range(25):
            fails, early, pause = randomness.random() < 0.3, randomness.random() < 0.5, randomness.random() * 0.004
            with contextlib.suppress(ZeroDivisionError):
                async with transaction(engine) as session:
                    promised = await log.lock(session) if early else 0
                    await asyncio.sleep(pause)
                    sequence = await log.append(session, [(f"{name}/{number}", name.encode())])
                    assert promised in (0, sequence)
                    if fails:
                        raise ZeroDivisionError
                committed[sequence] = name.encode()

    async with database.sessions(url, schema=SCHEMA) as other:
        reading = asyncio.create_task(collect(log, sessions, url, 0, 1))
        async with asyncio.TaskGroup() as writers:
            for index in range(6):
                writers.create_task(write(sessions if index % 2 else other, f"writer{index}"))
        await reading
        seen = await collect(log, other, url, 0, len(committed))

    assert [change.sequence for change in seen] == list(range(1, len(committed) + 1))
    assert [change.entries[0][1] for change in seen] == [committed[change.sequence] for change in seen]


async def test_a_reader_that_tails_during_the_writes_sees_the_same_as_one_that_replays(
    url: str, sessions: Sessions, log: ChangeLog
) -> None:
    reading = asyncio.create_task(collect(log, sessions, url, 0, 40))
    for number in range(40):
        await append(sessions, log, (f"key{number % 7}", None if number % 5 == 0 else b"%d" % number), ("", b"x"))
    live = await reading

    assert live == await collect(log, sessions, url, 0, 40)
    head, kept = await state(sessions, log)
    assert head.sequence == 40
    assert kept == {key: value for key, value in replay(live).items() if key}


async def test_snapshot_and_tail_equal_replay_from_zero(url: str, sessions: Sessions, log: ChangeLog) -> None:
    randomness = random.Random(11)

    async def churn(count: int) -> None:
        for number in range(count):
            keys = randomness.sample([f"k{index}" for index in range(12)], 3)
            await append(sessions, log, *((key, None if randomness.random() < 0.3 else b"%d" % number) for key in keys))

    await churn(30)
    writing = asyncio.create_task(churn(30))
    head, start = await state(sessions, log, chunk_bytes=64)
    await writing
    rest = await collect(log, sessions, url, head.sequence, 60 - head.sequence)

    everything = await collect(log, sessions, url, 0, 60)
    assert replay(rest, start) == replay(everything) == (await state(sessions, log))[1]


async def test_the_death_of_the_listening_connection_loses_nothing(
    url: str, sessions: Sessions, log: ChangeLog
) -> None:
    admin = await asyncpg.connect(url.replace("+asyncpg", ""))
    kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'turnout-listen%'"

    async def killed() -> bool:
        return bool(await admin.fetchval(kill))

    reading = asyncio.create_task(collect(log, sessions, url, 0, 30))
    for number in range(30):
        if number in (5, 15):
            await eventually(killed, "a listening connection")
        await append(sessions, log, ("key", b"%d" % number))

    assert [change.sequence for change in await reading] == list(range(1, 31))
    await admin.close()


async def test_a_notification_wakes_a_reader_long_before_its_poll(url: str, sessions: Sessions, log: ChangeLog) -> None:
    admin = await asyncpg.connect(url.replace("+asyncpg", ""))

    async def listening() -> bool:
        asked = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND state = 'idle'"
        return bool(await admin.fetchval(asked))

    reading = asyncio.create_task(collect(log, sessions, url, 0, 1, poll_seconds=60))
    await eventually(listening, "LISTEN")
    await append(sessions, log, ("key", b"value"))

    async with asyncio.timeout(5):
        assert (await reading)[0].entries == (("key", b"value"),)
    await admin.close()


async def test_without_notifications_the_poll_finds_the_change(sessions: Sessions, log: ChangeLog) -> None:
    nowhere = "postgresql+asyncpg://postgres@127.0.0.1:1/nowhere"
    reading = asyncio.create_task(collect(log, sessions, nowhere, 0, 2, poll_seconds=0.05))
    await append(sessions, log, ("key", b"1"))
    await append(sessions, log, ("key", b"2"))

    assert [change.sequence for change in await reading] == [1, 2]


async def test_of_a_key_given_twice_the_last_counts(sessions: Sessions, log: ChangeLog) -> None:
    await append(sessions, log, ("key", b"first"), ("gone", b"x"), ("key", b"last"), ("gone", None))

    assert (await state(sessions, log))[1] == {"key": b"last"}


async def test_an_empty_change_takes_a_sequence(url: str, sessions: Sessions, log: ChangeLog) -> None:
    assert await append(sessions, log) == 1
    assert await collect(log, sessions, url, 0, 1) == [Change(1, ())]


async def test_chunks_stay_below_their_bound_and_keys_ascend_by_bytes(sessions: Sessions, log: ChangeLog) -> None:
    keys = ["a", "B", "é", "a/b", "z", "A", "~", "a-b"]
    await append(sessions, log, *((key, b"x" * 100) for key in keys), ("big", b"y" * 5000))

    async with transaction(sessions, read_only_snapshot=True) as session:
        snapshot = await log.snapshot(session, chunk_bytes=300)
        chunks = [chunk async for chunk in snapshot.chunks]

    found = [key for chunk in chunks for key, _ in chunk]
    assert found == sorted([*keys, "big"], key=str.encode)
    assert all(len(chunk) == 1 or sum(len(k) + len(p) for k, p in chunk) <= 300 for chunk in chunks)


async def test_a_snapshot_outside_repeatable_read_is_refused(sessions: Sessions, log: ChangeLog) -> None:
    async with transaction(sessions) as session:
        with pytest.raises(ValueError, match="REPEATABLE READ"):
            await log.snapshot(session)


async def test_a_log_that_was_cut_or_is_older_than_its_reader_is_a_discontinuity(
    sessions: Sessions, log: ChangeLog
) -> None:
    for _ in range(5):
        await append(sessions, log)
    async with transaction(sessions) as session:
        await session.execute(text("DELETE FROM change_log WHERE sequence < 4"))

    async with transaction(sessions) as session:
        assert [change.sequence for change in (await log.after(session, 3)).changes] == [4, 5]
        for beyond in (2, 6):
            with pytest.raises(Discontinuity):
                await log.after(session, beyond)


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
