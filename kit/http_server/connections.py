"""All connections of a server: what is the same for each, and their end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from kit.http_server.answer import Answer, Reply
from kit.http_server.connection import Connection
from kit.http_server.reader import Unreadable
from kit.http_server.request import Request

_STALL_SECONDS: Final = 60.0
"""It begins long after the caller has stopped: what the kernels on the way hold comes first."""
_LAST_STALL_SECONDS: Final = 10.0


class Connections:
    """All connections of a server, and what is the same for each.

    :param answer: answers a request; what it raises ends the connection
    :param refuse: answers what is no request
    :param keep_alive_seconds: how long a connection may stay without a whole request
    :param max_header_bytes: of the request line, and of each header
    :param stall_seconds: how long a caller may read nothing while answers wait for that; then the connection is cut
    :param last_stall_seconds: the same once nothing is left to do but to send
    """

    def __init__(
        self,
        answer: Callable[[Request], Awaitable[Reply]],
        refuse: Callable[[Unreadable], Answer],
        *,
        keep_alive_seconds: float,
        max_header_bytes: int,
        stall_seconds: float = _STALL_SECONDS,
        last_stall_seconds: float = _LAST_STALL_SECONDS,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.answer = answer
        self.refuse = refuse
        self.keep_alive_seconds = keep_alive_seconds
        self.max_header_bytes = max_header_bytes
        self.stall_seconds = stall_seconds
        self.last_stall_seconds = last_stall_seconds
        self.is_stopping = False
        """Whether each answer is the last of its connection."""
        self.is_closing = False
        """Whether those on which nothing is asked are closed."""
        self.open: set[Connection] = set()
        self._all_gone = asyncio.Event()

    def make(self) -> Connection:
        """A connection that is about to be made."""
        return Connection(self)

    def add(self, connection: Connection) -> None:
        """It is made."""
        self.open.add(connection)
        self._all_gone.clear()

    def remove(self, connection: Connection) -> None:
        """It is lost."""
        self.open.discard(connection)
        if not self.open:
            self._all_gone.set()

    def close_idle(self) -> None:
        """Close those on which nothing is asked; the others follow with their answers."""
        self.is_closing = True
        for connection in tuple(self.open):
            connection.finish()

    def unfinished(self) -> int:
        """On how many of them something is answered, or an answer is on its way."""
        return sum(connection.is_at_work for connection in self.open)

    async def close(self, seconds: float) -> None:
        """Close all: after so many seconds by telling requests to end, after as many again whatever is not sent yet."""
        self.close_idle()
        await self.gone(seconds)
        for end in (Connection.cancel, Connection.abort):
            for connection in tuple(self.open):
                end(connection)
            await self.gone(seconds)

    async def gone(self, seconds: float) -> None:
        """Wait until none is left, at most for so long."""
        if self.open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._all_gone.wait()
