from __future__ import annotations

import asyncio
import contextlib
import random

import pytest
from sqlalchemy import text

from kit import database
from kit.changelog import Change, ChangeLog, Discontinuity
from kit.database import Sessions, transaction
from tests.kit.changelog.logs import SCHEMA, append, collect, replay, state


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
