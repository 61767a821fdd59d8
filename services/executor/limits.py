"""Bounds on load, kept by one process: how many calls a provider has at once, and how often a key may call."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final

from kit.errors import Exhausted

_BURST_SECONDS: Final = 10.0
_ROUNDING_SECONDS: Final = 1e-6
"""Sums of times are this exact; a call that comes when it was told to must not be refused for it."""
_MIN_RETRY_SECONDS: Final = 1.0
_MAX_RETRY_SECONDS: Final = 30.0
_RECENT: Final = 0.1
"""The weight of the newest call in the mean of how long calls take."""


class ProviderLimits:
    """Bounds how many calls each provider has under way. Whoever finds it full waits shortly, in order of arrival.

    Holds memory for providers with calls under way only.

    :param now: the clock of deadlines, in seconds
    :param max_waiting: calls that may wait for one provider
    :param max_wait_seconds: how long one may wait
    """

    def __init__(self, now: Callable[[], float], *, max_waiting: int, max_wait_seconds: float) -> None:
        self._now = now
        self._max_waiting = max_waiting
        self._max_wait_seconds = max_wait_seconds
        self._gates: dict[str, _Gate] = {}

    def __len__(self) -> int:
        return len(self._gates)

    def under_way(self, provider: str) -> int:
        """Calls that hold a place."""
        gate = self._gates.get(provider)
        return 0 if gate is None else gate.held

    def waiting(self, provider: str) -> int:
        """Calls that wait for a place."""
        gate = self._gates.get(provider)
        return 0 if gate is None else len(gate.queue)

    def place(
        self, provider: str, *, name: str, limit: int, patience_seconds: float
    ) -> AbstractAsyncContextManager[None]:
        """Hold one of a provider's places.

        :param provider: uid
        :param name: of the provider, for the error
        :param limit: places, at least 1. The newest call's holds: with a lower one nobody is thrown out, but nobody
            gets in before enough have left; a higher one lets in who waits
        :param patience_seconds: how long this call would wait at most, such as a share of what its deadline leaves
        :raises Exhausted: `PROVIDER_BUSY` at once if too many wait already or there is no time to, else after waiting;
            when a place may be free is estimated from how long calls took lately
        """
        return _Place(self, provider, name, limit, min(patience_seconds, self._max_wait_seconds))

    async def enter(self, provider: str, name: str, limit: int, patience_seconds: float) -> _Gate:
        """Wait for a place; for :meth:`place`."""
        gate = self._gates.get(provider)
        if gate is None:
            gate = self._gates[provider] = _Gate(limit)
        elif gate.limit != limit:
            gate.limit = limit
            gate.let_in()
        # Whoever waits has been let in as soon as there was a place: so a free one is nobody's.
        if gate.held < limit:
            gate.held += 1
            return gate
        has_place = False
        try:
            if patience_seconds > 0 and len(gate.queue) < self._max_waiting:
                has_place = await gate.wait(patience_seconds)
        finally:
            if not has_place:
                self.forget(provider, gate)
        if not has_place:
            raise _busy(name, limit, gate.seconds_until_free())
        return gate

    def forget(self, provider: str, gate: _Gate) -> None:
        """Let go of a gate that nobody is at."""
        if not gate.held and not gate.queue and self._gates.get(provider) is gate:
            del self._gates[provider]

    def now(self) -> float:
        """On the clock of deadlines."""
        return self._now()


class _Place:
    """One call's place. A class, because a generator costs each call a microsecond and a half."""

    __slots__ = ("_begun", "_gate", "_limit", "_limits", "_name", "_patience_seconds", "_provider")

    def __init__(self, limits: ProviderLimits, provider: str, name: str, limit: int, patience_seconds: float) -> None:
        self._limits = limits
        self._provider = provider
        self._name = name
        self._limit = limit
        self._patience_seconds = patience_seconds

    async def __aenter__(self) -> None:
        self._gate = await self._limits.enter(self._provider, self._name, self._limit, self._patience_seconds)
        self._begun = self._limits.now()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        gate = self._gate
        gate.took(self._limits.now() - self._begun)
        gate.leave()
        self._limits.forget(self._provider, gate)


class _Gate:
    """One provider's places."""

    __slots__ = ("held", "limit", "mean_seconds", "queue")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.queue: OrderedDict[asyncio.Future[bool], None] = OrderedDict()
        """Who waits, the first first; told whether it has a place."""
        self.mean_seconds: float | None = None

    async def wait(self, seconds: float) -> bool:
        """For a place, or until the time is over: then False."""
        loop = asyncio.get_running_loop()
        place: asyncio.Future[bool] = loop.create_future()
        self.queue[place] = None
        timer = loop.call_later(seconds, self._give_up, place)
        try:
            return await place
        except asyncio.CancelledError:
            if place.cancelled():
                self.queue.pop(place, None)
            elif place.result():
                # It was given in the same turn of the loop in which its caller was ended.
                self.leave()
            raise
        finally:
            timer.cancel()

    def leave(self) -> None:
        """Free a place, for who has waited longest."""
        self.held -= 1
        self.let_in()

    def let_in(self) -> None:
        """Give free places away."""
        while self.queue and self.held < self.limit:
            place, _ = self.queue.popitem(last=False)
            if not place.done():
                self.held += 1
                place.set_result(True)

    def took(self, seconds: float) -> None:
        """Learn how long calls take."""
        mean = self.mean_seconds
        self.mean_seconds = seconds if mean is None else mean + _RECENT * (seconds - mean)

    def seconds_until_free(self) -> float:
        """When a call that came now would get a place behind those who wait, as calls took lately (Little's law)."""
        return (self.mean_seconds or 0.0) * (len(self.queue) + 1) / self.limit

    def _give_up(self, place: asyncio.Future[bool]) -> None:
        if not place.done():
            self.queue.pop(place, None)
            place.set_result(False)


class KeyRates:
    """Bounds how often each key calls: the generic cell rate algorithm, one number a key.

    From rest a key may make 10 s worth of calls at once, at least one; afterwards they come in at its rate. Refused
    calls do not count.

    :param max_keys: how many are remembered; who called least recently is forgotten first, and has its burst again
    Source: ITU-T I.371 (2004), annex A.
    """

    def __init__(self, max_keys: int = 65_536) -> None:
        self._max_keys = max_keys
        self._due: OrderedDict[str, float] = OrderedDict()
        """When each key's calls so far would have been made, one after the other at its rate."""

    def __len__(self) -> int:
        return len(self._due)

    def check(self, key: str, *, requests_per_minute: int, share: float, now: float) -> None:
        """Count a call, or refuse it.

        :param key: uid
        :param requests_per_minute: of all processes together; 0 is no bound
        :param share: this process's, in (0, 1]
        :param now: in seconds; never less than the last
        :raises Exhausted: `KEY_RATE_EXCEEDED`, with when the next call is due
        """
        if requests_per_minute <= 0:
            return
        interval = 60.0 / (requests_per_minute * share)
        due, latest = self._due.get(key, now), now + max(_BURST_SECONDS, interval)
        if due > latest:
            # The rate was raised: what was owed at the old one does not bind the new one.
            due = self._due[key] = latest
        wait = due - now - max(0.0, _BURST_SECONDS - interval)
        if wait > _ROUNDING_SECONDS:
            raise Exhausted(
                f"this key may make {requests_per_minute} requests per minute; call again in {wait:.1f} s, or have "
                "requests_per_minute raised",
                reason="KEY_RATE_EXCEEDED",
                retry_after_seconds=wait,
                requests_per_minute=str(requests_per_minute),
            )
        self._due[key] = max(due, now) + interval
        self._due.move_to_end(key)
        first = next(iter(self._due))
        # One that is not behind is as if it had never called; one a call is enough, since one a call is added.
        if len(self._due) > self._max_keys or self._due[first] <= now:
            del self._due[first]


def _busy(name: str, limit: int, seconds: float) -> Exhausted:
    return Exhausted(
        f"the provider {name!r} has {limit} calls under way, which is its limit here; call again later, or raise its "
        "max_concurrent_calls",
        reason="PROVIDER_BUSY",
        retry_after_seconds=min(_MAX_RETRY_SECONDS, max(_MIN_RETRY_SECONDS, seconds)),
        provider=name,
    )
