"""`rejected/` stays within its bound and in nobody's way."""

from __future__ import annotations

import os
from pathlib import Path

from kit.spool import Record
from kit.spool.ledger import Ledger
from kit.spool.rejected import RejectedFiles


def record(name: str, size: int = 10) -> Record:
    return Record(name, "subject", bytes(size), {})


def keep(files: RejectedFiles, folder: Path, name: str, size: int = 10) -> None:
    """Keep one record, older than those that follow whatever the resolution of the clock."""
    files.keep_records([(record(name, size), "refused")])
    for path in folder.glob("rejected/*"):
        about = path.stat()
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns - 1_000_000_000))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "rejected").iterdir())


def test_the_oldest_files_go_when_there_are_too_many(tmp_path: Path) -> None:
    ledger = Ledger()
    files = RejectedFiles(tmp_path, ledger, max_files=3, max_bytes=1 << 20)
    for name in "abcde":
        keep(files, tmp_path, name)

    assert names(tmp_path) == ["c.rec", "d.rec", "e.rec"]
    assert (ledger.rejected_records, ledger.rejected_dropped) == (5, 2)


def test_the_oldest_files_go_when_they_are_too_large_together(tmp_path: Path) -> None:
    ledger = Ledger()
    files = RejectedFiles(tmp_path, ledger, max_files=100, max_bytes=5000)
    for name in "abc":
        keep(files, tmp_path, name, 2000)

    assert names(tmp_path) == ["b.rec", "c.rec"]
    assert ledger.rejected_dropped == 1


def test_the_same_record_is_kept_once(tmp_path: Path) -> None:
    files = RejectedFiles(tmp_path, Ledger(), max_files=3, max_bytes=1 << 20)
    for _ in range(2):
        files.keep_records([(record("a"), "refused")])

    assert names(tmp_path) == ["a.rec"]


def test_a_folder_that_cannot_be_made_is_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / "rejected").write_text("in the way")
    ledger = Ledger()
    files = RejectedFiles(tmp_path, ledger, max_files=3, max_bytes=1 << 20)

    files.keep_records([(record("a"), "refused")])

    assert ledger.rejected_records == 1
    assert not files.keep_tail(tmp_path / "absent.seg", 0)


def test_a_tail_past_the_bound_is_not_kept(tmp_path: Path) -> None:
    files = RejectedFiles(tmp_path, Ledger(), max_files=3, max_bytes=100)
    segment = tmp_path / "1.seg"
    segment.write_bytes(bytes(200))

    assert not files.keep_tail(segment, 0)
    assert files.keep_tail(segment, 150)
