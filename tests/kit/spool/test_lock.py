"""One owner per folder, also while others come and remove it."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from kit.spool import lock


def test_a_folder_is_locked_once_and_again_after_its_owner_let_go(tmp_path: Path) -> None:
    first = lock.take(tmp_path)
    assert first is not None
    assert lock.take(tmp_path) is None

    os.close(first)
    second = lock.take(tmp_path)
    assert second is not None
    os.close(second)


def test_a_folder_that_is_gone_cannot_be_locked(tmp_path: Path) -> None:
    assert lock.take(tmp_path / "absent") is None


@pytest.mark.parametrize("is_made_again", [False, True])
def test_a_folder_that_is_removed_just_before_it_is_locked_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_made_again: bool
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    flock = fcntl.flock

    def remove_first(fd: int, operation: int) -> None:
        shutil.rmtree(folder)
        if is_made_again:
            folder.mkdir()
            (folder / lock.LOCK).touch()
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)

    assert lock.take(folder) is None
