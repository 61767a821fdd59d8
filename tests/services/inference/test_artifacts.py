from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kit.errors import AppError, CannotStart, Exhausted, Invalid, Unavailable
from kit.spool import lock
from recommenders.artifact import MANIFEST
from recommenders.scoring import Query
from services.inference.artifacts import SWEEP_SECONDS, FolderArtifacts
from tests.services.inference.artifacts import write
from tests.services.inference.fakes import FakeClock, until


class House:
    """A folder of artifacts, and one artifact outside of it."""

    def __init__(self, folder: Path, threads: ThreadPoolExecutor) -> None:
        self.root = folder / "root"
        self.root.mkdir()
        self.store = FolderArtifacts(self.root, threads)
        self.made = folder / "made"
        self.manifest = write(self.made, 1)
        self.text = (self.made / MANIFEST).read_bytes()
        self.place = self.root / self.manifest.digest[:2] / self.manifest.digest

    async def receive(self) -> Any:
        """On its way in, whole."""
        incoming = await self.store.receive(self.manifest, self.text)
        for file in self.manifest.files:
            data = (self.made / file.name).read_bytes()
            await incoming.write(file.name, data[:7])
            await incoming.write(file.name, data[7:])
        return incoming

    async def keep(self) -> None:
        incoming = await self.receive()
        try:
            await incoming.keep()
        finally:
            incoming.discard()
            await self.store.close()

    def incoming(self) -> list[Path]:
        return list((self.root / "incoming").iterdir())

    def open_failure(self, digest: str | None = None) -> AppError:
        with pytest.raises(AppError) as failure:
            self.store.open(digest or self.manifest.digest)
        return failure.value


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    with ThreadPoolExecutor(2) as threads:
        house = House(tmp_path, threads)
        yield house
        await house.store.close()


async def test_what_is_kept_lies_under_its_digest_readable_by_its_owner_only(house: House) -> None:
    await house.keep()
    names = {path.name for path in house.place.iterdir()}
    assert names == {MANIFEST, *(file.name for file in house.manifest.files)}
    for name in names:
        assert (house.place / name).read_bytes() == (house.made / name).read_bytes()
        assert (house.place / name).stat().st_mode & 0o777 == 0o600
    assert {path.stat().st_mode & 0o777 for path in (house.place, house.place.parent)} == {0o700}
    assert house.incoming() == []
    recommender = house.store.open(house.manifest.digest)
    assert recommender.recommend([Query("u00003", 3)])[0].items


async def test_the_same_artifact_again_is_kept_once(house: House) -> None:
    await house.keep()
    before = house.place.stat().st_ino
    await asyncio.gather(house.keep(), house.keep())
    assert house.place.stat().st_ino == before
    assert house.incoming() == []


async def test_an_artifact_that_was_damaged_after_it_was_kept_is_replaced_by_the_same_one(house: House) -> None:
    await house.keep()
    (house.place / "item_factors.npy").write_bytes(b"damaged")
    assert house.open_failure().reason == "ARTIFACT_FILE_SIZE"
    await house.keep()
    assert house.store.open(house.manifest.digest)
    assert house.incoming() == []


async def test_what_is_damaged_on_its_way_is_not_kept(house: House) -> None:
    data = bytearray((house.made / "item_factors.npy").read_bytes())
    data[-1] ^= 1
    (house.made / "item_factors.npy").write_bytes(data)
    with pytest.raises(Invalid) as failure:
        await house.keep()
    assert (failure.value.reason, failure.value.metadata["file"]) == ("ARTIFACT_FILE_CORRUPTED", "item_factors.npy")
    assert not house.place.exists()
    assert house.incoming() == []


async def test_a_discard_waits_for_the_thread_that_still_writes(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    incoming = await house.store.receive(house.manifest, house.text)
    begun, gate, write = threading.Event(), threading.Event(), os.write

    def slow(descriptor: int, data: Any) -> int:
        begun.set()
        assert gate.wait(10)
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", slow)
    writing = asyncio.create_task(incoming.write("popularity.npy", b"data"))
    await until(begun.is_set)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    incoming.discard()
    await asyncio.sleep(0)
    assert len(house.incoming()) == 1
    gate.set()
    await house.store.close()
    assert house.incoming() == []


async def test_an_artifact_that_is_not_there_is_unavailable(house: House) -> None:
    failure = house.open_failure()
    assert (type(failure), failure.reason) == (Unavailable, "ARTIFACT_MISSING")


@pytest.mark.parametrize("digest", ["../../etc", "", "A" * 64, "a" * 63, "a" * 64 + "/", "a" * 64 + "\n"])
async def test_a_digest_that_is_none_names_no_folder(house: House, digest: str) -> None:
    with pytest.raises(Invalid) as failure:
        house.store.folder_of(digest)
    assert failure.value.reason == "ARTIFACT_DIGEST"


async def test_every_kind_of_damage_is_found_at_the_first_opening(house: House) -> None:
    await house.keep()
    path = house.place / "item_factors.npy"
    data = path.read_bytes()
    for spoiled, reason in ((data[:-4], "FILE_SIZE"), (data[:-4] + b"\0\0\xc0\x7f", "FILE_CORRUPTED")):
        path.write_bytes(spoiled)
        failure = house.open_failure()
        assert (failure.reason, failure.metadata["file"]) == (f"ARTIFACT_{reason}", "item_factors.npy")
    path.unlink()
    path.symlink_to(house.made / path.name)
    assert house.open_failure().reason == "ARTIFACT_FILE_NOT_REGULAR"
    path.unlink()
    assert house.open_failure().reason == "ARTIFACT_FILE_MISSING"


async def test_a_folder_that_holds_another_artifact_is_refused(house: House) -> None:
    await house.keep()
    digest = "ab" + house.manifest.digest[2:]
    (house.root / "ab").mkdir(exist_ok=True)
    house.place.rename(house.root / "ab" / digest)
    assert house.open_failure(digest).reason == "ARTIFACT_MANIFEST_MALFORMED"


async def test_digests_are_checked_once_in_a_process(house: House) -> None:
    await house.keep()
    house.store.open(house.manifest.digest)
    path = house.place / "item_factors.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert house.store.open(house.manifest.digest)
    with ThreadPoolExecutor(1) as threads, pytest.raises(Invalid) as failure:
        FolderArtifacts(house.root, threads).open(house.manifest.digest)
    assert failure.value.reason == "ARTIFACT_FILE_CORRUPTED"


async def test_a_disk_that_is_full_is_told_before_anything_is_taken(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = os.statvfs(house.root)
    values = list(usage)
    values[4] = 0  # f_bavail
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(values))
    with pytest.raises(Exhausted) as failure:
        await house.store.receive(house.manifest, house.text)
    assert failure.value.reason == "ARTIFACT_STORAGE_FULL"
    assert house.incoming() == []


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "ARTIFACT_STORAGE_FULL"),
        (errno.EDQUOT, "ARTIFACT_STORAGE_FULL"),
        (errno.EIO, "ARTIFACT_STORAGE_FAILED"),
    ],
)
async def test_a_disk_that_fails_in_the_middle_is_told_and_nothing_is_left(
    house: House, monkeypatch: pytest.MonkeyPatch, number: int, reason: str
) -> None:
    incoming = await house.store.receive(house.manifest, house.text)

    def fail(descriptor: int, data: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(AppError) as failure:
        await incoming.write("popularity.npy", b"data")
    assert failure.value.reason == reason
    monkeypatch.undo()
    incoming.discard()
    await house.store.close()
    assert house.incoming() == []


TAKES_IN = """
import asyncio, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from recommenders.artifact import MANIFEST, parse_manifest
from services.inference.artifacts import FolderArtifacts

async def take_in(root, made):
    text = (made / MANIFEST).read_bytes()
    incoming = await FolderArtifacts(root, ThreadPoolExecutor(1)).receive(parse_manifest(text), text)
    await incoming.write("popularity.npy", b"the beginning")
    print("writing", flush=True)
    await asyncio.Event().wait()

asyncio.run(take_in(Path(sys.argv[1]), Path(sys.argv[2])))
"""


async def taking_in(house: House) -> asyncio.subprocess.Process:
    """Another process, in the middle of an upload."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", TAKES_IN, house.root, house.made, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert await process.stdout.readline() == b"writing\n"
    return process


async def test_a_sweep_removes_at_once_what_a_killed_process_left_and_nothing_of_those_that_live(house: House) -> None:
    ours = await house.receive()
    [our_folder] = house.incoming()
    living, killed = await asyncio.gather(taking_in(house), taking_in(house))
    try:
        house.store.remove_left_overs()
        assert len(house.incoming()) == 3
        killed.kill()
        await killed.wait()
        house.store.remove_left_overs()
        assert len(house.incoming()) == 2
        assert our_folder in house.incoming()
    finally:
        for process in (living, killed):
            if process.returncode is None:
                process.kill()
                await process.wait()
    clock = FakeClock()
    sweeping = asyncio.create_task(house.store.sweep(clock))
    await until(lambda: clock.slept == [SWEEP_SECONDS])
    clock.wake()
    await until(lambda: house.incoming() == [our_folder])
    sweeping.cancel()
    await ours.keep()
    assert house.store.open(house.manifest.digest)
    ours.discard()
    await house.store.close()
    assert house.incoming() == []


async def test_a_folder_that_a_sweep_takes_before_its_maker_is_made_anew(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = lock.take
    swept: list[Path] = []

    def sweep_first(folder: Path) -> int | None:
        if not swept:
            swept.append(folder)
            monkeypatch.setattr(lock, "take", take)
            house.store.remove_left_overs()
        return take(folder)

    monkeypatch.setattr(lock, "take", sweep_first)
    await house.keep()
    assert not swept[0].exists()
    assert house.store.open(house.manifest.digest)


async def test_a_sweep_follows_no_link(house: House) -> None:
    elsewhere = house.root.parent / "elsewhere"
    elsewhere.mkdir()
    (house.root / "incoming" / "inc_link").symlink_to(elsewhere)
    house.store.remove_left_overs()
    assert list(elsewhere.iterdir()) == []


def test_a_file_system_without_locks_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with ThreadPoolExecutor(1) as threads, pytest.raises(CannotStart, match="TURNOUT_INFERENCE_ARTIFACTS_DIR"):
        FolderArtifacts(tmp_path, threads)
    assert list((tmp_path / "incoming").iterdir()) == []


def test_a_folder_that_cannot_be_used_stops_the_start_and_names_the_setting(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as threads:
        with pytest.raises(CannotStart, match=r"TURNOUT_INFERENCE_ARTIFACTS_DIR: .*absent"):
            FolderArtifacts(tmp_path / "absent", threads)
