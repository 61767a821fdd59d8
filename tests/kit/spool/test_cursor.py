"""The cursor: what was stored, or the beginning."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.spool import cursor
from kit.spool.segment import Position


def test_the_last_position_stored_is_loaded(tmp_path: Path) -> None:
    cursor.store(tmp_path, Position(1, 1 << 40))
    cursor.store(tmp_path, Position(7, 300))

    assert cursor.load(tmp_path) == Position(7, 300)


def test_without_a_cursor_everything_is_relayed_again(tmp_path: Path) -> None:
    assert cursor.load(tmp_path) == cursor.BEGINNING


@pytest.mark.parametrize("byte", range(16))
def test_a_damaged_or_torn_cursor_is_the_beginning(tmp_path: Path, byte: int) -> None:
    cursor.store(tmp_path, Position(7, 300))
    path = tmp_path / "cursor"
    whole = path.read_bytes()

    path.write_bytes(whole[:byte])
    assert cursor.load(tmp_path) == cursor.BEGINNING

    path.write_bytes(whole[:byte] + bytes([whole[byte] ^ 1]) + whole[byte + 1 :])
    assert cursor.load(tmp_path) == cursor.BEGINNING
