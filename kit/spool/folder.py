"""A folder of segments that this process owns: its own, or one whose owner died."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from errno import EDQUOT, EFBIG, EIO, ENOSPC
from pathlib import Path

from kit import ids
from kit.spool import cursor, lock
from kit.spool.ledger import Ledger
from kit.spool.options import SpoolOptions
from kit.spool.record import Call, FlawedError, Frame, Record, frames, mark_of, records_of, start_payload_of
from kit.spool.segment import MAGIC, Position, Segment, create, list_segments, read, segment_path, write

_log = logging.getLogger(__name__)

NO_ROOM = frozenset((ENOSPC, EDQUOT, EFBIG))
"""What the kernel says when space would help; any other failure to write needs a person."""

_CREATE_TRIES = 8
_NOWHERE = Position(-1, 0)
_ONE_FRAME = 4096


@dataclass(frozen=True, slots=True)
class Batch:
    """Records to publish, all of one segment, and where the folder is acknowledged once they are."""

    records: list[Record]
    end: Position


def folder_paths(root: Path) -> list[Path]:
    """The folders of all processes under `root`, oldest first; anything else there is left alone."""
    return sorted(path for path in root.iterdir() if _is_folder_name(path.name))


class Folder:
    """Segments in order, one of them open for appending, and the cursor of what is acknowledged.

    Used from one thread. Every change is posted to the ledger.
    """

    def __init__(
        self,
        path: Path,
        lock_fd: int,
        *,
        is_own: bool,
        options: SpoolOptions,
        ledger: Ledger,
        clock: Callable[[], float],
    ) -> None:
        self.path = path
        self.is_own = is_own
        self.open_calls: dict[Call, Position] = {}
        """Starts without an end, and where they are: calls in flight in our own folder, lost ones in an adopted one."""
        self.is_recovered = is_own
        """Whether every call in it is in flight here, ended or reported lost."""
        self.pending_since_ms: int | None = None
        self._options = options
        self._ledger = ledger
        self._clock = clock
        self._lock_fd = lock_fd
        self._segments = {segment.number: segment for segment in list_segments(path)}
        self._fd = -1
        self._active: Segment | None = None
        self._durable = cursor.BEGINNING
        self._cursor = cursor.load(path)
        # Never a number that the cursor has passed, even if the power went before those segments reached the disk.
        beyond = self._cursor.segment + (self._cursor.offset > len(MAGIC))
        self._next = max(max(self._segments, default=-1) + 1, beyond)
        for segment in self._segments.values():
            ledger.bytes += segment.size
            if segment.number < self._cursor.segment:
                segment.acknowledged_at = segment.path.stat().st_mtime
                ledger.reclaimable_bytes += segment.size

    @classmethod
    def create(cls, options: SpoolOptions, ledger: Ledger, clock: Callable[[], float]) -> Folder:
        """A new folder under the root, owned by this process.

        :raises OSError: if there cannot be one
        """
        for _ in range(_CREATE_TRIES):
            path = options.root / ids.encode(ids.uuid7())
            path.mkdir(mode=0o700)
            # An adopter may see the folder before we have locked it, and remove it as empty: then try another.
            try:
                lock_fd = lock.take(path)
            except OSError:
                with suppress(OSError):
                    path.rmdir()
                raise
            if lock_fd is not None:
                with suppress(OSError):
                    # Now, so that moving it never needs room on the disk.
                    cursor.store(path, cursor.BEGINNING)
                return cls(path, lock_fd, is_own=True, options=options, ledger=ledger, clock=clock)
        raise OSError(EIO, "adopters remove every new folder", str(options.root))

    @classmethod
    def adopt(cls, path: Path, options: SpoolOptions, ledger: Ledger, clock: Callable[[], float]) -> Folder | None:
        """The folder at `path` if its owner is gone; to be recovered before it is relayed.

        :raises OSError: if it cannot be read
        """
        lock_fd = lock.take(path)
        if lock_fd is None:
            return None
        try:
            return cls(path, lock_fd, is_own=False, options=options, ledger=ledger, clock=clock)
        except BaseException:
            os.close(lock_fd)
            raise

    @property
    def segments(self) -> list[Segment]:
        return list(self._segments.values())

    @property
    def pending_records(self) -> int:
        return sum(segment.pending for segment in self._segments.values())

    def append(self, frame: bytes, records: int, time_ms: int) -> Position:
        """Write one frame with so many records, the first made at `time_ms`; where it is.

        :raises OSError: and nothing is written
        """
        size, active = len(frame), self._active
        if active is None or (active.size + size > self._options.segment_bytes and active.size > len(MAGIC)):
            active = self._roll()
        try:
            write(self._fd, frame)
        except OSError:
            self._cut_back(active)
            raise
        at = Position(active.number, active.size)
        active.size += size
        self._ledger.bytes += size
        if records:
            active.pending += records
            self._ledger.pending_records += records
            if self.pending_since_ms is None:
                self.pending_since_ms = time_ms
        return at

    def seal(self) -> None:
        """Append nothing more to the present segment."""
        if self._active is not None:
            self._active = None
            os.close(self._fd)

    async def next_batch(self) -> Batch | None:
        """What is to be published next; None when there is nothing. A batch without records is only to be acknowledged.

        :raises FlawedError: if the segment under the cursor is damaged there; see :meth:`cut`
        """
        self._step()
        segment = self._segments.get(self._cursor.segment)
        if segment is None:
            return None
        offset, end = self._cursor.offset, self._readable_end(segment)
        if offset >= end:
            return None
        # About what a batch's records take: what is read and not used drives what calls need out of the caches.
        record_bytes = (segment.size - offset) / max(segment.pending, 1)
        wanted = min(self._options.batch_bytes, int(self._options.batch_records * record_bytes) + 1)
        if segment is self._active:
            # Just written, so in memory; a thread would cost more than the read.
            data = read(segment.path, offset, end, wanted)
        else:
            data = await asyncio.to_thread(read, segment.path, offset, end, wanted)
        records: list[Record] = []
        position = offset
        try:
            for frame in frames(data, offset, end):
                records += records_of(frame)
                position = frame.end
                if len(records) >= self._options.batch_records:
                    break
        except FlawedError:
            if position == offset:
                raise
            # What comes before the damage goes out first; the next batch meets it again.
        if records:
            self.pending_since_ms = records[0].time_ms
        return Batch(records, Position(segment.number, position))

    def acknowledge(self, batch: Batch) -> None:
        """The broker has everything before the end of `batch`, or never will."""
        segment = self._segments[batch.end.segment]
        segment.pending -= len(batch.records)
        self._ledger.pending_records -= len(batch.records)
        self._cursor = batch.end
        if not self.pending_records:
            self.pending_since_ms = None
        self._step()
        try:
            cursor.store(self.path, self._cursor)
        except OSError as error:
            # In memory it has moved; only a crash now repeats what is already there.
            self._ledger.failed_writes += 1
            _log.warning("the cursor cannot be written", extra={"folder": str(self.path), "errno": error.errno})

    @property
    def current_segment(self) -> Segment:
        """The one under the cursor, which :meth:`next_batch` found damaged."""
        return self._segments[self._cursor.segment]

    def cut(self, segment: Segment, offset: int, *, on_disk: bool) -> None:
        """Give up what follows `offset` in a segment.

        :param on_disk: whether it is put aside; else it stays in the file
        """
        segment.keeps_tail = not on_disk
        if segment is self._active:
            self.seal()
        if on_disk:
            try:
                os.truncate(segment.path, offset)
            except OSError as error:
                _log.warning("a segment cannot be cut", extra={"segment": str(segment.path), "errno": error.errno})
        self._ledger.bytes -= segment.size - offset
        if segment.acknowledged_at is not None:
            self._ledger.reclaimable_bytes -= segment.size - offset
        if self._cursor >= (segment.number, offset):
            # All before is acknowledged, so what is still counted lay behind.
            self._ledger.pending_records -= segment.pending
            segment.pending = 0
        segment.size = offset

    def note(self, segment: Segment, frame: Frame) -> None:
        """Learn from one frame of a folder that is being recovered; frames come in the order they were written.

        :raises FlawedError: if this version cannot read it
        """
        mark = mark_of(frame)
        if mark.started is not None:
            self.open_calls[mark.started] = Position(segment.number, frame.offset)
        elif mark.ended is not None:
            self.open_calls.pop(mark.ended, None)
        if mark.records and (segment.number, frame.offset) >= self._cursor:
            segment.pending += mark.records
            self._ledger.pending_records += mark.records
            if self.pending_since_ms is None:
                self.pending_since_ms = mark.time_ms

    def start_payload(self, at: Position) -> bytes:
        """What was given when the call whose start is at `at` was opened.

        :raises FlawedError: if it cannot be read any more
        """
        return start_payload_of(self._frame_at(at)[0])

    def oldest_acknowledged(self) -> Segment | None:
        """The segment that may be dropped next, if there is one. Oldest first, so that no end goes after its start."""
        first = next(iter(self._segments.values()), None)
        return None if first is None or first.acknowledged_at is None else first

    async def drop(self, segment: Segment) -> bool:
        """Remove an acknowledged segment; the starts in it whose calls are open move to the present one.

        For want of room they may have to stay, and then nothing else does.

        :return: False if that did not make room either
        """
        try:
            self._carry_starts(segment)
            if self._options.fsync == "batch":
                # What speaks for the calls that started in it must not be lost with the power after it is gone.
                await self.sync()
            segment.path.unlink(missing_ok=True)
        except OSError as error:
            # An adopted folder has no starts to keep once its calls are reported, for which room is not needed.
            if error.errno in NO_ROOM and self.is_own and self._reduce_to_starts(segment):
                return True
            self._ledger.failed_writes += 1
            _log.warning("a segment cannot be dropped", extra={"segment": str(segment.path), "errno": error.errno})
            return False
        self._ledger.bytes -= segment.size
        self._ledger.reclaimable_bytes -= segment.size
        del self._segments[segment.number]
        return True

    async def sync(self) -> bool:
        """Bring what was appended to the disk; with `fsync=batch` only that is published. Whether there was any."""
        last = self._active or next(reversed(self._segments.values()), None)
        if last is None or (target := Position(last.number, last.size)) <= self._durable:
            return False
        paths = [segment.path for segment in self._segments.values() if segment.number >= self._durable.segment]
        await asyncio.to_thread(_sync, [*paths, self.path])
        self._durable = max(self._durable, target)
        return True

    def close(self) -> None:
        """Let go of the folder: whoever comes next adopts it. Without segments it is removed."""
        self.seal()
        for segment in self._segments.values():
            self._ledger.bytes -= segment.size
            self._ledger.reclaimable_bytes -= 0 if segment.acknowledged_at is None else segment.size
            self._ledger.pending_records -= segment.pending
        if not self._segments:
            with suppress(OSError):
                cursor.remove(self.path)
                lock.remove(self.path)
                self.path.rmdir()
        os.close(self._lock_fd)

    def _roll(self) -> Segment:
        number, self._next = self._next, self._next + 1
        path = segment_path(self.path, number)
        fd = create(path)
        self.seal()
        self._fd, self._active = fd, Segment(number, path, len(MAGIC))
        self._segments[number] = self._active
        self._ledger.bytes += len(MAGIC)
        return self._active

    def _cut_back(self, active: Segment) -> None:
        try:
            os.ftruncate(self._fd, active.size)
        except OSError:
            # What follows must not stand behind half a frame.
            self.seal()

    def _readable_end(self, segment: Segment) -> int:
        if not self.is_own or self._options.fsync == "never" or segment.number < self._durable.segment:
            return segment.size
        return min(segment.size, self._durable.offset) if segment.number == self._durable.segment else 0

    def _step(self) -> None:
        """Move the cursor past segments that are acknowledged to their end and will not grow."""
        while True:
            segment = self._segments.get(self._cursor.segment)
            if segment is None:
                following = next((number for number in self._segments if number > self._cursor.segment), None)
                if following is None:
                    return
                self._cursor = Position(following, len(MAGIC))
            elif segment is self._active or self._cursor.offset < segment.size:
                return
            else:
                segment.acknowledged_at = self._clock()
                self._ledger.reclaimable_bytes += segment.size
                with suppress(OSError):
                    os.utime(segment.path, (segment.acknowledged_at, segment.acknowledged_at))
                self._cursor = Position(segment.number + 1, len(MAGIC))

    def _carry_starts(self, segment: Segment) -> None:
        for call, at in list(self.open_calls.items()):
            if at.segment != segment.number:
                continue
            try:
                _, frame = self._frame_at(at)
            except FlawedError:
                _log.exception(
                    "the start of a call is damaged", extra={"segment": str(segment.path), "offset": at.offset}
                )
                self.open_calls[call] = _NOWHERE
            else:
                self.open_calls[call] = self.append(frame, 0, 0)

    def _reduce_to_starts(self, segment: Segment) -> bool:
        """Keep of the oldest segment, which is acknowledged, only the starts of open calls: a full disk that holds
        nothing but what the broker has must not stay full because there is no room to move them. Whether that freed
        anything.

        Written over what is there, which needs no room; whoever dies before the rest is cut leaves damage behind it.
        """
        starts = [(call, at) for call, at in self.open_calls.items() if at.segment == segment.number]
        try:
            kept = [self._frame_at(at)[1] for _, at in starts]
            data = b"".join((MAGIC, *kept))
            if len(data) >= segment.size:
                return False
            fd = os.open(segment.path, os.O_WRONLY)
            try:
                os.pwrite(fd, data, 0)
                os.ftruncate(fd, len(data))
            finally:
                os.close(fd)
        except (FlawedError, OSError):
            return False
        self._ledger.bytes -= segment.size - len(data)
        self._ledger.reclaimable_bytes -= segment.size - len(data)
        segment.size = len(data)
        offset = len(MAGIC)
        for (call, _), frame in zip(starts, kept, strict=True):
            self.open_calls[call] = Position(segment.number, offset)
            offset += len(frame)
        return True

    def _frame_at(self, at: Position) -> tuple[Frame, bytes]:
        """A frame, and the bytes that it is written in."""
        if (segment := self._segments.get(at.segment)) is None:
            raise FlawedError(at.offset, is_torn=False)
        data = read(segment.path, at.offset, segment.size, _ONE_FRAME)
        for frame in frames(data, at.offset, segment.size):
            return frame, data[: frame.end - at.offset]
        raise FlawedError(at.offset, is_torn=False)


def _is_folder_name(name: str) -> bool:
    try:
        ids.decode(name)
    except ValueError:
        return False
    return True


def _sync(paths: list[Path]) -> None:
    for path in paths:
        try:
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        except FileNotFoundError:
            continue
        except OSError as error:
            # The kernel may have dropped the pages: the broker is now the safer place, so this does not hold them back.
            _log.exception("the spool cannot be synced", extra={"file": str(path), "errno": error.errno})
