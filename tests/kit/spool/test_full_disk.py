"""Disks that are full or cannot be written."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit.errors import Unavailable
from kit.spool import Event, Spool, SpoolUnusable
from kit.spool.record import frames
from kit.spool.segment import MAGIC

if TYPE_CHECKING:
    from tests.kit.spool.conftest import Broker, MakeSpool, Running, Until


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip("mounting needs root")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def fill(spool: Spool, payload_bytes: int) -> None:
    """Append until the disk is full."""
    reason = None
    while reason is None:
        try:
            spool.append(Event("subject", bytes(payload_bytes)))
        except Unavailable as full:
            reason = full.reason
    assert reason == "SPOOL_FULL"


def assert_whole(segment: Path) -> None:
    content = segment.read_bytes()
    read = list(frames(content[len(MAGIC) :], len(MAGIC), len(content)))
    assert read[-1].end == len(content)


async def test_a_full_disk_refuses_leaves_whole_frames_and_is_emptied_by_the_broker(
    small_disk: Path, make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    spool = make_spool(small_disk, segment_bytes=200_000)
    call = spool.open_call(b"start")
    fill(spool, 10_000)
    for segment in small_disk.glob("*/*.seg"):
        assert_whole(segment)
    assert spool.is_shedding
    written = spool.usage.pending_records
    with pytest.raises(Unavailable):
        spool.close_call(call, [Event("end", bytes(10_000))])

    async with running(spool, broker):
        assert await spool.drain(10)
        assert len(broker.taken) == written
        fill(spool, 10_000)
        await until(lambda: not spool.is_shedding)
        spool.close_call(call, [Event("end", bytes(10_000))])
        assert await spool.drain(10)
    assert broker.taken[-1].subject == "end"


async def test_open_calls_do_not_keep_a_disk_full_that_the_broker_has_emptied(
    small_disk: Path, make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    spool = make_spool(small_disk, segment_bytes=200_000)
    spool.close_call(spool.open_call(b"earlier"), [])
    ends = spool.open_call(bytes(300))
    spool.open_call(b"start")
    # To the last byte: there is no room to move a start.
    for payload_bytes in (10_000, 100, 0):
        fill(spool, payload_bytes)

    async with running(spool, broker):
        assert await spool.drain(10)
        await until(lambda: not spool.is_shedding)
        spool.close_call(ends, [Event("end", bytes(10_000))])
        fill(spool, 10_000)
        await until(lambda: not spool.is_shedding)
        assert await spool.drain(10)
    assert spool.usage.open_calls == 1
    spool.close()
    heir = make_spool(small_disk)
    async with running(heir, broker):
        await until(lambda: bool(heir.usage.lost_calls))
        assert await heir.drain(10)
    assert [(record.subject, record.payload) for record in broker.taken if record.subject != "subject"] == [
        ("end", bytes(10_000)),
        ("lost", b"start"),
    ]


async def test_a_process_that_starts_on_a_disk_filled_by_its_predecessor_empties_it(
    small_disk: Path, make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    # One segment, so that the start of the lost call is in the only file whose end would make room for its report.
    dead = make_spool(small_disk, segment_bytes=16 << 20)
    dead.open_call(bytes(5_000))
    fill(dead, 10_000)
    fill(dead, 0)
    written = dead.usage.pending_records
    dead.close()

    heir = make_spool(small_disk)
    with pytest.raises(Unavailable):
        heir.open_call(bytes(5_000))
    async with running(heir, broker):
        await until(lambda: len(broker.taken) > written)
        await until(lambda: heir.usage.bytes == 0)
    assert [record.subject for record in broker.taken] == ["subject"] * written + ["lost"]
    heir.open_call(bytes(5_000))


def test_a_read_only_root_is_refused_with_the_setting_to_change(small_disk: Path, make_spool: MakeSpool) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)

    with pytest.raises(SpoolUnusable, match=r"Read-only file system.*TURNOUT_SPOOL_DIR"):
        make_spool(small_disk)


LIMITED = """
import resource, sys
from pathlib import Path
from kit.errors import Unavailable
from kit.spool import Event, Spool, SpoolOptions

spool = Spool(SpoolOptions(root=Path(sys.argv[1]), root_setting=""), lost=lambda payload: Event("lost", payload))
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
written = 0
while True:
    try:
        spool.append(Event("subject", bytes(900)))
    except Unavailable as error:
        print(error.reason, written)
        break
    written += 1
spool.append(Event("subject", b"fits"))
"""


def test_a_write_that_is_cut_short_is_taken_back(tmp_path: Path) -> None:
    output = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout

    assert output.split() == ["SPOOL_FULL", "10"]
    (segment,) = tmp_path.glob("*/*.seg")
    assert_whole(segment)
    assert segment.read_bytes().endswith(b"fits")


async def test_damage_that_was_put_aside_is_not_written_over_unseen(
    small_disk: Path, make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    spool = make_spool(small_disk, segment_bytes=200_000, retention_seconds=0)
    spool.open_call(b"start")
    # To the last byte: there is no room for a copy of the damage, or to move the start.
    for payload_bytes in (10_000, 100, 0):
        fill(spool, payload_bytes)
    damaged = min(small_disk.glob("*/*.seg"))
    content = bytearray(damaged.read_bytes())
    content[30_000] ^= 0xFF
    damaged.write_bytes(content)

    async with running(spool, broker):
        assert await spool.drain(10)
        await until(lambda: not damaged.exists() or damaged.stat().st_size < len(content))
        # Given up for want of room, or there as it was; but nothing else under that name.
        await until(
            lambda: all(path.read_bytes() == content for path in small_disk.glob("rejected/*")),
        )
