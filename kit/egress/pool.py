"""Connections that are open: how many there may be, and which are kept for the next request."""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from kit.egress.wire import Wire


@dataclass(eq=False, slots=True, weakref_slot=True)
class Place:
    """Where connections lead: a scheme, a host and a port."""

    host: str
    port: int
    is_tls: bool
    in_use: int = 0
    """Connections at work or being made."""
    kept: list[Wire] = field(default_factory=list)
    """Open ones without work, the latest last."""
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)
    """Who waits until there may be one more."""


class Pool:
    """All connections of an `Egress`.

    :param connect: makes one
    :param limit: at work or being made, at once
    :param limit_per_place: the same for each place
    :param keep_seconds: how long one without work is kept
    """

    def __init__(
        self,
        connect: Callable[[Place, Callable[[], Wire]], Awaitable[Wire]],
        *,
        limit: int,
        limit_per_place: int,
        keep_seconds: float,
    ) -> None:
        self._connect = connect
        self._limit = limit
        self._limit_per_place = limit_per_place
        self._keep_seconds = keep_seconds
        self._loop = asyncio.get_running_loop()
        self._in_use = 0
        self._places: WeakValueDictionary[tuple[str, int, bool], Place] = WeakValueDictionary()
        self._crowded: dict[Place, None] = {}
        """Those for which somebody waits, in the order in which the first one came."""
        self._work: dict[Wire, Place] = {}
        self._kept: dict[Wire, Place] = {}
        """Without work, the one that was given back first at the front."""
        self._is_closed = False
        self._sweep: asyncio.TimerHandle | None = None

    def place(self, host: str, port: int, *, is_tls: bool) -> Place:
        """The place of that name; there is one."""
        key = (host, port, is_tls)
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = Place(host, port, is_tls)
        return place

    def kept(self, place: Place) -> Wire | None:
        """A connection that is kept, now at work; None if there is none."""
        if not place.kept or not self._has_room(place):
            return None
        wire = place.kept.pop()
        del self._kept[wire]
        self._enter(place)
        self._work[wire] = place
        return wire

    async def made(self, place: Place, *, is_new: bool = False) -> Wire:
        """A connection of one's own, now at work, as soon as there may be one more: kept meanwhile, or made.

        :param is_new: never one that was kept
        :raises OSError: as the connector
        """
        self._check_open()
        if self._has_room(place):
            self._enter(place)
        else:
            await self._turn(place)
            if place.kept and not is_new:
                wire = place.kept.pop()
                del self._kept[wire]
                self._work[wire] = place
                return wire
        try:
            wire = await self._connect(place, lambda: Wire(self._freed, self._lost))
        except BaseException:
            self._leave(place)
            raise
        if not wire.is_open:
            # It has ended already, when nobody was told.
            self._leave(place)
            raise ConnectionResetError(errno.ECONNRESET, "the server has hung up")
        self._work[wire] = place
        try:
            self._check_open()
        except OSError:
            wire.close()
            raise
        return wire

    async def close(self) -> None:
        """Close all."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self._is_closed = True
        for place in self._crowded:
            for waiter in place.waiting:
                if not waiter.done():
                    waiter.set_exception(_closed())
        for wire in [*self._kept, *self._work]:
            wire.end()
        # Transports say farewell in the loop's next turns.
        for _ in range(2):
            await asyncio.sleep(0)

    def _check_open(self) -> None:
        if self._is_closed:
            raise _closed()

    def _has_room(self, place: Place) -> bool:
        return self._in_use < self._limit and place.in_use < self._limit_per_place

    def _enter(self, place: Place) -> None:
        place.in_use += 1
        self._in_use += 1

    def _leave(self, place: Place) -> None:
        place.in_use -= 1
        self._in_use -= 1
        if self._crowded:
            self._admit()

    def _admit(self) -> None:
        """Let one who waits in, of each place in turn."""
        for place in tuple(self._crowded):
            if not self._has_room(place):
                continue
            del self._crowded[place]
            while place.waiting:
                waiter = place.waiting.popleft()
                if not waiter.done():
                    self._enter(place)
                    waiter.set_result(None)
                    break
            else:
                continue
            if place.waiting:
                self._crowded[place] = None
            return

    async def _turn(self, place: Place) -> None:
        waiter = self._loop.create_future()
        place.waiting.append(waiter)
        self._crowded.setdefault(place)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                # Whoever has left since then passed it over, and took it out.
                with suppress(ValueError):
                    place.waiting.remove(waiter)
                if not place.waiting:
                    self._crowded.pop(place, None)
            elif waiter.exception() is None:
                # It was let in, and leaves in the same moment.
                self._leave(place)
            raise

    def _freed(self, wire: Wire) -> None:
        place = self._work.pop(wire)
        wire.idle_since = self._loop.time()
        place.kept.append(wire)
        self._kept[wire] = place
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._keep_seconds, self._drop_old)
        self._leave(place)

    def _lost(self, wire: Wire) -> None:
        place = self._work.pop(wire, None)
        if place is not None:
            self._leave(place)
            return
        place = self._kept.pop(wire, None)
        if place is not None:
            place.kept.remove(wire)

    def _drop_old(self) -> None:
        self._sweep = None
        oldest = self._loop.time() - self._keep_seconds
        for wire in list(self._kept):
            if wire.idle_since > oldest:
                self._sweep = self._loop.call_later(wire.idle_since - oldest, self._drop_old)
                return
            wire.close()


def _closed() -> OSError:
    return ConnectionAbortedError(errno.ECONNABORTED, "the pool is closed")
