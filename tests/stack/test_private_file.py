from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from stack import private_file


def test_only_its_owner_can_read_it_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "made" / "secret"

    private_file.write(path, "one")
    private_file.write(path, "zwei é")

    assert path.read_text(encoding="utf-8") == "zwei é"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret"
    private_file.write(path, "old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        private_file.write(path, "new")

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
