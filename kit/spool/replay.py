"""Reading again what was acknowledged, to rebuild a stream that the broker lost."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from kit.spool import cursor
from kit.spool.folder import folder_paths
from kit.spool.record import FlawedError, Record, frames, records_of
from kit.spool.segment import MAGIC, list_segments, read

_log = logging.getLogger(__name__)
_SLICE_BYTES = 1 << 20


def replay(root: Path, since: datetime) -> Iterator[Record]:
    """All acknowledged records, of every folder under `root`, that the broker may have taken at or after `since`.

    Whole segments, so older ones come too; publishing one again is harmless, since its id is the same. Takes no lock:
    what a running process drops meanwhile is left out, and what is still pending will be relayed anyway.

    :raises OSError: if `root` cannot be read, or there is no descriptor or memory left
    """
    for folder in folder_paths(root):
        try:
            segments, acknowledged = list_segments(folder), cursor.load(folder)
            touched = [(segment, segment.path.stat().st_mtime) for segment in segments]
            moved_at = cursor.stored_at(folder)
        except FileNotFoundError:
            continue
        for segment, changed_at in touched:
            if segment.number == acknowledged.segment:
                # Nothing tells of itself when it was acknowledged, as long as it may grow.
                changed_at = max(changed_at, moved_at)
            end = segment.size if segment.number < acknowledged.segment else min(segment.size, acknowledged.offset)
            if segment.number <= acknowledged.segment and changed_at >= since.timestamp():
                yield from _records(segment.path, end)


def _records(path: Path, end: int) -> Iterator[Record]:
    offset = len(MAGIC)
    try:
        while offset < end:
            for frame in frames(read(path, offset, end, _SLICE_BYTES), offset, end):
                yield from records_of(frame)
                offset = frame.end
    except FlawedError as flaw:
        _log.warning("a segment is read only in part", extra={"segment": str(path), "offset": flaw.offset})
