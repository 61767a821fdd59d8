"""The cursor: up to where a folder is acknowledged.

Written in place, because a full disk must not stop it; the checksum turns a torn write into "from the beginning", which
repeats records and loses none.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import google_crc32c

from kit.spool.segment import MAGIC, Position

_FILE = "cursor"
_POSITION = struct.Struct("<IQ")
BEGINNING = Position(0, len(MAGIC))


def load(folder: Path) -> Position:
    """What :func:`store` left; the beginning if it is missing or unreadable."""
    try:
        data = (folder / _FILE).read_bytes()
    except OSError:
        return BEGINNING
    content, checksum = data[: _POSITION.size], data[_POSITION.size :]
    if len(content) < _POSITION.size or google_crc32c.value(content).to_bytes(4) != checksum:
        return BEGINNING
    return Position(*_POSITION.unpack(content))


def store(folder: Path, position: Position) -> None:
    """:raises OSError: if it cannot be written; the old one then stays, or is unreadable"""
    content = _POSITION.pack(*position)
    fd = os.open(folder / _FILE, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.pwrite(fd, content + google_crc32c.value(content).to_bytes(4), 0)
    finally:
        os.close(fd)


def stored_at(folder: Path) -> float:
    """When it was last written, in Unix time; 0 if it is missing."""
    try:
        return (folder / _FILE).stat().st_mtime
    except OSError:
        return 0.0


def remove(folder: Path) -> None:
    (folder / _FILE).unlink(missing_ok=True)
