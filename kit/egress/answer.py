"""The body of an answer as it comes in: bounded, and never left hanging."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Final

import aiohttp
from multidict import CIMultiDictProxy

from kit.egress import failures
from kit.egress.wire import Answer

_END_SECONDS: Final = 0.5
"""How long a connection whose answer is read waits for the end of the body: a few times the way round the world."""


class EgressStream(AsyncIterator[bytes]):
    """An answer whose body is read while it arrives. Iterate for chunks of it, decompressed and never empty.

    One reader at a time. After a failure, or after the context that gave it has been left, it is not read again.
    """

    __slots__ = ("_answer", "_closed", "_left", "_limit", "_origin", "_size", "headers", "status")

    def __init__(
        self, answer: Answer, origin: str, idle_seconds: float | None, max_bytes: int, left: set[Answer]
    ) -> None:
        """Made by `Egress`.

        :param idle_seconds: as in `Timeouts`; infinite if silence is bounded by the total alone
        :param max_bytes: of the body, after decompression
        :param left: those whose end is waited for
        """
        self.status: int = answer.status
        self.headers: CIMultiDictProxy[str] = answer.headers
        """Case-insensitive."""
        self._answer = answer
        self._origin = origin
        self._limit = max_bytes
        self._left = left
        self._size = 0
        self._closed: asyncio.Future[None] | None = None
        # None when the body came whole with the headers: nothing more to wait for.
        if answer.connection is not None:
            self._watch(answer.connection, idle_seconds)

    def __aiter__(self) -> EgressStream:
        return self

    async def __anext__(self) -> bytes:
        """:raises AppError: as `Egress.request` for the phases `read` and `total`"""
        chunk = await self._chunk()
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def read(self) -> bytes:
        """All that is left of the body.

        :raises AppError: as for iteration
        """
        first = await self._chunk()
        if self._answer.content.at_eof():
            return first
        chunks = [first]
        while chunk := await self._chunk():
            chunks.append(chunk)
        return b"".join(chunks)

    def finish(self) -> None:
        """Everything that matters was read. The connection is kept if the end of the body comes within a moment, else
        closed: the end often comes in a packet of its own, and who does not wait for it makes a connection for each
        request. Leave the context right after.
        """
        self._forget()
        if not self._answer.closed:
            self._answer.leave(_END_SECONDS, self._left)

    def close(self) -> None:
        """Give the connection back if the body was read to its end, else close it. May be called again."""
        self._forget()
        if not self._answer.closed:
            self._answer.close()

    async def _chunk(self) -> bytes:
        failure, content = None, self._answer.content
        try:
            chunk = await content.readany()
        except (aiohttp.ClientError, TimeoutError) as error:
            failure = failures.failure_of(error, self._origin, failures.Phase.READ)
        # aiohttp's reader would keep to itself what came right before its connection broke. The next call fails.
        if failure is not None and content._buffer:  # there is no other way to it
            failure, chunk = None, content._read_nowait(-1)
        if failure is not None:
            raise failure
        self._size += len(chunk)
        if self._size > self._limit:
            # Now, not when the context is left: the rest must not go on arriving.
            self.close()
            raise failures.too_large(self._origin, self._limit)
        return chunk

    def _watch(self, connection: aiohttp.connector.Connection, idle_seconds: float | None) -> None:
        protocol = connection.protocol
        if protocol is None or (closed := protocol.closed) is None:
            return
        if idle_seconds is not None:
            had_limit = protocol.read_timeout is not None
            protocol.read_timeout = None if idle_seconds == math.inf else idle_seconds
            # The clock is stopped while reading is paused; only its limit changes then.
            is_reading = connection.transport is not None and connection.transport.is_reading()
            if is_reading and (had_limit or protocol.read_timeout is not None):
                protocol.start_timeout()
        # aiohttp's parser forgets the body that it is in when it meets an error (a malformed chunk, say): the
        # connection is closed and the reader waits for the total time-out. So the reader is told from here.
        # Drop it once `test_a_malformed_chunk_ends_the_body_at_once` passes without.
        self._closed = closed
        closed.remove_done_callback(_retrieve)
        closed.add_done_callback(_retrieve)
        closed.add_done_callback(self._on_connection_closed)

    def _forget(self) -> None:
        if self._closed is not None:
            self._closed.remove_done_callback(self._on_connection_closed)
            self._closed = None

    def _on_connection_closed(self, closed: asyncio.Future[None]) -> None:
        content = self._answer.content
        if not content.is_eof() and content.exception() is None:
            content.set_exception(failures.ForgottenBody())


def _retrieve(closed: asyncio.Future[None]) -> None:
    """Look at how a kept connection ended, or asyncio logs that nobody did."""
    closed.exception()
