"""An answer as it comes in: bounded in size and time, and never left hanging."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from multidict import CIMultiDictProxy

from kit.egress import failures
from kit.egress.failures import Trouble
from kit.egress.inflation import Inflater, inflater_for

if TYPE_CHECKING:
    from kit.egress.wire import Wire

_END_SECONDS: Final = 0.5
"""How long a connection whose answer is read waits for the end of the body: a few times the way round the world."""
_MANY_CHUNKS: Final = 256
"""Chunks that are kept as they came; further ones are put together."""
_INFLATED_AT_ONCE: Final = 1 << 20
"""Bytes that are unpacked before others get their turn."""
_HIGH_WATER: Final = 64 * 1024
"""Bytes that wait for their reader; no more are taken from the network until they are read."""


class EgressStream(AsyncIterator[bytes]):
    """An answer whose body is read while it arrives. Iterate for chunks of it, decompressed and never empty.

    One reader at a time. After a failure, or after the context that gave it has been left, it is not read again.
    """

    __slots__ = (
        "_alarm",
        "_awaits_end",
        "_buffered",
        "_chunks",
        "_heard_at",
        "_idle_seconds",
        "_inflater",
        "_is_foreign",
        "_is_left",
        "_is_whole",
        "_limit",
        "_loop",
        "_origin",
        "_packed_size",
        "_rested_at",
        "_size",
        "_trouble",
        "_waiter",
        "_watch",
        "_wire",
        "has_no_body",
        "headers",
        "is_paused",
        "is_unheard",
        "patience",
        "status",
    )

    headers: CIMultiDictProxy[str]
    """Case-insensitive; there once the head has come."""
    _packed_size: int
    """There once there is an inflater."""
    _rested_at: int
    """As well."""
    _heard_at: float
    """There once there is a watch."""

    def __init__(
        self,
        wire: Wire,
        loop: asyncio.AbstractEventLoop,
        origin: str,
        *,
        max_bytes: int,
        has_no_body: bool = False,
        idle_seconds: float | None = None,
    ) -> None:
        """Made by `Egress`.

        :param max_bytes: of the body, after decompression
        :param has_no_body: whatever its head says
        :param idle_seconds: of silence in the body; None: as long as the total has
        """
        self.status = 0
        """0 until the head has come."""
        self.has_no_body = has_no_body
        self.patience: float | None = None
        """How many seconds may pass without a byte; None: as many as the total has."""
        self._wire: Wire | None = wire
        """None once it is not this one's any more: the answer is whole, or has failed, or nobody wants the rest."""
        self._loop = loop
        self._origin = origin
        self._limit = max_bytes
        self._idle_seconds = idle_seconds
        self._size = 0
        self._chunks: list[bytes | bytearray] = []
        self._buffered = 0
        self._inflater: Inflater | None = None
        self._trouble: Trouble | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._awaits_end = self._is_left = self._is_whole = False
        self.is_paused = False
        """Whether nothing is taken from the network until its reader has read."""
        self._is_foreign = False
        """Whether the body is packed in a way that nothing here undoes."""
        self.is_unheard = False
        """Whether the connection ended before a single byte had come."""

    def __aiter__(self) -> EgressStream:
        return self

    async def __anext__(self) -> bytes:
        """:raises AppError: as `Egress.request` for the phases `read` and `total`"""
        while True:
            if self._inflater is not None:
                # A little that is packed is worked on for long.
                if self._size - self._rested_at >= _INFLATED_AT_ONCE:
                    self._rested_at = self._size
                    await asyncio.sleep(0)
                chunk = self._inflated()
            elif self._chunks:
                chunk = self._taken()
            else:
                chunk = b""
            if chunk:
                break
            # What came before a connection broke is handed out first.
            if self._trouble is not None:
                raise failures.failure_of(self._trouble, self._origin)
            if self._is_whole:
                raise StopAsyncIteration
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._size += len(chunk)
        if self._size > self._limit:
            # Now, not when the context is left: the rest must not go on arriving.
            self.close()
            raise failures.too_large(self._origin, self._limit)
        return chunk

    async def read(self) -> bytes:
        """All that is left of the body.

        :raises AppError: as for iteration
        """
        if self._is_whole and self._inflater is None and self._size + self._buffered <= self._limit:
            # Whoever wanted the whole has waited for it: it need not be taken piece by piece.
            self._size += self._buffered
            return self._taken() if self._chunks else b""
        chunks = [chunk async for chunk in self]
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def finish(self) -> None:
        """Everything that matters was read. The connection is kept if the end of the body comes within a moment, else
        closed: the end often comes in a packet of its own, and who does not wait for it makes a connection for each
        request. Leave the context right after.
        """
        if self._wire is None:
            return
        self._stop_clocks()
        self._is_left = True
        self._alarm = self._loop.call_later(_END_SECONDS, self._break, Trouble.TOTAL)
        if self.is_paused:
            self._resume()

    def close(self) -> None:
        """Close the connection, unless the body has come whole. May be called again."""
        if not self._is_left and self._wire is not None:
            self._break(Trouble.DISCONNECTED)

    @property
    def is_ready(self) -> bool:
        """Whether the next chunk, or the end, is there already."""
        # What is there of a packed body may be too little to unpack any of it.
        return self._wire is None or (bool(self._chunks) and self._inflater is None)

    # For `Egress`.

    def limit(self, total_seconds: float, first_byte_seconds: float) -> None:
        """Start the clocks."""
        self._alarm = self._loop.call_later(total_seconds, self._break, Trouble.TOTAL)
        if first_byte_seconds < total_seconds:
            self.expect(first_byte_seconds)

    def expect(self, seconds: float | None) -> None:
        """From now on, a silence may last so long; None: as long as the total has."""
        if seconds == self.patience:
            return
        self.patience = seconds
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if seconds is not None and self._wire is not None:
            self._heard_at = self._loop.time()
            self._watch = self._loop.call_later(seconds, self._look)

    async def begun(self, *, is_wanted_whole: bool) -> None:
        """Wait for the head; or for all, which then wakes its reader once.

        :raises AppError: as `Egress.request`
        """
        self._awaits_end = is_wanted_whole
        while not (self._is_whole or self._trouble or (self.status and not self._awaits_end)):
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if not self.status:
            assert self._trouble is not None  # noqa: S101  # nothing ends without a head
            raise failures.failure_of(self._trouble, self._origin)

    # For the wire.

    @property
    def ends_with_connection(self) -> bool:
        """Whether nothing else says where the body ends."""
        if not self.status:
            return False
        codings = self.headers.getall("Transfer-Encoding", ())
        if codings:
            return not codings[-1].lower().rstrip().endswith("chunked")
        return "Content-Length" not in self.headers

    def hear(self) -> None:
        """There are signs of life."""
        self._heard_at = self._loop.time()

    def begin(self, status: int, headers: CIMultiDictProxy[str]) -> None:
        """The head has come."""
        self.status = status
        self.headers = headers
        self.expect(self._idle_seconds)
        if "Content-Encoding" in headers:
            try:
                self._inflater = inflater_for(",".join(headers.getall("Content-Encoding")))
                self._packed_size = self._rested_at = 0
            except ValueError:
                self._is_foreign = True
        if not self._awaits_end:
            self._wake()

    def feed(self, data: bytes) -> None:
        """A piece of the body has come."""
        if self._is_left:
            return
        if self._is_foreign:
            self._break(Trouble.MALFORMED)
            return
        chunks = self._chunks
        if len(chunks) < _MANY_CHUNKS:
            chunks.append(data)
        else:
            # Objects of some bytes each would take many times what the limit says.
            last = chunks[-1]
            if not isinstance(last, bytearray):
                last = bytearray(last)
                chunks[-1] = last
            last += data
        self._buffered += len(data)
        if self._awaits_end:
            if self._buffered > self._limit:
                # Its reader finds that there is too much.
                self._awaits_end = False
                self._pause()
                self._wake()
            return
        if self._buffered > _HIGH_WATER and not self.is_paused:
            self._pause()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def end(self) -> None:
        """All has come."""
        self._is_whole = True
        if self.is_paused:
            # For whoever has the connection next.
            self._resume()
        self._leave()

    def fail(self, trouble: Trouble) -> None:
        """Nothing more comes."""
        self._trouble = trouble
        self._leave()

    def _taken(self) -> bytes:
        chunks = self._chunks
        first = chunks[0]
        chunk = first if len(chunks) == 1 and isinstance(first, bytes) else b"".join(chunks)
        chunks.clear()
        self._buffered = 0
        if self.is_paused:
            self._resume()
        return chunk

    def _inflated(self) -> bytes:
        """The next decompressed piece; empty if more must come first."""
        inflater = self._inflater
        assert inflater is not None  # noqa: S101  # looked at before
        try:
            while True:
                if piece := inflater.next():
                    return piece
                if not self._chunks:
                    break
                packed = self._taken()
                self._packed_size += len(packed)
                if self._packed_size > self._limit:
                    # Some endless bodies unpack to nothing.
                    self.close()
                    raise failures.too_large(self._origin, self._limit)
                inflater.feed(packed)
            if self._is_whole and self._trouble is None:
                inflater.end()
        except ValueError:
            self._break(Trouble.MALFORMED)
        return b""

    def _pause(self) -> None:
        if self._wire is not None:
            self.is_paused = True
            self._wire.pause()

    def _resume(self) -> None:
        self.is_paused = False
        if self._wire is not None:
            self._heard_at = self._loop.time()
            self._wire.resume()

    def _break(self, trouble: Trouble) -> None:
        wire = self._wire
        self.fail(trouble)
        if wire is not None:
            wire.close()

    def _leave(self) -> None:
        """The connection is not this one's any more."""
        self._wire = None
        self._stop_clocks()
        self._wake()

    def _look(self) -> None:
        assert self.patience is not None  # noqa: S101  # there would be no watch
        now = self._loop.time()
        if self.is_paused:
            # The reader is slow, not the server.
            self._heard_at = now
        left = self._heard_at + self.patience - now
        if left <= 0:
            self._watch = None
            self._break(Trouble.READ if self.status else Trouble.FIRST_BYTE)
        else:
            self._watch = self._loop.call_later(left, self._look)

    def _stop_clocks(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
