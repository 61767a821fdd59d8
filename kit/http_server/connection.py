"""One connection: requests in, one after the other, and their answers out.

No server of anybody's is used: see docs/decisions/0014 and 0021.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from typing import TYPE_CHECKING, Final, cast

from kit.http_server import head
from kit.http_server.answer import Reply, Stream, send
from kit.http_server.reader import Reader, Unreadable
from kit.http_server.request import Request

if TYPE_CHECKING:
    from kit.http_server.connections import Connections

log = logging.getLogger(__name__)

_MAX_WAITING: Final = 32
"""Requests of one connection, the one that is answered included; past them nothing is read."""
_FEW_WAITING: Final = _MAX_WAITING // 2
"""Reading goes on from there, so that it does not change with every request."""
_LINGER_SECONDS: Final = 10.0
"""For the rest of a body that nobody asked for."""
_LAST_SECONDS: Final = 1.0
"""For the rest of what is no HTTP: a connection that is closed over unread bytes loses its last answer."""


class Connection(asyncio.Protocol):
    """One of them."""

    __slots__ = (
        "_alarm",
        "_drained",
        "_idle_since",
        "_is_busy",
        "_is_finishing",
        "_is_full",
        "_is_held",
        "_is_reading",
        "_loop",
        "_reader",
        "_shared",
        "_unsent",
        "_watch",
        "is_writing_paused",
        "task",
        "transport",
    )

    def __init__(self, shared: Connections) -> None:
        self._shared = shared
        self._loop = shared.loop
        self._reader = Reader(self._hold, max_header_bytes=shared.max_header_bytes)
        self.transport: asyncio.Transport | None = None
        """None before it is made, and once it is lost."""
        self.task: asyncio.Task[None] | None = None
        """Answers the request whose turn it is."""
        self._is_busy = False
        self._is_finishing = False
        """Whether no further request is answered."""
        self._is_full = self._is_held = False
        """Why nothing is read: many requests wait; nobody reads a body."""
        self._is_reading = True
        self.is_writing_paused = False
        """Whether the caller reads too slowly."""
        self._drained: asyncio.Future[None] | None = None
        self._idle_since = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        """Runs while the caller keeps something waiting."""
        self._unsent = 0
        """Bytes, when the watch began."""

    # What the loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a request."""
        self.transport = cast(asyncio.Transport, transport)
        made = transport.get_extra_info("socket")
        if made is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._shared.add(self)
        if self._shared.is_closing:
            self.close()
            return
        self._rest()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Nobody waits for an answer any more."""
        self.transport = None
        self._shared.remove(self)
        self._is_finishing = True
        self._reader.close()
        for timer in (self._alarm, self._watch):
            if timer is not None:
                timer.cancel()
        self._alarm = self._watch = None
        self.resume_writing()
        # Once it is cancelled, it would hold this by its traceback.
        task, self.task = self.task, None
        if task is not None:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse; begin if nothing else is answered."""
        reader = self._reader
        if self._is_finishing and reader.newest.is_whole:
            return
        self._read(data)
        if reader.requests and not self._is_busy:
            self._begin()

    def eof_received(self) -> None:
        """The caller has left, as far as anybody can tell."""
        self.close()

    def pause_writing(self) -> None:
        """The caller reads too slowly."""
        self.is_writing_paused = True
        self._watch_unsent()

    def resume_writing(self) -> None:
        """It has caught up, or left."""
        self.is_writing_paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # What answers ask for.

    async def drained(self) -> None:
        """Wait until the caller has caught up. One at a time.

        :raises ConnectionError: if the caller has left, or reads nothing any more
        """
        while self.is_writing_paused:
            self._drained = self._loop.create_future()
            try:
                await self._drained
            finally:
                self._drained = None
        if self.transport is None:
            raise ConnectionResetError("the connection is closed")

    @property
    def is_at_work(self) -> bool:
        """Whether something is answered, or not sent yet."""
        transport = self.transport
        return self._is_busy or (transport is not None and transport.get_write_buffer_size() > 0)

    def finish(self) -> None:
        """Close once what is answered at present is answered."""
        self._is_finishing = True
        if not self._is_busy:
            self.close()

    def close(self) -> None:
        """Close behind what is written."""
        self._is_finishing = True
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        transport.close()
        if transport.get_write_buffer_size():
            self._watch_unsent()

    def cancel(self) -> None:
        """Tell the work for what is answered to end, and the connection with it."""
        self._is_finishing = True
        if self.task is not None:
            self.task.cancel()

    def abort(self) -> None:
        """Close, whatever is not sent yet."""
        self._is_finishing = True
        if self.transport is not None:
            self.transport.abort()

    def closes_after(self, request: Request) -> bool:
        """Whether an answer to it is the last, as far as is known before it is there."""
        return request.closes or self._shared.is_stopping

    def _read(self, data: bytes) -> None:
        reader = self._reader
        requests = reader.requests
        # The one that is answered counts.
        reader.feed(data, _MAX_WAITING - len(requests) - self._is_busy)
        if self._is_finishing:
            # The body of the last one is still wanted.
            requests.clear()
        is_full = len(requests) + self._is_busy >= _MAX_WAITING
        if is_full is not self._is_full:
            self._is_full = is_full
            self._read_or_not()

    def _hold(self, is_held: bool) -> None:
        self._is_held = is_held
        self._read_or_not()

    def _read_or_not(self) -> None:
        is_reading = not (self._is_full or self._is_held)
        if is_reading == self._is_reading or self.transport is None or self.transport.is_closing():
            return
        self._is_reading = is_reading
        if is_reading:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def _begin(self) -> None:
        if self._is_finishing:
            self.close()
            return
        request = self._reader.requests.popleft()
        if isinstance(request, Unreadable):
            self._refuse(request)
            return
        request.connection = self
        self._is_busy = True
        work = self._serve(request)
        if sys.version_info >= (3, 12):
            # Begins at once; what it sets in its context stays its own.
            task = asyncio.Task(work, loop=self._loop, name="http request", eager_start=True)
            self.task = None if task.done() else task
        else:
            # Not by the loop's method, which takes a name from nobody and makes one up for each.
            self.task = asyncio.Task(work, loop=self._loop, name="http request")

    async def _serve(self, request: Request) -> None:
        try:
            goes_on = self._send(request, await self._shared.answer(request))
            if self.is_writing_paused:
                await self.drained()
            if not request.is_whole:
                goes_on = await request.linger(_LINGER_SECONDS) and goes_on
        except ConnectionError:
            goes_on = False
        except asyncio.CancelledError:
            self.close()
            raise
        except Exception as bug:
            # The edge: whoever waits must not wait for ever.
            log.exception("a request is not answered", extra={"error": type(bug).__name__})
            goes_on = False
        self._end(goes_on=goes_on)

    def _send(self, request: Request, reply: Reply) -> bool:
        """Whether another request may follow."""
        if isinstance(reply, Stream):
            if not reply.has_ended:
                reply.end()
            return not reply.closes
        closes = reply.closes or self.closes_after(request)
        body = reply.body
        written = head.whole(request, reply.status, reply.lines, len(body), closes=closes)
        send(self, written if request.method == "HEAD" else written + body)
        return not closes

    def _end(self, *, goes_on: bool) -> None:
        self.task = None
        if not goes_on or self._is_finishing or self.transport is None:
            self._is_busy = False
            if self._reader.is_deaf:
                self._part()
            else:
                self.close()
            return
        if self._is_full and len(self._reader.requests) <= _FEW_WAITING:
            # While this is still busy, so that it does not begin twice.
            self._read(b"")
        self._is_busy = False
        if self._reader.requests:
            # Not here: many that wait would be begun inside each other.
            self._loop.call_soon(self._begin_next)
        else:
            self._rest()

    def _begin_next(self) -> None:
        if self._reader.requests and not self._is_busy:
            self._begin()

    def _refuse(self, problem: Unreadable) -> None:
        answer = self._shared.refuse(problem)
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.write(head.whole(None, answer.status, answer.lines, len(answer.body), closes=True) + answer.body)
        self._part()

    def _part(self) -> None:
        """Close behind what is written, and a moment later: what still comes is no HTTP, and nobody looks at it."""
        transport = self.transport
        self._is_finishing = True
        if transport is None or transport.is_closing():
            return
        # A body that nobody will read may have held it back.
        self._is_full = self._is_held = False
        self._read_or_not()
        try:
            transport.write_eof()
        except OSError:
            # The caller has left, and nobody has been told yet.
            self.close()
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_later(_LAST_SECONDS, self.close)

    def _rest(self) -> None:
        """Nothing is asked from now on: one timer is enough, which looks at the time when it fires."""
        self._idle_since = self._loop.time()
        if self._alarm is None:
            self._alarm = self._loop.call_later(self._shared.keep_alive_seconds, self._look_at_the_time)

    def _look_at_the_time(self) -> None:
        self._alarm = None
        if self._is_busy or self._reader.requests:
            # The end of the answer sets it again.
            return
        remaining = self._idle_since + self._shared.keep_alive_seconds - self._loop.time()
        if remaining > 0:
            self._alarm = self._loop.call_later(remaining, self._look_at_the_time)
        else:
            self.close()

    def _watch_unsent(self) -> None:
        """What is written waits for the caller, who is to read some of it in time."""
        transport, shared = self.transport, self._shared
        assert transport is not None  # noqa: S101  # it holds what waits
        if self._watch is not None:
            self._watch.cancel()
        self._unsent = transport.get_write_buffer_size()
        seconds = shared.last_stall_seconds if transport.is_closing() else shared.stall_seconds
        self._watch = self._loop.call_later(seconds, self._look_at_unsent)

    def _look_at_unsent(self) -> None:
        self._watch = None
        transport = self.transport
        if transport is None or not (self.is_writing_paused or transport.is_closing()):
            return
        if transport.get_write_buffer_size() < self._unsent:
            self._watch_unsent()
            return
        if self._drained is not None and not self._drained.done():
            # The end of the connection would cancel whoever waits, as if the caller had left.
            self._drained.set_exception(ConnectionAbortedError("the caller reads nothing"))
        self.abort()
