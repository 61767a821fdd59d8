"""The relay: patient with a broker that is down, deaf to one that refuses, and never in the way."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit.spool import Event, Outcome, Record, segment

if TYPE_CHECKING:
    from tests.kit.spool.conftest import Broker, MakeSpool, Running, Until


async def test_a_broker_that_was_down_gets_everything_in_order_when_it_is_back(
    make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    spool = make_spool(segment_bytes=2_000, batch_records=7)
    broker.is_down = True
    async with running(spool, broker):
        for number in range(200):
            spool.append(Event("subject", b"%d" % number))
        await until(lambda: broker.failures >= 3)
        broker.is_down = False
        assert await spool.drain(10)

    assert broker.payloads == [b"%d" % number for number in range(200)]


async def test_no_more_is_read_than_a_batch_takes(
    make_spool: MakeSpool, broker: Broker, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = make_spool(batch_records=10)
    for number in range(500):
        spool.append(Event("subject", b"%d" % number + bytes(1000)))
    read = 0

    def counted(path: Path, offset: int, end: int, wanted: int) -> bytes:
        nonlocal read
        data = segment.read(path, offset, end, wanted)
        read += len(data)
        return data

    monkeypatch.setattr("kit.spool.folder.read", counted)
    async with running(spool, broker):
        assert await spool.drain(10)

    assert len(broker.payloads) == 500
    assert read < 1.2 * spool.usage.bytes


async def test_a_batch_that_fails_half_way_is_repeated_with_the_same_ids(
    make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    spool = make_spool()
    for number in range(5):
        spool.append(Event("subject", b"%d" % number))
    broker.budget = 3
    async with running(spool, broker):
        await until(lambda: broker.failures > 0)
        broker.budget = None
        assert await spool.drain(10)

    assert broker.payloads == [b"0", b"1", b"2", b"0", b"1", b"2", b"3", b"4"]
    assert len({record.id for record in broker.taken}) == 5


async def test_a_refused_record_is_put_aside_and_what_follows_goes_on(
    tmp_path: Path, make_spool: MakeSpool, broker: Broker, running: Running
) -> None:
    spool = make_spool()
    large = spool.append(Event("large", bytes(2 << 20), {"traceparent": "00-1"}))
    spool.append(Event("small", b"1"))
    broker.refusal = lambda record: "too large" if len(record.payload) > 1 << 20 else None
    async with running(spool, broker):
        assert await spool.drain(10)

    assert broker.payloads == [b"1"]
    assert spool.usage.rejected_records == 1
    about, _, payload = (tmp_path / "rejected" / f"{large.id}.rec").read_bytes().partition(b"\n")
    assert b'"reason":"too large"' in about
    assert b'"traceparent":"00-1"' in about
    assert payload == large.payload


async def test_what_is_acknowledged_is_not_sent_again_after_a_restart(
    make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    spool = make_spool()
    spool.append(Event("subject", b"1"))
    async with running(spool, broker):
        assert await spool.drain(10)
    spool.close()

    heir = make_spool()
    heir.append(Event("subject", b"2"))
    async with running(heir, broker):
        await until(lambda: heir.usage.folders == 2)
        assert await heir.drain(10)

    assert broker.payloads == [b"1", b"2"]


async def test_segments_stay_for_their_retention_after_they_are_acknowledged(
    tmp_path: Path, make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    now = 1_000_000.0
    spool = make_spool(clock=lambda: now, segment_bytes=2_000, retention_seconds=3600)
    async with running(spool, broker):
        for _ in range(10):
            spool.append(Event("subject", bytes(1000)))
        assert await spool.drain(10)
        assert len(list(tmp_path.glob("*/*.seg"))) == 10
        now += 3599
        spool.append(Event("subject", bytes(1000)))
        assert await spool.drain(10)
        assert len(list(tmp_path.glob("*/*.seg"))) == 11
        now += 2
        await until(lambda: len(list(tmp_path.glob("*/*.seg"))) == 2)


async def test_retention_goes_on_in_an_adopted_folder_which_then_is_removed(
    tmp_path: Path, make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    now = 1_000_000.0
    spool = make_spool(clock=lambda: now)
    spool.append(Event("subject", b"1"))
    spool.close()

    heir = make_spool(clock=lambda: now, retention_seconds=3600)
    async with running(heir, broker):
        await until(lambda: broker.payloads == [b"1"])
        now += 3599
        await until(lambda: heir.usage.folders == 2)
        assert len(list(tmp_path.iterdir())) == 2
        now += 2
        await until(lambda: heir.usage.folders == 1 and len(list(tmp_path.iterdir())) == 1)


async def test_a_broker_that_hangs_counts_as_down(
    make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    spool = make_spool(publish_timeout_seconds=0.02)
    spool.append(Event("subject", b"1"))
    calls = 0
    publish = broker.publish

    async def hang_at_first(batch: Sequence[Record]) -> Sequence[Outcome]:
        nonlocal calls
        calls += 1
        if calls == 1:
            await asyncio.Event().wait()
        return await publish(batch)

    broker.publish = hang_at_first  # type: ignore[method-assign]  # a broker of this one test
    async with running(spool, broker):
        await until(lambda: broker.payloads == [b"1"])
    assert calls == 2


async def test_a_publisher_that_loses_count_moves_nothing(
    make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    spool = make_spool()
    spool.append(Event("subject", b"1"))
    calls = 0

    async def forget(batch: Sequence[Record]) -> Sequence[Outcome]:
        nonlocal calls
        calls += 1
        return []

    broker.publish = forget  # type: ignore[method-assign]  # a broker of this one test
    async with running(spool, broker):
        await until(lambda: calls > 2)
    assert spool.usage.pending_records == 1


async def test_nothing_is_published_before_it_is_on_the_disk_with_fsync_batch(
    make_spool: MakeSpool, broker: Broker, running: Running, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncing, may_sync = threading.Event(), threading.Event()
    fsync = os.fsync

    def slow_fsync(fd: int) -> None:
        syncing.set()
        may_sync.wait(10)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", slow_fsync)
    spool = make_spool(fsync="batch", fsync_interval_seconds=0.001, segment_bytes=100)
    spool.append(Event("subject", b"1" * 100))
    spool.append(Event("subject", b"2" * 100))
    async with running(spool, broker):
        await until(syncing.is_set)
        spool.append(Event("subject", b"3"))
        assert not await spool.drain(0.02)
        assert broker.taken == []
        may_sync.set()
        assert await spool.drain(10)
        assert broker.payloads == [b"1" * 100, b"2" * 100, b"3"]

        may_sync.clear()
        spool.append(Event("subject", b"4" * 100))
        spool.append(Event("subject", b"5" * 100))
        assert not await spool.drain(0.02)
        assert len(broker.taken) == 3
        may_sync.set()
        assert await spool.drain(10)
    assert len(broker.taken) == 5


async def test_a_sync_that_fails_does_not_hold_events_back(
    make_spool: MakeSpool, broker: Broker, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    spool = make_spool(fsync="batch", fsync_interval_seconds=0.001)
    spool.append(Event("subject", b"1"))
    async with running(spool, broker):
        assert await spool.drain(10)


async def test_a_backlog_of_an_adopted_folder_does_not_hold_up_new_events(
    make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    dead = make_spool()
    for _ in range(1000):
        dead.append(Event("old", b""))
    dead.close()
    spool = make_spool(batch_records=10)
    spool.append(Event("new", b""))
    async with running(spool, broker):
        await until(lambda: len(broker.taken) == 1001)

    assert [record.subject for record in broker.taken].index("new") < 20


async def test_an_observer_is_told_of_every_record_once_also_when_its_batch_was_repeated(
    make_spool: MakeSpool, broker: Broker, until: Until
) -> None:
    spool = make_spool(batch_records=4)
    for number in range(10):
        spool.append(Event("refused" if number == 5 else "subject", b"%d" % number))
    broker.refusal = lambda record: "bad" if record.subject == "refused" else None
    broker.budget = 6
    seen: list[bytes] = []
    relay = asyncio.create_task(spool.run(broker, lambda records: seen.extend(record.payload for record in records)))

    await until(lambda: broker.failures >= 2)
    assert seen == [b"0", b"1", b"2", b"3"]
    assert spool.usage.failed_rounds >= 2
    broker.budget = None
    assert await spool.drain(10)
    relay.cancel()

    assert seen == [b"%d" % number for number in range(10)]


async def test_an_observer_learns_of_calls_that_a_dead_process_left(
    tmp_path: Path, make_spool: MakeSpool, broker: Broker, until: Until
) -> None:
    dead = make_spool()
    dead.open_call(b"start")
    dead.close()
    seen: list[tuple[str, bytes]] = []
    heir = make_spool()

    relay = asyncio.create_task(
        heir.run(broker, lambda records: seen.extend((record.subject, record.payload) for record in records))
    )
    await until(lambda: heir.usage.lost_calls == 1 and not heir.usage.pending_records)
    relay.cancel()

    assert seen == [("lost", b"start")]


async def test_an_observer_that_fails_does_not_hold_up_the_relay(make_spool: MakeSpool, broker: Broker) -> None:
    spool = make_spool()
    spool.append(Event("subject", b"1"))

    def fail(_records: Sequence[Record]) -> None:
        raise RuntimeError("a bug")

    relay = asyncio.create_task(spool.run(broker, fail))
    assert await spool.drain(10)
    relay.cancel()

    assert broker.payloads == [b"1"]
    assert spool.usage.failed_rounds == 0


async def test_calls_get_their_turn_while_an_observer_is_told_of_many(make_spool: MakeSpool, broker: Broker) -> None:
    spool = make_spool()
    for number in range(256):
        spool.append(Event("subject", b"%d" % number))
    turns, told = 0, list[tuple[int, int]]()

    async def call() -> None:
        nonlocal turns
        while sum(count for _, count in told) < 256:
            turns += 1
            await asyncio.sleep(0)

    relay = asyncio.create_task(spool.run(broker, lambda records: told.append((turns, len(records)))))
    await call()
    relay.cancel()

    assert max(count for _, count in told) <= 64
    assert len({turn for turn, _ in told}) == len(told), "each in a turn of its own"
