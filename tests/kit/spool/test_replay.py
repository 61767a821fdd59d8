"""Rebuilding a stream from what is still on disk."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from kit.spool import Event, replay

if TYPE_CHECKING:
    from tests.kit.spool.conftest import Broker, MakeSpool, Running, Until

EPOCH = datetime.fromtimestamp(0, UTC)


async def test_acknowledged_records_come_again_with_their_ids_and_pending_ones_do_not(
    tmp_path: Path, make_spool: MakeSpool, broker: Broker, running: Running
) -> None:
    spool = make_spool(segment_bytes=1_000)
    for number in range(50):
        spool.append(Event("subject", b"%d" % number, {"traceparent": "00-1"}))
    spool.open_call(b"start")
    async with running(spool, broker):
        assert await spool.drain(10)
    spool.append(Event("subject", b"pending"))

    assert list(replay(tmp_path, EPOCH)) == broker.taken


async def test_reports_of_lost_calls_come_again_too(
    tmp_path: Path, make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    dead = make_spool()
    dead.open_call(b"open")
    dead.close()
    async with running(make_spool(), broker):
        await until(lambda: broker.payloads == [b"open"])

    assert list(replay(tmp_path, EPOCH)) == broker.taken


async def test_segments_that_were_acknowledged_before_are_left_out(
    tmp_path: Path, make_spool: MakeSpool, broker: Broker, running: Running
) -> None:
    spool = make_spool(segment_bytes=200)
    for number in range(4):
        spool.append(Event("subject", b"%d" % number + bytes(200)))
    async with running(spool, broker):
        assert await spool.drain(10)
    for path in sorted(tmp_path.glob("*/*.seg"))[:2]:
        os.utime(path, (1_000, 1_000))

    assert list(replay(tmp_path, datetime.fromtimestamp(2_000, UTC))) == broker.taken[2:]


async def test_a_damaged_segment_gives_what_comes_before_the_damage(
    tmp_path: Path, make_spool: MakeSpool, broker: Broker, running: Running
) -> None:
    spool = make_spool()
    for number in range(3):
        spool.append(Event("subject", b"%d" % number))
    async with running(spool, broker):
        assert await spool.drain(10)
    (path,) = tmp_path.glob("*/*.seg")
    path.write_bytes(path.read_bytes()[:-1] + b"?")

    assert list(replay(tmp_path, EPOCH)) == broker.taken[:2]


async def test_what_was_written_before_and_taken_after_the_time_comes_again(
    tmp_path: Path, make_spool: MakeSpool, broker: Broker, running: Running
) -> None:
    spool = make_spool()
    spool.append(Event("subject", b"written while the broker was down"))
    # The append was an hour before; nothing was written since.
    (path,) = tmp_path.glob("*/*.seg")
    os.utime(path, (1_000, 1_000))
    async with running(spool, broker):
        assert await spool.drain(10)

    assert list(replay(tmp_path, datetime.fromtimestamp(2_000, UTC))) == broker.taken
