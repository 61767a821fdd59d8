"""The fan-out: one reader of the log per process, any number of watchers, bounded memory."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from kit.changelog.log import POLL_SECONDS, Change, ChangeLog, Discontinuity, Head
from kit.database import Sessions, transaction
from kit.errors import AppError, Unavailable

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS: Final = 0.25
_FRESH_SECONDS: Final = 3 * POLL_SECONDS
"""How long after the last successful look at the log a watcher is still told that nothing happened."""
_CONCURRENT_SNAPSHOTS: Final = 4
_MAX_PAUSE_SECONDS: Final = 1.0
_REPLACED: Final = "CHANGE_LOG_REPLACED"


@dataclass(frozen=True, slots=True)
class SnapshotBegin:
    """Forget what you have: a snapshot as of `head` follows."""

    head: Head


@dataclass(frozen=True, slots=True)
class SnapshotChunk:
    """A part of it."""

    entries: list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class SnapshotEnd:
    """That was all of it."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The changes after the sequence that was asked for follow."""

    epoch: str


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing happened for a heartbeat's time, or it is not this watcher's turn for a snapshot yet. `sequence` is the
    last one that it was given."""

    sequence: int


Event: TypeAlias = SnapshotBegin | SnapshotChunk | SnapshotEnd | Resumed | Change | Idle


class Feed:
    """Follows one log and lets others follow it.

    While the log cannot be read nobody is told that nothing happened: somebody else may have written. Watchers first
    hear nothing, and as soon as the failure is known their streams end as `Unavailable`, so that they keep what they
    have and come back.

    :param url: as for :meth:`ChangeLog.batches`
    :param on_recovery: awaited when the database is back, before watchers are served again; may raise AppError
    :param kept_changes: how many changes a watcher may lag behind before its stream is ended
    :param kept_bytes: the same in memory, all watchers together
    :param largest_change_bytes: a larger change is sent as a fresh snapshot, in chunks, because no message can hold it
    """

    def __init__(
        self,
        changes: ChangeLog,
        sessions: Sessions,
        url: str,
        *,
        on_recovery: Callable[[], Awaitable[object]],
        kept_changes: int = 1000,
        kept_bytes: int = 32 << 20,
        largest_change_bytes: int = 2 << 20,
    ) -> None:
        self._log = changes
        self._sessions = sessions
        self._url = url
        self._on_recovery = on_recovery
        self._kept_changes = kept_changes
        self._kept_bytes = kept_bytes
        self._largest_change_bytes = largest_change_bytes
        self._recent: deque[Change] = deque()
        self._recent_bytes = 0
        self._head = Head(0, "")
        self._looked_at = 0.0
        self._failure: Unavailable | None = Unavailable(
            "the change log is not read yet; try again", reason="FEED_NOT_STARTED", retry_after_seconds=1
        )
        # Counts the feed's lives: a watcher belongs to the one it began in, and ends with it.
        self._life = 0
        self._moved = asyncio.Event()
        self._snapshots = asyncio.Semaphore(_CONCURRENT_SNAPSHOTS)

    @property
    def sequence(self) -> int:
        """The last change that this process has seen."""
        return self._head.sequence

    async def start(self) -> None:
        """Find out where the log stands. Call it once before :meth:`run`.

        :raises Unavailable: if the database cannot be reached
        """
        async with transaction(self._sessions) as session:
            self._begin_life(await self._log.head(session))

    async def run(self) -> None:
        """Follow the log for ever; failures are logged once and retried with growing pauses."""
        pause = 0.1
        while True:
            try:
                if self._failure is not None:
                    await self._recover()
                    pause = 0.1
                await self._follow()
            except AppError as error:
                self._end_life(error.message, reason=error.reason)
            except Discontinuity as error:
                self._end_life(str(error), reason=_REPLACED)
            await asyncio.sleep(pause * (0.5 + random.random()))  # noqa: S311  # jitter, no secret
            pause = min(pause * 2, _MAX_PAUSE_SECONDS)

    def close(self) -> None:
        """End all watchers: the process stops."""
        self._fail("this process stops; connect to another one", reason="PROCESS_STOPS")

    async def watch(self, after: int, epoch: str) -> AsyncGenerator[Event]:
        """Everything that a follower needs who has all changes up to `after` of `epoch`, for ever: `Resumed`, or a
        snapshot if `after` is 0 or the log cannot continue from there; then changes, none skipped, and `Idle` at least
        every 250 ms. A snapshot may also come later. Close it when done.

        :raises Unavailable: with the reason of the database's failure; `WATCHER_BEHIND` if it reads too slowly
        """
        life = self._life
        self._check(life)
        missed = await self._missed(after, epoch) if after else None
        if missed is None:
            sequence = 0
            async with contextlib.aclosing(self._snapshot(after, life)) as snapshot:
                async for event in snapshot:
                    sequence = event.head.sequence if isinstance(event, SnapshotBegin) else sequence
                    yield event
        else:
            sequence = after
            yield Resumed(epoch)
        while True:
            self._check(life)
            # Taken before the look, so that what comes between the look and the wait ends the wait.
            moved = self._moved
            change = missed.popleft() if missed else self._recent_after(sequence)
            if change is None:
                try:
                    async with asyncio.timeout(HEARTBEAT_SECONDS):
                        await moved.wait()
                except TimeoutError:
                    if self._is_fresh():
                        yield Idle(sequence)
            elif change.size_bytes > self._largest_change_bytes:
                missed = None
                async with contextlib.aclosing(self._snapshot(sequence, life)) as snapshot:
                    async for event in snapshot:
                        sequence = event.head.sequence if isinstance(event, SnapshotBegin) else sequence
                        yield event
            else:
                sequence = change.sequence
                yield change

    async def _missed(self, after: int, epoch: str) -> deque[Change] | None:
        """The changes after `after` that were committed before now; None if a snapshot must take their place, since
        they are gone, or more than the feed lets anybody fall behind."""
        missed: deque[Change] = deque()
        async with transaction(self._sessions) as session:
            while True:
                try:
                    batch = await self._log.after(session, missed[-1].sequence if missed else after)
                except Discontinuity:
                    return None
                missed.extend(batch.changes)
                size = sum(change.size_bytes for change in missed)
                if batch.head.epoch != epoch or len(missed) > self._kept_changes or size > self._kept_bytes:
                    return None
                if (missed[-1].sequence if missed else after) >= batch.head.sequence:
                    return missed

    async def _snapshot(self, sequence: int, life: int) -> AsyncGenerator[Event]:
        """A snapshot, once it is this watcher's turn; until then `Idle`, so that silence means death to it still.

        :param sequence: the last one that the watcher was given
        :param life: the one that it began in
        :raises Unavailable: as :meth:`watch`
        """
        turn = asyncio.ensure_future(self._snapshots.acquire())
        try:
            while not (await asyncio.wait({turn}, timeout=HEARTBEAT_SECONDS))[0]:
                # It waits for the others, but no longer than the feed itself knows how things are.
                self._check(life)
                if self._is_fresh():
                    yield Idle(sequence)
            self._check(life)
            known = self._head
            async with transaction(self._sessions, read_only_snapshot=True) as session:
                snapshot = await self._log.snapshot(session)
                if snapshot.head.epoch != known.epoch or snapshot.head.sequence < known.sequence:
                    # What the feed remembers belongs to another log; it finds out at its next look.
                    raise Unavailable(
                        "the database was replaced; connect again", reason=_REPLACED, retry_after_seconds=1
                    )
                yield SnapshotBegin(snapshot.head)
                async for entries in snapshot.chunks:
                    yield SnapshotChunk(entries)
        finally:
            if turn.done() and not turn.cancelled():
                self._snapshots.release()
            else:
                turn.cancel()
        yield SnapshotEnd()

    def _recent_after(self, sequence: int) -> Change | None:
        """The next change after `sequence`, if there is one yet."""
        if sequence >= self._head.sequence:
            return None
        index = sequence + 1 - (self._recent[0].sequence if self._recent else self._head.sequence + 1)
        if index < 0:
            raise Unavailable("this watcher reads too slowly; connect again and resume", reason="WATCHER_BEHIND")
        return self._recent[index]

    async def _follow(self) -> None:
        batches = self._log.batches(self._sessions, self._url, self._head.sequence)
        async with contextlib.aclosing(batches):
            async for batch in batches:
                self._looked_at = asyncio.get_running_loop().time()
                if batch.head.epoch != self._head.epoch:
                    raise Discontinuity("the database was replaced")
                for change in batch.changes:
                    self._remember(change)

    def _remember(self, change: Change) -> None:
        self._recent.append(change)
        self._recent_bytes += change.size_bytes
        while len(self._recent) > 1 and (
            len(self._recent) > self._kept_changes or self._recent_bytes > self._kept_bytes
        ):
            self._recent_bytes -= self._recent.popleft().size_bytes
        self._head = Head(change.sequence, self._head.epoch)
        self._wake()

    async def _recover(self) -> None:
        known = self._head
        async with transaction(self._sessions) as session:
            await self._log.renew_epoch(session, known)
        await self._on_recovery()
        async with transaction(self._sessions) as session:
            head = await self._log.head(session)
        self._begin_life(head)
        log.info("following the change log again", extra={"sequence": head.sequence})

    def _begin_life(self, head: Head) -> None:
        self._recent.clear()
        self._recent_bytes = 0
        self._head = head
        self._looked_at = asyncio.get_running_loop().time()
        self._failure = None
        self._life += 1

    def _end_life(self, message: str, *, reason: str) -> None:
        if self._failure is None or self._failure.reason != reason:
            log.warning("the change log cannot be followed; watchers are sent away", extra={"reason": reason})
        self._fail(message, reason=reason)

    def _fail(self, message: str, *, reason: str) -> None:
        self._failure = Unavailable(message, reason=reason, retry_after_seconds=1)
        self._life += 1
        self._wake()

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    def _check(self, life: int) -> None:
        if self._failure is not None:
            failure = self._failure
            raise Unavailable(failure.message, reason=failure.reason, retry_after_seconds=failure.retry_after_seconds)
        if self._life != life:
            raise Unavailable(
                "the change log was lost and found; connect again", reason="FEED_RESTARTED", retry_after_seconds=0
            )

    def _is_fresh(self) -> bool:
        return asyncio.get_running_loop().time() - self._looked_at < _FRESH_SECONDS
