"""`rejected/`: what nobody will take, kept for a person, within a bound."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import orjson

from kit.spool.ledger import Ledger
from kit.spool.record import Record

FOLDER = "rejected"

_log = logging.getLogger(__name__)


class RejectedFiles:
    """Never raises: what cannot be kept is counted and logged, because nothing here may stop the relay.

    Files of a crash in mid-write are written again under the same name, since the record is then relayed again.
    """

    def __init__(self, root: Path, ledger: Ledger, *, max_files: int, max_bytes: int) -> None:
        self._folder = root / FOLDER
        self._ledger = ledger
        self._max_files = max_files
        self._max_bytes = max_bytes

    def keep_records(self, rejected: Sequence[tuple[Record, str]]) -> None:
        """Write `<id>.rec` for each record with its reason: one line of JSON about it, then the payload as it is."""
        for record, reason in rejected:
            about = {"id": record.id, "subject": record.subject, "reason": reason, "headers": record.headers}
            self._keep(
                f"{record.id}.rec", orjson.dumps(about | {"rejected_at": int(time.time())}), b"\n", record.payload
            )
            self._ledger.rejected_records += 1
            _log.error("a record is rejected", extra={"id": record.id, "subject": record.subject, "reason": reason})
        self._trim()

    def keep_tail(self, segment: Path, offset: int) -> bool:
        """Copy what follows `offset` to `<folder>-<segment>-<offset>.tail`; whether it is there."""
        try:
            with segment.open("rb") as source:
                source.seek(offset)
                tail = source.read(self._max_bytes + 1)
        except OSError as error:
            _log.exception("a corrupt segment cannot be read", extra={"segment": str(segment), "errno": error.errno})
            return False
        if len(tail) > self._max_bytes:
            return False
        is_kept = self._keep(f"{segment.parent.name}-{segment.stem}-{offset}.tail", tail)
        self._trim()
        return is_kept

    def keep_segment(self, segment: Path) -> bool:
        """Put a whole segment aside as `<folder>-<segment>.seg`, which takes no room; whether it is there."""
        path = self._folder / f"{segment.parent.name}-{segment.name}"
        try:
            self._folder.mkdir(exist_ok=True)
            # There is nothing to keep of a segment that vanished.
            with suppress(FileNotFoundError):
                with suppress(FileExistsError):
                    path.hardlink_to(segment)
                # It comes here now, whenever it was acknowledged: the oldest files go first.
                os.utime(path)
        except OSError as error:
            _log.exception("a corrupt segment cannot be kept", extra={"file": str(path), "errno": error.errno})
            return False
        self._trim()
        return True

    def give_up_segment(self, segment: Path) -> None:
        """Remove what :meth:`keep_segment` put aside: it is the same file, and was written over for want of room."""
        path = self._folder / f"{segment.parent.name}-{segment.name}"
        with suppress(OSError):
            path.unlink(missing_ok=True)
        _log.error("a corrupt segment is given up for want of room", extra={"file": str(path)})

    def _keep(self, name: str, *parts: bytes) -> bool:
        path = self._folder / name
        try:
            self._folder.mkdir(exist_ok=True)
            with path.open("wb") as file:
                file.writelines(parts)
        except OSError as error:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            _log.exception("a rejected file cannot be kept", extra={"file": str(path), "errno": error.errno})
            return False
        return True

    def _trim(self) -> None:
        try:
            with os.scandir(self._folder) as entries:
                files = sorted((entry.stat().st_mtime_ns, entry.path, entry.stat().st_size) for entry in entries)
            total = sum(size for _, _, size in files)
            while files and (len(files) > self._max_files or total > self._max_bytes):
                _, path, size = files.pop(0)
                total -= size
                os.unlink(path)
                self._ledger.rejected_dropped += 1
        except OSError as error:
            # Another process trims the same folder; whoever comes next finds it within its bound again.
            _log.debug("the rejected files cannot be trimmed", extra={"errno": error.errno})
