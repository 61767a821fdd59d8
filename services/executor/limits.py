"""Bounds on load, kept by one process: how many calls a provider has at once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final

from kit.errors import Exhausted

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
        self.now = now
        self._max_waiting = max_waiting
        self._max_wait_seconds = max_wait_seconds
        self._gates: dict[str, _Gate] = {}

    def __len__(self) -> int:
        return len(self._gates)

    def slot(
        self, provider: str, *, name: str, limit: int, patience_seconds: float
    ) -> AbstractAsyncContextManager[bool]:
        """Hold one of a provider's slots; inside it is known whether it had to be waited for.

        :param provider: uid
        :param name: of the provider, for the error
        :param limit: slots, at least 1. The newest call's holds: with a lower one nobody is thrown out, but nobody
            gets in before enough have left; a higher one lets in who waits
        :param patience_seconds: how long this call would wait at most, such as a share of what its deadline leaves
        :raises Exhausted: `PROVIDER_BUSY` at once if too many wait already or there is no time to, else after waiting;
            when a slot may be free is estimated from how long calls took lately
        """
        return _Slot(self, provider, name, limit, patience_seconds)

    def gate(self, provider: str, limit: int) -> _Gate:
        """Where its slots are; for :meth:`slot`."""
        gate = self._gates.get(provider)
        if gate is None:
            gate = self._gates[provider] = _Gate(limit)
        elif gate.limit != limit:
            gate.limit = limit
            gate.let_in()
        return gate

    async def wait(self, gate: _Gate, provider: str, name: str, limit: int, patience_seconds: float) -> None:
        """Wait for a slot; for :meth:`slot`."""
        has_slot, patience_seconds = False, min(patience_seconds, self._max_wait_seconds)
        try:
            if patience_seconds > 0 and len(gate.queue) < self._max_waiting:
                has_slot = await gate.wait(patience_seconds)
        finally:
            if not has_slot:
                self.forget(provider, gate)
        if not has_slot:
            raise _busy(name, limit, gate.seconds_until_free())

    def forget(self, provider: str, gate: _Gate) -> None:
        """Let go of a gate that nobody is at."""
        if not gate.held and not gate.queue and self._gates.get(provider) is gate:
            del self._gates[provider]


class _Slot:
    """One call's slot. A class, because a generator costs each call a microsecond and a half."""

    __slots__ = ("_begun", "_gate", "_limit", "_limits", "_name", "_patience_seconds", "_provider")

    def __init__(self, limits: ProviderLimits, provider: str, name: str, limit: int, patience_seconds: float) -> None:
        self._limits = limits
        self._provider = provider
        self._name = name
        self._limit = limit
        self._patience_seconds = patience_seconds

    async def __aenter__(self) -> bool:
        limits, limit = self._limits, self._limit
        gate = self._gate = limits.gate(self._provider, limit)
        # Whoever waits has been let in as soon as there was a slot: so a free one is nobody's.
        is_free = gate.held < limit
        if is_free:
            gate.held += 1
        else:
            await limits.wait(gate, self._provider, self._name, limit, self._patience_seconds)
        self._begun = limits.now()
        return not is_free

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        gate = self._gate
        gate.took(self._limits.now() - self._begun)
        gate.leave()
        if not gate.held:
            self._limits.forget(self._provider, gate)


class _Gate:
    """One provider's slots."""

    __slots__ = ("held", "limit", "mean_seconds", "queue")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.queue: OrderedDict[asyncio.Future[bool], None] = OrderedDict()
        """Who waits, the first first; told whether it has a slot."""
        self.mean_seconds: float | None = None

    async def wait(self, seconds: float) -> bool:
        """For a slot, or until the time is over: then False."""
        loop = asyncio.get_running_loop()
        slot: asyncio.Future[bool] = loop.create_future()
        self.queue[slot] = None
        timer = loop.call_later(seconds, self._give_up, slot)
        try:
            return await slot
        except asyncio.CancelledError:
            if slot.cancelled():
                self.queue.pop(slot, None)
            elif slot.result():
                # It was given in the same turn of the loop in which its caller was ended.
                self.leave()
            raise
        finally:
            timer.cancel()

    def leave(self) -> None:
        """Free a slot, for who has waited longest."""
        self.held -= 1
        if self.queue:
            self.let_in()

    def let_in(self) -> None:
        """Give free slots away."""
        while self.queue and self.held < self.limit:
            slot, _ = self.queue.popitem(last=False)
            if not slot.done():
                self.held += 1
                slot.set_result(True)

    def took(self, seconds: float) -> None:
        """Learn how long calls take."""
        mean = self.mean_seconds
        self.mean_seconds = seconds if mean is None else mean + _RECENT * (seconds - mean)

    def seconds_until_free(self) -> float:
        """When a call that came now would get a slot behind those who wait, as calls took lately (Little's law)."""
        return (self.mean_seconds or 0.0) * (len(self.queue) + 1) / self.limit

    def _give_up(self, slot: asyncio.Future[bool]) -> None:
        if not slot.done():
            self.queue.pop(slot, None)
            slot.set_result(False)


def _busy(name: str, limit: int, seconds: float) -> Exhausted:
    return Exhausted(
        f"the provider {name!r} has {limit} calls under way, which is its limit here; call again later, or raise its "
        "max_concurrent_calls",
        reason="PROVIDER_BUSY",
        retry_after_seconds=min(_MAX_RETRY_SECONDS, max(_MIN_RETRY_SECONDS, seconds)),
        provider=name,
    )
