"""The body of a request while it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

_MANY_BYTES: Final = 512 << 10
"""Of a body that nobody reads; past them nothing is read of its connection until somebody does."""
_MANY_CHUNKS: Final = 256
"""Pieces that are kept as they came; further ones are put together."""


class BrokenBody(Exception):
    """What comes is no body as HTTP frames them."""


class Body:
    """One of them. One reader at a time.

    :param hold: told whether no more should be taken from the connection for now
    """

    __slots__ = ("_buffered", "_chunks", "_hold", "_is_broken", "_is_held", "_waiter", "is_whole", "total_bytes")

    def __init__(self, hold: Callable[[bool], None]) -> None:
        self._hold = hold
        self._chunks: list[bytes | bytearray] = []
        self._buffered = 0
        self._is_broken = self._is_held = False
        self._waiter: asyncio.Future[None] | None = None
        self.is_whole = False
        """Whether all of it has come, or there is none."""
        self.total_bytes = 0
        """That have come."""

    def feed(self, data: bytes) -> None:
        """A piece has come."""
        keep(self._chunks, data)
        size = len(data)
        self.total_bytes += size
        self._buffered += size
        if self._buffered > _MANY_BYTES and not self._is_held:
            self._is_held = True
            self._hold(True)
        if self._waiter is not None:
            _wake(self._waiter)

    def end(self) -> None:
        """It is whole. Whether it is read or not, what follows is another request's."""
        self.is_whole = True
        if self._is_held:
            self._let_go()
        if self._waiter is not None:
            _wake(self._waiter)

    def fail(self) -> None:
        """The rest of it will never come."""
        self._is_broken = True
        if self._waiter is not None:
            _wake(self._waiter)

    def taken(self) -> bytes:
        """What is there."""
        # One piece, as most are, is not copied by this.
        data = b"".join(self._chunks)
        self._chunks.clear()
        self._buffered = 0
        if self._is_held:
            self._let_go()
        return data

    async def read(self) -> bytes:
        """The next piece, once there is one; empty at its end.

        :raises BrokenBody: if it will never be whole
        """
        while not self._chunks:
            if self._is_broken:
                raise BrokenBody
            if self.is_whole:
                return b""
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self.taken()

    def _let_go(self) -> None:
        self._is_held = False
        self._hold(False)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def keep(chunks: list[bytes | bytearray], data: bytes) -> None:
    """Add a piece. Objects of some bytes each would take many times what they hold."""
    if len(chunks) < _MANY_CHUNKS:
        chunks.append(data)
        return
    last = chunks[-1]
    if not isinstance(last, bytearray):
        last = bytearray(last)
        chunks[-1] = last
    last += data


NO_BODY: Final = Body(lambda _: None)
NO_BODY.end()
