"""Calls that are made once however often they come: under an idempotency key, the first one's answer is everybody's.

A call takes its key in a record before any provider is asked, and leaves its answer there. Whoever finds the record
gets that answer, or hears that the call still runs. A call that fails gives its key back, for a completion changes
nothing that trying again would change twice. One whose process dies cannot: its record stays busy until the call must
have ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final, Protocol, TypeVar

from kit import ids, storable
from kit.errors import AppError, Conflict, Invalid, Precondition, Unavailable
from services.executor.ports import Clock

log = logging.getLogger(__name__)

T = TypeVar("T")

SETTING: Final = "TURNOUT_EXECUTOR_DATABASE_URL"
KEPT_SECONDS: Final = 86_400.0
"""How long an answer is kept, from when it is there."""
GRACE_SECONDS: Final = 30.0
"""How long after its call's deadline a record without an answer stays busy: time enough to notice the deadline late,
and to store an answer that came with the last moment."""
MAX_ANSWER_BYTES: Final = 4 << 20
BEGIN_SHARE: Final = 0.25
"""Of what is left of a call's time, the most that taking its key may cost."""
BEGIN_SECONDS: Final = 5.0
FINISH_SHARE: Final = 0.5
FINISH_SECONDS: Final = 2.0
"""The longest that a caller whose answer, or failure, is there waits for the database."""
STORE_SECONDS: Final = 10.0
"""The longest that one statement is waited for beside the calls."""
MAX_STORING: Final = 4000
"""How many answers may be on their way to the database."""
MAX_LEFT: Final = 10_000
"""How many keys are remembered that could not be given back at once."""
SWEEP_SECONDS: Final = 60.0
_RELEASE_SECONDS: Final = 1.0
_RELEASE_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Claim:
    """A call that asks to be made once."""

    project: str
    """uid of the API key's project; empty for platform keys."""
    api_key: str
    """uid of the API key: no caller finds what another one left."""
    key: str = field(repr=False)
    body_hash: bytes = field(repr=False)
    """32 bytes; see :func:`claim`."""
    deadline: float
    """The call's, on the clock of `ports.Clock.now`."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """The call is to be made, and the key is its own."""

    claim: Claim
    uid: str
    """Tells this call's hold of the key from every other one's: who was too late must not touch what is not his."""
    busy_seconds: float
    """How long nobody else may take the key if nothing more is heard of the call."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The call was made; this is what it was answered."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Found:
    """What lies under a key."""

    is_same_body: bool
    answer: bytes | None = field(repr=False)
    """None while the call runs."""
    age_seconds: float
    """Since it began."""
    busy_seconds: float
    """Until the key may be taken over, if it runs."""


class Records(Protocol):
    """Keeps records where every process finds them. All of it fails as the database does.

    :raises Unavailable: if the database cannot be reached or is slow
    :raises Conflict: if it refused because of another transaction
    """

    async def begin(self, fresh: Fresh) -> Found | None:
        """Take the key: None if it is this call's now, else what lies there. Of any number that come at once, in any
        number of processes, one takes it. A record without an answer is taken over once its time is up.

        :raises Precondition: `IDEMPOTENCY_NOT_CONFIGURED`, `IDEMPOTENCY_NOT_MIGRATED`
        :raises Exhausted: `IDEMPOTENCY_RECORDS_FULL`
        """
        ...

    async def finish(self, fresh: Fresh, answer: bytes) -> bool:
        """Leave the answer there; whether the record was still this call's."""
        ...

    async def abandon(self, held: Sequence[Fresh]) -> None:
        """Give keys back that are still these calls'."""
        ...

    async def sweep(self) -> int:
        """Delete what has expired; how many."""
        ...


def claim(*, project: str, api_key: str, key: str, body: bytes, deadline: float) -> Claim:
    """A call's claim.

    :param body: the request without its key, serialised so that equal requests are equal bytes
    :raises Invalid: `TEXT_NOT_STORABLE`
    """
    storable.check_texts((("idempotency_key", key),))
    return Claim(project, api_key, key, blake2b(body, digest_size=32).digest(), deadline)


def busy_seconds(remaining_seconds: float) -> float:
    """How long a key is held by a call with so much time left."""
    return min(max(remaining_seconds, 0.0) + GRACE_SECONDS, KEPT_SECONDS)


def judge(found: Found) -> Answer:
    """What a record says to another call that comes under its key.

    :raises Invalid: `IDEMPOTENCY_KEY_REUSED`, whether or not the first one has ended
    :raises Conflict: `IDEMPOTENCY_KEY_IN_USE` while it runs
    """
    if not found.is_same_body:
        raise Invalid(
            "another request was made with this idempotency_key within 24 hours; give each request a key of its own",
            reason="IDEMPOTENCY_KEY_REUSED",
        )
    if found.answer is not None:
        return Answer(found.answer)
    raise Conflict(
        "the first call with this idempotency_key still runs; try again later to get its answer",
        reason="IDEMPOTENCY_KEY_IN_USE",
        retry_after_seconds=retry_after_seconds(found.age_seconds, found.busy_seconds),
    )


def retry_after_seconds(age_seconds: float, busy_seconds: float) -> float:
    """When to ask for the answer of a call that runs: after as long again as it has taken until now, so that a call of
    any length is asked for a few times only, within 0.5 s and 10 s; and not later than the key is free."""
    return max(0.5, min(age_seconds, 10.0, busy_seconds))


class Unconfigured:
    """Where there is no database, a call without a key is served and one with a key is told why not."""

    async def begin(self, fresh: Fresh) -> Found | None:
        raise Precondition(
            f"this executor keeps no idempotency records: set {SETTING}, or call without idempotency_key",
            reason="IDEMPOTENCY_NOT_CONFIGURED",
            setting=SETTING,
        )

    async def finish(self, fresh: Fresh, answer: bytes) -> bool:
        return False

    async def abandon(self, held: Sequence[Fresh]) -> None:
        pass

    async def sweep(self) -> int:
        return 0


class Once:
    """One call under its key: either there is an answer already, or the call is to be made and its answer left here."""

    def __init__(self, owner: Idempotency, held: Fresh | Answer) -> None:
        self._owner = owner
        self._held = held
        self.is_finished = False

    @property
    def answer(self) -> bytes | None:
        """What the first call was answered; None if this is the first."""
        return self._held.data if isinstance(self._held, Answer) else None

    async def finish(self, answer: bytes) -> None:
        """Leave the answer for those who come later. Does not fail: the caller has an answer, whatever becomes of the
        record."""
        assert isinstance(self._held, Fresh)  # noqa: S101  # only the first call has something to leave
        self.is_finished = True
        await self._owner.finish(self._held, answer)


class Idempotency:
    """Calls that are made once.

    A database that hangs holds no call: each statement runs beside the call that waits for it, and is left behind when
    the call's patience ends.
    """

    def __init__(self, records: Records, clock: Clock) -> None:
        self._records = records
        self._clock = clock
        self._beside: set[asyncio.Task[Any]] = set()
        self._left: OrderedDict[str, tuple[Fresh, float]] = OrderedDict()
        self._is_left = asyncio.Event()

    @asynccontextmanager
    async def once(self, claim: Claim) -> AsyncIterator[Once]:
        """Surrounds a call: gives its key back unless it was finished.

        :raises Invalid: `IDEMPOTENCY_KEY_REUSED`
        :raises Conflict: `IDEMPOTENCY_KEY_IN_USE`
        :raises Precondition: `IDEMPOTENCY_NOT_CONFIGURED`, `IDEMPOTENCY_NOT_MIGRATED`
        :raises Exhausted: `IDEMPOTENCY_RECORDS_FULL`
        :raises Unavailable: `IDEMPOTENCY_UNAVAILABLE`
        """
        held = await self.begin(claim)
        once = Once(self, held)
        try:
            yield once
        except asyncio.CancelledError:
            # Nothing may keep a cancelled call from ending.
            if isinstance(held, Fresh) and not once.is_finished:
                self._leave(held)
                once.is_finished = True
            raise
        finally:
            if isinstance(held, Fresh) and not once.is_finished:
                await self.abandon(held)

    async def begin(self, claim: Claim) -> Fresh | Answer:
        """Take a call's key, or get what the first call under it was answered. Fails as :meth:`once` says."""
        remaining = claim.deadline - self._clock.now()
        fresh = Fresh(claim, ids.new_uid("clm"), busy_seconds(remaining))
        patience = min(remaining * BEGIN_SHARE, BEGIN_SECONDS)
        try:
            found = await self._within(patience, self._records.begin(fresh))
        except (Unavailable, Conflict, TimeoutError) as error:
            # The database may have done it and its word been lost.
            self._leave(fresh)
            raise Unavailable(
                "the database of idempotency records cannot be reached, and no provider was called; try again, "
                "or call without idempotency_key",
                reason="IDEMPOTENCY_UNAVAILABLE",
                retry_after_seconds=1,
            ) from error
        except asyncio.CancelledError:
            self._leave(fresh)
            raise
        return fresh if found is None else judge(found)

    async def finish(self, fresh: Fresh, answer: bytes) -> None:
        """Store an answer. If it cannot be, the record stays busy until its time is up, and that is logged."""
        if len(answer) > MAX_ANSWER_BYTES:
            self._log("an answer is too large to be kept for repeats", fresh, "ANSWER_TOO_LARGE")
            return
        if len(self._beside) >= MAX_STORING:
            self._log("an answer is not kept for repeats", fresh, "TOO_MANY")
            return
        patience = min((fresh.claim.deadline - self._clock.now()) * FINISH_SHARE, FINISH_SECONDS)
        # A caller who leaves now must find the answer when he comes back: the task goes on without him.
        await asyncio.wait({self._run_beside(self._store(fresh, answer))}, timeout=max(patience, 0.0))

    async def abandon(self, fresh: Fresh) -> None:
        """Give a key back; soon, if not now."""
        patience = min((fresh.claim.deadline - self._clock.now()) * FINISH_SHARE, FINISH_SECONDS)
        try:
            await self._within(patience, self._records.abandon([fresh]))
        except (AppError, TimeoutError, asyncio.CancelledError) as error:
            self._leave(fresh)
            if isinstance(error, asyncio.CancelledError):
                raise

    async def keep_house(self) -> None:
        """Give back what was left and delete what has expired, for ever."""
        while True:
            await self.sweep()
            # Each process at a time of its own.
            next_sweep = self._clock.now() + SWEEP_SECONDS * (0.5 + self._clock.uniform())
            while (rest := next_sweep - self._clock.now()) > 0:
                try:
                    async with asyncio.timeout(rest):
                        await self._is_left.wait()
                except TimeoutError:
                    continue
                await self.release()
                await self._clock.sleep(_RELEASE_SECONDS)

    async def release(self) -> None:
        """Give back what was left, as far as the database takes it now."""
        now = self._clock.now()
        for uid in [uid for uid, (_, busy_until) in self._left.items() if busy_until <= now]:
            del self._left[uid]
        while self._left:
            held = [fresh for fresh, _ in list(self._left.values())[:_RELEASE_BATCH]]
            try:
                await self._within(STORE_SECONDS, self._records.abandon(held))
            except (AppError, TimeoutError):
                return
            for fresh in held:
                self._left.pop(fresh.uid, None)
        self._is_left.clear()

    async def sweep(self) -> None:
        """Delete what has expired, as far as the database takes it now."""
        try:
            deleted = await self._within(SWEEP_SECONDS, self._records.sweep())
        except (AppError, TimeoutError) as error:
            log.warning(
                "idempotency records that have expired stay for now",
                extra={"reason": getattr(error, "reason", "TIMEOUT")},
            )
            return
        if deleted:
            log.debug("expired idempotency records are deleted", extra={"records": deleted})

    async def close(self, seconds: float = FINISH_SECONDS) -> None:
        """When no calls come any more: let answers be stored and keys be given back, for at most so long."""
        try:
            async with asyncio.timeout(seconds):
                if self._beside:
                    await asyncio.wait(self._beside)
                await self.release()
        except TimeoutError:
            log.warning("idempotency records stay busy", extra={"records": len(self._left) + len(self._beside)})
        for task in self._beside:
            task.cancel()

    async def _store(self, fresh: Fresh, answer: bytes) -> None:
        try:
            async with asyncio.timeout(STORE_SECONDS):
                is_ours = await self._records.finish(fresh, answer)
        except (AppError, TimeoutError) as error:
            reason = error.reason if isinstance(error, AppError) else "TIMEOUT"
            self._log("an answer is not kept for repeats", fresh, reason)
            return
        if not is_ours:
            self._log("a call took longer than its key was held", fresh, "TAKEN_OVER")

    def _leave(self, fresh: Fresh) -> None:
        if len(self._left) >= MAX_LEFT:
            self._left.popitem(last=False)
        self._left[fresh.uid] = fresh, self._clock.now() + fresh.busy_seconds
        self._is_left.set()

    async def _within(self, seconds: float, work: Coroutine[Any, Any, T]) -> T:
        """Not `asyncio.timeout`: what is cancelled there is waited for, and a driver whose server hangs waits on while
        it closes its connection.

        :raises TimeoutError: if it took longer; it is cancelled then, and ends when it can
        """
        task = self._run_beside(work)
        try:
            await asyncio.wait({task}, timeout=max(seconds, 0.0))
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not task.done():
            task.cancel()
            raise TimeoutError
        return task.result()

    def _run_beside(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._beside.discard(task)
        if not task.cancelled():
            # Looked at, so that nobody complains of a failure that came when nobody waited any more.
            task.exception()

    def _log(self, what: str, fresh: Fresh, reason: str) -> None:
        claim = fresh.claim
        log.warning(what, extra={"reason": reason, "project": claim.project, "api_key": claim.api_key})
