"""Folders whose owner is gone, in whatever state they are."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from kit.spool import Event, Spool

if TYPE_CHECKING:
    import pytest

    from tests.kit.spool.conftest import Broker, MakeSpool, Running, Until


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0xFF
    path.write_bytes(content)


def segments(root: Path) -> list[Path]:
    return sorted(root.glob("*/*.seg"))


async def test_an_open_call_of_a_dead_process_is_reported_lost_once_and_an_ended_one_never(
    make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    dead = make_spool()
    ended, silent = dead.open_call(b"ended"), dead.open_call(b"silent")
    dead.open_call(b"open")
    dead.close_call(ended, [Event("end", b"ended")])
    dead.close_call(silent, [])
    dead.close()

    async def adopt() -> None:
        heir = make_spool()
        async with running(heir, broker):
            await until(lambda: heir.usage.folders > 1)
            assert await heir.drain(10)
        heir.close()

    for _ in range(3):
        await adopt()

    assert [(record.subject, record.payload) for record in broker.taken] == [("end", b"ended"), ("lost", b"open")]


async def test_the_calls_of_a_living_process_are_not_lost(
    make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    alive, other = make_spool(), make_spool()
    call = alive.open_call(b"start")
    other.append(Event("subject", b"other"))
    async with running(alive, broker), running(other, broker):
        await until(lambda: broker.payloads == [b"other"])
        alive.close_call(call, [Event("end", b"end")])
        assert await alive.drain(10)

    assert broker.payloads == [b"other", b"end"]
    assert alive.usage.folders == other.usage.folders == 1


async def test_one_adopter_gets_a_folder_that_many_want(
    make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    dead = make_spool()
    dead.append(Event("subject", b"1"))
    dead.close()
    heirs = [make_spool() for _ in range(5)]
    async with asyncio.timeout(10):
        async with running(heirs[0], broker), running(heirs[1], broker), running(heirs[2], broker):
            async with running(heirs[3], broker), running(heirs[4], broker):
                await until(lambda: sum(heir.usage.folders for heir in heirs) == 6)
                await until(lambda: broker.payloads == [b"1"])

    assert broker.payloads == [b"1"]


async def test_a_call_that_cannot_be_reported_is_put_aside_and_the_others_are_reported(
    tmp_path: Path, make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    def picky(payload: bytes) -> Event:
        if payload == b"odd":
            raise ValueError("a payload of another version")
        return Event("lost", payload)

    dead = make_spool()
    for payload in (b"1", b"odd", b"2"):
        dead.open_call(payload)
    dead.close()

    async def adopt() -> None:
        heir = make_spool(lost=picky)
        async with running(heir, broker):
            await until(lambda: heir.usage.folders > 1)
            await until(lambda: broker.payloads == [b"1", b"2"])
        heir.close()

    for _ in range(2):
        await adopt()

    (kept,) = (tmp_path / "rejected").iterdir()
    assert b"LOST_UNREADABLE" in kept.read_bytes()
    assert kept.read_bytes().endswith(b"\nodd")


async def test_damage_in_the_middle_is_put_aside_for_a_person_and_the_next_segment_goes_on(
    tmp_path: Path, make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    dead = make_spool(segment_bytes=1_000)
    for number in range(30):
        dead.append(Event("subject", b"%02d" % number + bytes(98)))
    dead.close()
    damaged, *_ = segments(tmp_path)
    whole = damaged.read_bytes()
    frame_bytes = (len(whole) - 8) // (whole.count(b"subject"))
    flip(damaged, 8 + 2 * frame_bytes + 60)

    heir = make_spool()
    async with running(heir, broker):
        await until(lambda: heir.usage.folders == 2 and not heir.usage.pending_records)

    numbers = [int(payload[:2]) for payload in broker.payloads]
    in_damaged = whole.count(b"subject")
    assert numbers == [0, 1, *range(in_damaged, 30)]
    assert heir.usage.corrupt_segments == 1
    (tail,) = (tmp_path / "rejected").iterdir()
    assert len(tail.read_bytes()) == len(whole) - 8 - 2 * frame_bytes
    heir.close()

    again = make_spool()
    async with running(again, broker):
        await until(lambda: again.usage.folders == 2)
    assert again.usage.corrupt_segments == 0


async def test_a_segment_that_is_short_but_not_the_last_is_damage_not_a_torn_tail(
    tmp_path: Path, make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    dead = make_spool(segment_bytes=100)
    for number in range(3):
        dead.append(Event("subject", b"%d" % number + bytes(100)))
    dead.close()
    first, *_ = segments(tmp_path)
    first.write_bytes(first.read_bytes()[:-1])

    heir = make_spool()
    async with running(heir, broker):
        await until(lambda: len(broker.taken) == 2)
    assert heir.usage.corrupt_segments == 1


async def test_a_damaged_length_in_the_last_segment_is_not_taken_for_a_torn_tail(
    tmp_path: Path, make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    dead = make_spool()
    for number in range(3):
        dead.append(Event("subject", b"%d" % number))
    dead.close()
    flip(segments(tmp_path)[0], 8 + 2)

    heir = make_spool()
    async with running(heir, broker):
        await until(lambda: heir.usage.corrupt_segments == 1)
    assert (tmp_path / "rejected").is_dir()


async def test_a_segment_of_another_format_is_put_aside(
    tmp_path: Path, make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    dead = make_spool()
    dead.append(Event("subject", b"1"))
    dead.close()
    flip(segments(tmp_path)[0], 6)
    whole = segments(tmp_path)[0].read_bytes()

    heir = make_spool(retention_seconds=0)
    async with running(heir, broker):
        await until(lambda: heir.usage.corrupt_segments == 1 and heir.usage.folders == 1)
    (kept,) = (tmp_path / "rejected").iterdir()
    assert kept.read_bytes() == whole
    assert broker.taken == []


async def test_damage_in_the_segment_being_written_stops_neither_the_relay_nor_appends(
    tmp_path: Path, make_spool: MakeSpool, broker: Broker, running: Running
) -> None:
    spool = make_spool()
    spool.append(Event("subject", b"1"))
    broken = spool.usage.bytes
    call = spool.open_call(b"start")
    spool.append(Event("subject", b"2"))
    flip(segments(tmp_path)[0], broken + 14)
    async with running(spool, broker):
        assert await spool.drain(10)
        spool.append(Event("subject", b"3"))
        spool.close_call(call, [Event("end", b"4")])
        assert await spool.drain(10)

    assert broker.payloads == [b"1", b"3", b"4"]
    assert spool.usage.corrupt_segments == 1
    assert spool.usage.pending_records == 0


async def test_a_segment_that_vanished_is_skipped(
    tmp_path: Path, make_spool: MakeSpool, broker: Broker, running: Running
) -> None:
    spool = make_spool(segment_bytes=100)
    for number in range(3):
        spool.append(Event("subject", b"%d" % number + bytes(100)))
    segments(tmp_path)[1].unlink()
    async with running(spool, broker):
        assert await spool.drain(10)

    assert [payload[:1] for payload in broker.payloads] == [b"0", b"2"]
    assert spool.usage.corrupt_segments == 1


async def test_other_things_under_the_root_are_left_alone(
    tmp_path: Path, make_spool: MakeSpool, broker: Broker, running: Running
) -> None:
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    spool = make_spool(retention_seconds=0)
    spool.append(Event("subject", b"1"))
    async with running(spool, broker):
        assert await spool.drain(10)

    assert list((tmp_path / "lost+found").iterdir()) == []
    assert (tmp_path / "notes.txt").read_text() == "mine"


async def test_a_cursor_that_outran_the_disk_in_a_power_cut_hides_no_lost_call(
    tmp_path: Path, make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    dead = make_spool(segment_bytes=200)
    dead.open_call(b"open")
    for number in range(3):
        dead.append(Event("subject", b"%d" % number + bytes(200)))
    async with running(dead, broker):
        assert await dead.drain(10)
    dead.close()
    for path in segments(tmp_path)[1:]:
        path.unlink()

    heir = make_spool()
    async with running(heir, broker):
        await until(lambda: b"open" in broker.payloads)


def damage(root: Path, spool: Spool, *, events: int) -> tuple[Path, bytes, Path]:
    """Damage the first segment of so many events where no copy can be made; its path and content, and what stands where
    copies should go."""
    for number in range(events):
        spool.append(Event("subject", b"%02d" % number + bytes(500)))
    damaged, rejected = segments(root)[0], root / "rejected"
    flip(damaged, 1_200)
    rejected.write_bytes(b"")
    return damaged, damaged.read_bytes(), rejected


async def test_damage_that_could_not_be_put_aside_stays_until_it_can(
    tmp_path: Path,
    make_spool: MakeSpool,
    broker: Broker,
    running: Running,
    until: Until,
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 1_000_000.0
    spool = make_spool(clock=lambda: now, segment_bytes=5_000, retention_seconds=3600)
    damaged, content, rejected = damage(tmp_path, spool, events=20)
    async with running(spool, broker):
        assert await spool.drain(10)
        now += 3601
        await until(lambda: "a corrupt segment cannot be kept" in caplog.text)
        assert damaged.read_bytes() == content

        rejected.unlink()
        now += 3601
        await until(lambda: not damaged.exists())

    [kept] = rejected.iterdir()
    assert kept.read_bytes() == content


async def test_a_segment_put_aside_is_not_the_first_to_be_trimmed(
    tmp_path: Path, make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    now = 1_000_000.0
    spool = make_spool(clock=lambda: now, segment_bytes=5_000, retention_seconds=3600, rejected_files=2)
    damaged, content, rejected = damage(tmp_path, spool, events=20)
    async with running(spool, broker):
        assert await spool.drain(10)
        rejected.unlink()
        rejected.mkdir()
        # Rejected within the hour for which the segment was kept.
        for name in "ab":
            (rejected / f"{name}.rec").write_bytes(b"")
            os.utime(rejected / f"{name}.rec", (now + 60, now + 60))
        now += 3601
        await until(lambda: not damaged.exists())

    assert content in [path.read_bytes() for path in rejected.iterdir()]


async def test_damage_is_put_aside_when_the_bound_is_near_too(
    tmp_path: Path, make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    spool = make_spool(segment_bytes=5_000, bound_bytes=12_000)
    damaged, content, rejected = damage(tmp_path, spool, events=15)
    async with running(spool, broker):
        assert await spool.drain(10)
        rejected.unlink()
        for _ in range(9):
            spool.append(Event("subject", bytes(500)))
        await until(lambda: not damaged.exists())

    assert content in [path.read_bytes() for path in rejected.iterdir()]
