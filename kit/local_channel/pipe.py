"""A bounded pipe: how messages of one direction of one call wait for their reader."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

import grpc

CAPACITY: Final = 16
"""How many messages a writer may be ahead of the reader."""
CAPACITY_BYTES: Final = 256 * 1024
"""How many bytes it may be ahead when it writes another message, however large that is."""


class Pipe:
    """First in, first out. Writers wait while it is full, readers while it is empty."""

    __slots__ = ("_bytes", "_ended", "_items", "_loop", "_readers", "_torn", "_writers")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._items: deque[tuple[object, int]] = deque()
        self._bytes = 0
        self._readers: deque[asyncio.Future[None]] = deque()
        self._writers: deque[asyncio.Future[None]] = deque()
        self._ended = False
        self._torn = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits to be read."""
        return not self._items

    @property
    def is_full(self) -> bool:
        """Whether a writer would wait."""
        return len(self._items) >= CAPACITY or self._bytes >= CAPACITY_BYTES

    async def put(self, item: object, size_bytes: int = 0) -> bool:
        """Write one message of so many bytes; False if nobody will read it."""
        # As `is_full`, without a call for each message.
        while (len(self._items) >= CAPACITY or self._bytes >= CAPACITY_BYTES) and not self._torn:
            await self._turn(self._writers)
        if self._torn:
            return False
        self._items.append((item, size_bytes))
        self._bytes += size_bytes
        if self._readers:
            _wake(self._readers)
        return True

    async def get(self) -> object:
        """Read one message; `grpc.aio.EOF` once there is none and none will come."""
        while not self._items:
            if self._ended or self._torn:
                return grpc.aio.EOF
            await self._turn(self._readers)
        item, size_bytes = self._items.popleft()
        self._bytes -= size_bytes
        if self._writers:
            _wake(self._writers)
        return item

    def end(self) -> None:
        """The writer is done; what is in the pipe can still be read."""
        self._ended = True
        _wake(self._readers)

    def tear(self) -> None:
        """The call is over: drop what is in the pipe and let everybody who waits go."""
        self._torn = True
        self._items.clear()
        self._bytes = 0
        _wake(self._readers)
        _wake(self._writers)

    async def _turn(self, waiting: deque[asyncio.Future[None]]) -> None:
        waiter = self._loop.create_future()
        waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            # Nobody is forgotten by it: `_wake` lets all go, and each looks for itself.
            if waiter in waiting:
                waiting.remove(waiter)
            raise


def _wake(waiting: deque[asyncio.Future[None]]) -> None:
    while waiting:
        waiter = waiting.popleft()
        if not waiter.done():
            waiter.set_result(None)
