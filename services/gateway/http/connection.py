"""One connection: requests in, one after the other, and their answers out.

aiohttp parses, and its reader holds bodies back while nobody reads them. Its server is not used: see
docs/decisions/0014.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.tcp_helpers import tcp_keepalive

from services.gateway.http import head
from services.gateway.http.answer import Answer, Reply, Stream, send
from services.gateway.http.request import BrokenBody, Request

log = logging.getLogger(__name__)

_MAX_HEADERS: Final = 100
_MAX_WAITING: Final = 32
"""Requests of one connection, the one that is answered included; past them nothing is read."""
_FEW_WAITING: Final = _MAX_WAITING // 2
"""Reading goes on from there, so that it does not change with every request."""
_BUFFERED_BYTES: Final = 256 << 10
"""Of a body that nobody reads; past twice as much nothing is read."""
_LINGER_SECONDS: Final = 10.0
"""For the rest of a body that nobody asked for."""
_LAST_SECONDS: Final = 1.0
"""For the rest of what is no request: a connection that is closed over unread bytes loses its last answer."""


class Connections:
    """All connections of a server, and what is the same for each.

    :param answer: answers a request; what it raises ends the connection
    :param refuse: answers what is no request
    :param keep_alive_seconds: how long a connection may stay without a whole request
    :param max_header_bytes: of the request line, and of each header
    """

    def __init__(
        self,
        answer: Callable[[Request], Awaitable[Reply]],
        refuse: Callable[[HttpProcessingError], Answer],
        *,
        keep_alive_seconds: float,
        max_header_bytes: int,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.answer = answer
        self.refuse = refuse
        self.keep_alive_seconds = keep_alive_seconds
        self.max_header_bytes = max_header_bytes
        self.is_stopping = False
        """Whether each answer is the last of its connection."""
        self.open: set[Connection] = set()

    def make(self) -> Connection:
        """A connection that is about to be made."""
        return Connection(self)

    def close_idle(self) -> None:
        """Close those on which nothing is asked; the others follow with their answers."""
        for connection in tuple(self.open):
            connection.finish()

    async def close(self, seconds: float) -> None:
        """Close all: after so many seconds by telling requests to end, after as many again in any case."""
        for patience in (False, True):
            tasks = [each.task for each in self.open if each.task is not None]
            if not tasks:
                break
            if patience:
                for task in tasks:
                    task.cancel()
            await asyncio.wait(tasks, timeout=seconds)
        for connection in tuple(self.open):
            connection.close()


class Connection(BaseProtocol):
    """One of them."""

    __slots__ = (
        "_alarm",
        "_idle_since",
        "_is_busy",
        "_is_deaf",
        "_is_finishing",
        "_newest",
        "_shared",
        "_waiting",
        "task",
    )

    def __init__(self, shared: Connections) -> None:
        parser = HttpRequestParser(
            self,
            shared.loop,
            _BUFFERED_BYTES,
            max_line_size=shared.max_header_bytes,
            max_field_size=shared.max_header_bytes,
            max_headers=_MAX_HEADERS,
            auto_decompress=False,
            max_msg_queue_size=_MAX_WAITING,
        )
        super().__init__(shared.loop, parser)
        self._shared = shared
        self.task: asyncio.Task[None] | None = None
        """Answers the request whose turn it is."""
        self._waiting: deque[tuple[RawRequestMessage | HttpProcessingError, StreamReader]] = deque()
        self._newest: StreamReader = EMPTY_PAYLOAD
        """The body that the parser is in, or has been in last."""
        self._is_busy = False
        self._is_finishing = False
        """Whether no further request is answered."""
        self._is_deaf = False
        """Whether what comes is no HTTP any more."""
        self._idle_since = 0.0
        self._alarm: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a request."""
        super().connection_made(transport)
        assert self.transport is not None  # noqa: S101  # it is the one that was given
        tcp_keepalive(self.transport)
        self._shared.open.add(self)
        self._rest()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Nobody waits for an answer any more."""
        super().connection_lost(exc)
        self._shared.open.discard(self)
        self._is_finishing = True
        self._waiting.clear()
        # It knows this connection, which knows it.
        self._parser = None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self.task is not None:
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse; begin if nothing else is answered. Without bytes: what the parser has kept."""
        parser = self._parser
        if self._is_deaf or parser is None or (self._is_finishing and self._newest.is_eof()):
            return
        try:
            while True:
                messages, is_upgraded, rest = parser.feed_data(data)
                if messages:
                    self._newest = messages[-1][1]
                    if not self._is_finishing:
                        self._waiting.extend(messages)
                if not is_upgraded:
                    break
                # Nobody here speaks anything else; what follows is HTTP, as if it had not been offered.
                parser.set_upgraded(False)
                if not (data := rest):
                    break
        except HttpProcessingError as error:
            self._is_deaf = True
            if self._newest.is_eof():
                self._waiting.append((error, EMPTY_PAYLOAD))
            else:
                # The parser forgets the body that it was in.
                self._newest.set_exception(BrokenBody())
        if len(self._waiting) + self._is_busy >= _MAX_WAITING and not self._buffer_paused:
            self._pause_reading_for_buffer()
        if self._waiting and not self._is_busy:
            self._begin()

    def resume_reading(self, resume_parser: bool = True) -> None:  # as aiohttp's
        """Read on if a body was held back; aiohttp's reader asks after each piece."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def finish(self) -> None:
        """Close once what is answered at present is answered."""
        self._is_finishing = True
        if not self._is_busy:
            self.close()

    def close(self) -> None:
        """Close behind what is written."""
        self._is_finishing = True
        if self.transport is not None:
            self.transport.close()

    def closes_after(self, request: Request) -> bool:
        """Whether an answer to it is the last, as far as is known before it is there."""
        return request.message.should_close or self._shared.is_stopping

    def _begin(self) -> None:
        if self._is_finishing:
            self.close()
            return
        message, payload = self._waiting.popleft()
        if isinstance(message, HttpProcessingError):
            self._refuse(message)
            return
        self._is_busy = True
        work = self._serve(Request(self, message, payload))
        if sys.version_info >= (3, 12):
            # Begins at once; what it sets in its context stays its own.
            task = asyncio.Task(work, loop=self._loop, eager_start=True)
            self.task = None if task.done() else task
        else:
            self.task = self._loop.create_task(work)

    async def _serve(self, request: Request) -> None:
        try:
            goes_on = self._send(request, await self._shared.answer(request))
            if self._paused:
                await self._drain_helper()
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
        written = head.whole(request.message, reply.status, reply.lines, len(body), closes=closes)
        send(self, written if request.method == "HEAD" else written + body)
        return not closes

    def _end(self, *, goes_on: bool) -> None:
        self.task = None
        if not goes_on or self._is_finishing or self._parser is None:
            self._is_busy = False
            self.close()
            return
        self._parser.message_consumed()
        if self._buffer_paused and len(self._waiting) <= _FEW_WAITING:
            # While this is still busy, so that it does not begin twice.
            self.data_received(b"")
            if len(self._waiting) + 1 < _MAX_WAITING:
                self._resume_reading_for_buffer()
        self._is_busy = False
        if self._waiting:
            # Not here: many that wait would be begun inside each other.
            self._loop.call_soon(self._begin_next)
        else:
            self._rest()

    def _begin_next(self) -> None:
        if self._waiting and not self._is_busy:
            self._begin()

    def _refuse(self, error: HttpProcessingError) -> None:
        answer = self._shared.refuse(error)
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.write(head.whole(None, answer.status, answer.lines, len(answer.body), closes=True) + answer.body)
            transport.write_eof()
        self._is_finishing = True
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
        if self._is_busy or self._waiting:
            # The end of the answer sets it again.
            return
        remaining = self._idle_since + self._shared.keep_alive_seconds - self._loop.time()
        if remaining > 0:
            self._alarm = self._loop.call_later(remaining, self._look_at_the_time)
        else:
            self.close()
