"""The spool: what a call writes before its answer leaves, so that no event is lost whatever dies next."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from kit.errors import Unavailable
from kit.spool.folder import NO_ROOM, Folder
from kit.spool.ledger import Ledger, Usage
from kit.spool.options import SHED_AT, SpoolOptions, SpoolUnusable
from kit.spool.publisher import Observer, Publisher
from kit.spool.record import Call, Event, Record, encode_events, encode_start, id_text, new_id, time_ms_of
from kit.spool.recovery import Lost, Recovery
from kit.spool.rejected import RejectedFiles
from kit.spool.relay import Relay
from kit.spool.segment import Position

_log = logging.getLogger(__name__)
_RETRY_AFTER_SECONDS = 5.0


class Spool:
    """A local queue in front of the event broker, on disk. One per process; to be used from its event loop's thread.

    An append is in the kernel when it returns: it survives the death of the process, not the loss of power (see
    `SpoolOptions.fsync`). Every event is published at least once, always with the same id, in the order of its append
    among the events of one process. Appends never read from disk and never wait for the broker.
    """

    def __init__(self, options: SpoolOptions, *, lost: Lost, clock: Callable[[], float] = time.time) -> None:
        """Take a folder under the root.

        :param lost: makes the event for a call that was opened by a process that died, from the payload of its start
        :param clock: Unix time in seconds, for retention
        :raises SpoolUnusable: if the root is missing or cannot be written
        """
        self._options = options
        self._clock = clock
        self._ledger = Ledger()
        self._folders: list[Folder] = []
        self._own: Folder | None = None
        self._is_closed = False
        rejected = RejectedFiles(
            options.root, self._ledger, max_files=options.rejected_files, max_bytes=options.rejected_bytes
        )
        recovery = Recovery(options, self._ledger, rejected, lost)
        self._relay = Relay(options, self._ledger, self._folders, rejected, recovery, clock)
        if not options.root.is_dir():
            raise SpoolUnusable(f"the spool folder {options.root} does not exist: {_advice(options)}")
        try:
            self._create_own()
        except OSError as error:
            if error.errno not in NO_ROOM:
                reason = error.strerror or type(error).__name__
                raise SpoolUnusable(
                    f"the spool folder {options.root} cannot be used ({reason}): {_advice(options)}"
                ) from error
            # A disk that our own backlog has filled is emptied by relaying it, so this must not stop the start.
            _log.warning("the spool starts on a full disk", extra={"root": str(options.root)})

    def open_call(self, payload: bytes) -> Call:
        """Write the start of a call. `payload` is published only if the process dies before the end: see `lost`.

        :raises Unavailable: `SPOOL_FULL` or `SPOOL_UNWRITABLE`; nothing is written
        :raises Invalid: `RECORD_TOO_LARGE`
        """
        self._admit()
        call = Call(new_id())
        own, at = self._write(encode_start(call, payload, self._options.max_record_bytes), 0, 0)
        own.open_calls[call] = at
        return call

    def close_call(self, call: Call, events: Sequence[Event]) -> None:
        """Write the end of a call and the events it leaves behind, all or nothing; there may be none.

        Not held back by the bound, only by the disk. If it fails, the call is still open: closing may be tried again,
        and a call that is never closed is reported lost once this process is gone.

        :raises Unavailable: `SPOOL_FULL` or `SPOOL_UNWRITABLE`
        :raises Invalid: `RECORD_TOO_LARGE`, for all events together
        :raises ValueError: if the call is not open
        """
        own = self._own
        if own is None or call not in own.open_calls:
            raise ValueError("the call is not open")
        identified = [(new_id(), event) for event in events]
        frame = encode_events(call, identified, self._options.max_record_bytes)
        self._write(frame, len(identified), time_ms_of(identified[0][0]) if identified else 0)
        del own.open_calls[call]

    def append(self, event: Event) -> Record:
        """Write an event that belongs to no call.

        :raises Unavailable: `SPOOL_FULL` or `SPOOL_UNWRITABLE`; nothing is written
        :raises Invalid: `RECORD_TOO_LARGE`
        """
        self._admit()
        raw_id = new_id()
        frame = encode_events(None, [(raw_id, event)], self._options.max_record_bytes)
        self._write(frame, 1, time_ms_of(raw_id))
        return Record(id_text(raw_id), event.subject, event.payload, event.headers)

    @property
    def is_shedding(self) -> bool:
        """Whether payloads should be left out: the spool is at 80 % of its bound, or the disk is full."""
        return self._ledger.is_starved or self._ledger.needed_bytes >= SHED_AT * self._options.bound_bytes

    @property
    def usage(self) -> Usage:
        """The books, for metrics."""
        ledger = self._ledger
        since = [folder.pending_since_ms for folder in self._folders if folder.pending_since_ms is not None]
        return Usage(
            bytes=ledger.bytes,
            needed_bytes=ledger.needed_bytes,
            bound_bytes=self._options.bound_bytes,
            folders=len(self._folders),
            segments=sum(len(folder.segments) for folder in self._folders),
            open_calls=len(self._own.open_calls) if self._own is not None else 0,
            pending_records=ledger.pending_records,
            oldest_pending_seconds=max(0.0, self._clock() - min(since) / 1000) if since else 0.0,
            rejected_records=ledger.rejected_records,
            rejected_dropped=ledger.rejected_dropped,
            lost_calls=ledger.lost_calls,
            corrupt_segments=ledger.corrupt_segments,
            failed_writes=ledger.failed_writes,
            failed_rounds=ledger.failed_rounds,
        )

    async def run(self, publisher: Publisher, observer: Observer | None = None) -> None:
        """Relay to `publisher` until cancelled; adopt the folders of processes that died. Never raises by itself.

        :param observer: told of every record that left
        """
        await self._relay.run(publisher, observer)

    async def drain(self, timeout_seconds: float) -> bool:
        """Before shutdown, while :meth:`run` still runs: publish what is pending, for at most so long.

        :return: whether nothing is left; what is, stays on disk for the next start
        """
        return await self._relay.drain(timeout_seconds)

    def close(self) -> None:
        """Let go of all folders, after :meth:`run` was cancelled. Calls that are still open will be reported lost."""
        for folder in self._folders:
            folder.close()
        self._folders.clear()
        self._own = None
        self._is_closed = True

    def _create_own(self) -> Folder:
        if self._is_closed:
            raise RuntimeError("the spool is closed")
        self._own = Folder.create(self._options, self._ledger, self._clock)
        self._folders.insert(0, self._own)
        return self._own

    def _admit(self) -> None:
        if self._ledger.needed_bytes >= self._options.bound_bytes:
            raise Unavailable(
                "the event spool is full, since the event broker takes nothing",
                reason="SPOOL_FULL",
                retry_after_seconds=_RETRY_AFTER_SECONDS,
            )

    def _write(self, frame: bytes, records: int, time_ms: int) -> tuple[Folder, Position]:
        try:
            own = self._own or self._create_own()
            at = own.append(frame, records, time_ms)
        except OSError as error:
            raise self._refusal(error) from error
        self._ledger.is_starved = False
        if records:
            self._relay.wake()
        return own, at

    def _refusal(self, error: OSError) -> Unavailable:
        self._ledger.failed_writes += 1
        if error.errno in NO_ROOM:
            self._ledger.is_starved = True
            self._relay.wake()
            return Unavailable(
                "the disk of the event spool is full", reason="SPOOL_FULL", retry_after_seconds=_RETRY_AFTER_SECONDS
            )
        _log.error("the spool cannot be written", extra={"errno": error.errno, "error": str(error)})
        return Unavailable("the event spool cannot be written", reason="SPOOL_UNWRITABLE")


def _advice(options: SpoolOptions) -> str:
    return f"set {options.root_setting} to a writable folder on a volume that outlives the process"
