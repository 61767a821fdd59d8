"""A segment: one append-only file of frames."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from errno import EMFILE, ENFILE, ENOMEM
from pathlib import Path
from typing import NamedTuple

from kit.spool.record import FlawedError, frame_bytes

MAGIC = b"tspool1\n"
"""First bytes of every segment; another number is another format."""

_SUFFIX = ".seg"
_HEAD_AT_LEAST = 64
_PASSING = frozenset((EMFILE, ENFILE, ENOMEM))
"""What says nothing of the file: the process, or the machine, has no descriptor or memory left for a moment."""


class Position(NamedTuple):
    """A place between two frames of a folder."""

    segment: int
    offset: int


@dataclass(slots=True)
class Segment:
    """One file, as its owner knows it."""

    number: int
    path: Path
    size: int
    """Where the last readable frame ends; the file may be longer after damage that could not be cut."""
    pending: int = 0
    """Records that are not acknowledged."""
    acknowledged_at: float | None = None
    """Unix time, once nothing in it is pending and nothing will be added; kept on disk as the file's mtime. Later, in
    memory alone, if damage in it waits to be put aside."""
    keeps_tail: bool = False
    """Whether the file is longer, for what follows damage could not be put aside."""


def segment_path(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}{_SUFFIX}"


def list_segments(folder: Path) -> list[Segment]:
    """All segments on disk, in order; `acknowledged_at` and `pending` are not filled in."""
    found = [
        Segment(int(path.stem), path, path.stat().st_size)
        for path in folder.iterdir()
        if path.suffix == _SUFFIX and path.stem.isdecimal()
    ]
    return sorted(found, key=lambda segment: segment.number)


def create(path: Path) -> int:
    """A new, empty segment; the descriptor to append with.

    :raises OSError: and there is none
    """
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        write(fd, MAGIC)
    except OSError:
        os.close(fd)
        with suppress(OSError):
            path.unlink()
        raise
    return fd


def write(fd: int, data: bytes) -> None:
    """:raises OSError: and part of `data` may be written"""
    written = os.write(fd, data)
    while written < len(data):
        # A short write does not say why; going on either succeeds or does.
        written += os.write(fd, data[written:])


def read(path: Path, offset: int, end: int, wanted: int) -> bytes:
    """About `wanted` bytes from `offset`, but never less than the whole first frame if it ends before `end`.

    So :func:`kit.spool.record.frames` always finds a frame in them or raises, and whoever reads on makes progress.

    :raises FlawedError: if the file cannot be read, or is no segment of this format
    :raises OSError: if it may be read later
    """
    try:
        fd = os.open(path, os.O_RDONLY)
        try:
            if offset == len(MAGIC) and (magic := os.pread(fd, len(MAGIC), 0)) != MAGIC:
                raise FlawedError(0, is_torn=MAGIC.startswith(magic) or not any(magic))
            expected = min(max(wanted, _HEAD_AT_LEAST), end - offset)
            data = os.pread(fd, expected, offset)
            frame = min(frame_bytes(data), end - offset)
            if len(data) == expected < frame:
                expected = frame
                data += os.pread(fd, frame - len(data), offset + len(data))
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno in _PASSING:
            raise
        raise FlawedError(offset, is_torn=False) from None
    if len(data) < expected:
        # Shorter on disk than its owner wrote it.
        raise FlawedError(offset, is_torn=False)
    return data
