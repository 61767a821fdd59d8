"""Carries what is in the folders to the broker, for ever, and looks after the folders: adopts, drops, makes room."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from kit.spool.folder import NO_ROOM, Folder, folder_paths
from kit.spool.ledger import Ledger
from kit.spool.options import SHED_AT, SpoolOptions
from kit.spool.publisher import ACKNOWLEDGED, Observer, Publisher, Rejected
from kit.spool.record import FlawedError, Record
from kit.spool.recovery import Recovery
from kit.spool.rejected import RejectedFiles

_log = logging.getLogger(__name__)

_OBSERVED_AT_ONCE: Final = 64
"""Records that are told before calls get their turn: some 10 µs each."""


class Relay:
    """One per spool. `folders` is shared with it: our own folder first, then those adopted."""

    def __init__(
        self,
        options: SpoolOptions,
        ledger: Ledger,
        folders: list[Folder],
        rejected: RejectedFiles,
        recovery: Recovery,
        clock: Callable[[], float],
    ) -> None:
        self._options = options
        self._ledger = ledger
        self._folders = folders
        self._rejected = rejected
        self._recovery = recovery
        self._clock = clock
        self._wake = asyncio.Event()
        self._nudge = asyncio.Event()
        self._moved = asyncio.Event()
        self._is_draining = False
        self._adopt_at = 0.0
        self._unusable: set[Path] = set()
        self._observer: Observer | None = None

    def wake(self) -> None:
        """There is something to do."""
        self._wake.set()

    async def run(self, publisher: Publisher, observer: Observer | None = None) -> None:
        """Relay until cancelled. Raises nothing of its own: whatever fails is logged and tried again."""
        self._observer = observer
        self._adopt_at = 0.0
        async with asyncio.TaskGroup() as tasks:
            if self._options.fsync == "batch":
                tasks.create_task(self._sync_forever())
            await self._relay_forever(publisher)

    async def drain(self, timeout_seconds: float) -> bool:
        """Hurry until nothing is pending, for at most so long; whether nothing is."""
        self._is_draining = True
        self._nudge.set()
        self._wake.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while self._ledger.pending_records:
                    self._moved.clear()
                    await self._moved.wait()
        self._is_draining = False
        return not self._ledger.pending_records

    async def _relay_forever(self, publisher: Publisher) -> None:
        failures = 0
        while True:
            self._wake.clear()
            try:
                if time.monotonic() >= self._adopt_at:
                    self._adopt_at = time.monotonic() + self._options.adopt_interval_seconds
                    await self._adopt()
                # Before the broker is asked: room is needed most while it is down.
                await self._drop_expired()
                await self._make_room()
                has_moved = await self._relay_round(publisher)
            except Exception as error:  # noqa: BLE001
                failures += 1
                self._ledger.failed_rounds += 1
                seconds = self._backoff_seconds(failures)
                extra = {"error": repr(error), "failures": failures, "retry_seconds": seconds}
                _log.warning("the relay fails", extra=extra, exc_info=failures == 1)
                await _wait(self._nudge, seconds)
                continue
            failures = 0
            if has_moved and (self._is_draining or self._ledger.pending_records >= self._options.batch_records):
                await asyncio.sleep(0)
                continue
            if not (has_moved and self._ledger.pending_records):
                await _wait(self._wake, max(0.0, self._adopt_at - time.monotonic()))
            # Under load too: a batch costs the broker and us a few system calls, however many records it holds.
            if not self._is_draining:
                await _wait(self._nudge, self._options.linger_seconds)

    async def _relay_round(self, publisher: Publisher) -> bool:
        """One batch of every folder, so that a long backlog of one does not hold up the others; whether any moved.

        :raises Exception: what the last failing folder raised, after all had their turn
        """
        has_moved, failure = False, None
        for folder in list(self._folders):
            try:
                has_moved |= await self._relay_batch(folder, publisher)
            except Exception as error:  # noqa: BLE001
                failure = error
        if failure is not None:
            raise failure
        return has_moved

    async def _relay_batch(self, folder: Folder, publisher: Publisher) -> bool:
        try:
            batch = await folder.next_batch()
        except FlawedError as flaw:
            await self._recovery.give_up(folder, folder.current_segment, flaw.offset)
            self._moved.set()
            return True
        if batch is not None:
            await self._publish(publisher, batch.records)
            folder.acknowledge(batch)
            await self._observe(batch.records)
        elif not folder.is_recovered:
            reports = self._recovery.unwritten_lost(folder)
            lost = [record for records in reports.values() for record in records]
            await self._publish(publisher, lost)
            self._recovery.settle(folder, reports)
            await self._observe(lost)
        else:
            return False
        self._moved.set()
        return True

    async def _observe(self, records: Sequence[Record]) -> None:
        # Behind the acknowledgement, so that a batch which is repeated after a failure is told of once.
        if self._observer is None:
            return
        for start in range(0, len(records), _OBSERVED_AT_ONCE):
            some = records[start : start + _OBSERVED_AT_ONCE]
            try:
                self._observer(some)
            except Exception:  # noqa: BLE001
                # Whatever it is, the relay is more important.
                _log.exception("what left the spool could not be observed", extra={"records": len(some)})
            await asyncio.sleep(0)

    async def _publish(self, publisher: Publisher, records: Sequence[Record]) -> None:
        if not records:
            return
        async with asyncio.timeout(self._options.publish_timeout_seconds):
            outcomes = await publisher.publish(records)
        if len(outcomes) != len(records):
            raise RuntimeError(f"the publisher gave {len(outcomes)} outcomes for {len(records)} records")
        if outcomes.count(ACKNOWLEDGED) == len(records):
            return
        rejected = [
            (record, outcome.reason)
            for record, outcome in zip(records, outcomes, strict=True)
            if isinstance(outcome, Rejected)
        ]
        if rejected:
            await asyncio.to_thread(self._rejected.keep_records, rejected)

    async def _adopt(self) -> None:
        owned = {folder.path for folder in self._folders}
        for path in folder_paths(self._options.root):
            if path in owned:
                continue
            try:
                folder = Folder.adopt(path, self._options, self._ledger, self._clock)
            except OSError as error:
                # Once: it is tried again in every round, for what keeps it may pass.
                if path not in self._unusable:
                    self._unusable.add(path)
                    _log.exception("a folder cannot be adopted", extra={"folder": str(path), "errno": error.errno})
                continue
            if folder is None:
                continue
            try:
                await self._recovery.scan(folder)
            except BaseException:
                folder.close()
                raise
            self._folders.append(folder)
            extra = {"folder": str(path), "pending": folder.pending_records, "open_calls": len(folder.open_calls)}
            _log.info("a folder is adopted", extra=extra)
        for folder in self._folders:
            if not folder.is_recovered:
                await self._report_lost(folder)

    async def _report_lost(self, folder: Folder) -> None:
        try:
            await self._recovery.report_lost(folder)
        except OSError as error:
            self._ledger.failed_writes += 1
            self._ledger.is_starved |= error.errno in NO_ROOM
            _log.warning("lost calls cannot be written", extra={"folder": str(folder.path), "errno": error.errno})

    async def _drop_expired(self) -> None:
        deadline = self._clock() - self._options.retention_seconds
        for folder in list(self._folders):
            while (segment := folder.oldest_acknowledged()) is not None and (segment.acknowledged_at or 0) <= deadline:
                if segment.keeps_tail and not await asyncio.to_thread(self._rejected.keep_segment, segment.path):
                    # It, and what is behind it, has as much time again for a person to make that possible, if room does
                    # not become short.
                    segment.acknowledged_at = self._clock()
                    break
                if not await folder.drop(segment):
                    break
                if segment.keeps_tail and segment in folder.segments:
                    segment.keeps_tail = False
                    self._rejected.give_up_segment(segment.path)
            if not folder.is_own and folder.is_recovered and not folder.segments:
                self._folders.remove(folder)
                folder.close()

    async def _make_room(self) -> None:
        """Drop acknowledged segments before their time, oldest first, where the bound or the disk is near."""
        while self._ledger.is_starved or self._ledger.bytes >= SHED_AT * self._options.bound_bytes:
            oldest = [(segment, folder) for folder in self._folders if (segment := folder.oldest_acknowledged())]
            if not oldest:
                return
            segment, folder = min(oldest, key=lambda candidate: candidate[0].acknowledged_at or 0)
            # On a full disk it would take the room that is to be made.
            if segment.keeps_tail and not self._ledger.is_starved:
                await asyncio.to_thread(self._rejected.keep_segment, segment.path)
            if not await folder.drop(segment):
                return
            self._ledger.is_starved = False

    async def _sync_forever(self) -> None:
        while True:
            await asyncio.sleep(self._options.fsync_interval_seconds)
            for folder in list(self._folders):
                if folder.is_own and await folder.sync():
                    self._wake.set()

    def _backoff_seconds(self, failures: int) -> float:
        ceiling = self._options.backoff_min_seconds * 2.0 ** min(failures, 30)
        ceiling = min(ceiling, self._options.backoff_max_seconds)
        if self._is_draining:
            ceiling = self._options.backoff_min_seconds
        # Never less than half: jitter spreads the processes, it does not bring the first try back at once.
        return ceiling * random.uniform(0.5, 1)  # noqa: S311


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    event.clear()
