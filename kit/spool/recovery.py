"""What becomes of a folder whose owner died: read wholly, cut where it is torn, its open calls reported lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TypeAlias

from kit.spool.folder import Folder
from kit.spool.ledger import Ledger
from kit.spool.options import SpoolOptions
from kit.spool.record import Call, Event, FlawedError, Record, encode_events, frames, id_text, lost_id, time_ms_of
from kit.spool.rejected import RejectedFiles
from kit.spool.segment import MAGIC, Position, Segment, read

_log = logging.getLogger(__name__)

Lost: TypeAlias = Callable[[bytes], Event]
"""Makes the event that reports a call lost from what was given when it was opened."""


class Recovery:
    """Brings adopted folders to the state of one whose calls have all ended.

    May be interrupted anywhere and done again: what it adds has ids derived from what it found.
    """

    def __init__(self, options: SpoolOptions, ledger: Ledger, rejected: RejectedFiles, lost: Lost) -> None:
        self._options = options
        self._ledger = ledger
        self._rejected = rejected
        self._lost = lost

    async def scan(self, folder: Folder) -> None:
        """Learn what is pending and which calls are open; cut what cannot be read."""
        segments = folder.segments
        for segment in segments:
            try:
                await self._scan_segment(folder, segment)
            except FlawedError as flaw:
                if flaw.is_torn and segment is segments[-1]:
                    _log.debug("a torn tail is cut", extra={"segment": str(segment.path), "offset": flaw.offset})
                    folder.cut(segment, flaw.offset, on_disk=True)
                else:
                    await self.give_up(folder, segment, flaw.offset)

    async def give_up(self, folder: Folder, segment: Segment, offset: int) -> None:
        """Put what follows `offset` in a damaged segment aside for a person, and go on without it.

        A call whose end lies in it will be reported lost.
        """
        # First, so that no append follows while the copy is made.
        folder.seal()
        is_kept = await asyncio.to_thread(self._rejected.keep_tail, segment.path, offset)
        # What could not be copied stays where it is: the relay puts the file aside before it drops it, and the next
        # recovery finds it again, unless it looks torn there.
        folder.cut(segment, offset, on_disk=is_kept)
        self._ledger.corrupt_segments += 1
        extra = {"segment": str(segment.path), "offset": offset, "is_kept": is_kept}
        _log.error("a segment is corrupt", extra=extra)

    async def report_lost(self, folder: Folder) -> None:
        """Write an end for every open call of an adopted folder, with the event that reports it lost.

        :raises OSError: if one cannot be written, or its start not be read at present; those before it are
        """
        for call, at in list(folder.open_calls.items()):
            frame, events = self._end_of(folder, call, at)
            folder.append(frame, len(events), time_ms_of(call))
            self.settle(folder, [call])
            await asyncio.sleep(0)
        self.settle(folder, [])

    def unwritten_lost(self, folder: Folder) -> dict[Call, list[Record]]:
        """The reports of some calls for which :meth:`report_lost` found no room, to be published as they are.

        Without this a full disk could hold the very segments whose end would free it.
        """
        calls = list(folder.open_calls.items())[: self._options.batch_records]
        return {
            call: [
                Record(id_text(lost_id(call)), event.subject, event.payload, event.headers)
                for event in self._end_of(folder, call, at)[1]
            ]
            for call, at in calls
        }

    def settle(self, folder: Folder, calls: Iterable[Call]) -> None:
        """These calls are reported; the folder is recovered once all are."""
        for call in calls:
            del folder.open_calls[call]
            self._ledger.lost_calls += 1
        if not folder.open_calls:
            folder.seal()
            folder.is_recovered = True

    async def _scan_segment(self, folder: Folder, segment: Segment) -> None:
        offset = len(MAGIC)
        while offset < segment.size:
            data = await asyncio.to_thread(read, segment.path, offset, segment.size, self._options.batch_bytes)
            for frame in frames(data, offset, segment.size):
                folder.note(segment, frame)
                offset = frame.end

    def _end_of(self, folder: Folder, call: Call, at: Position) -> tuple[bytes, list[Event]]:
        """The frame that ends a lost call, and the event in it; no event if none can be made of its start."""
        payload = b""
        try:
            payload = folder.start_payload(at)
            event = self._lost(payload)
            return encode_events(call, [(lost_id(call), event)], self._options.max_record_bytes), [event]
        except OSError:
            # It may be read later.
            raise
        except Exception:  # noqa: BLE001
            # The start may be of a version that wrote other payloads, and one such call must not hold up the rest.
            _log.exception("a lost call cannot be reported", extra={"call": id_text(call)})
            self._rejected.keep_records([(Record(id_text(call), "", payload, {}), "LOST_UNREADABLE")])
            return encode_events(call, [], self._options.max_record_bytes), []
