"""One connection: requests in, one after the other, and their answers out.

httptools parses. No server of anybody's is used: see docs/decisions/0014 and 0021.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from multidict import CIMultiDict, CIMultiDictProxy

from services.gateway.http import head
from services.gateway.http.answer import Answer, Reply, Stream, send
from services.gateway.http.body import NO_BODY, Body
from services.gateway.http.message import Message
from services.gateway.http.request import Request

log = logging.getLogger(__name__)

_MAX_HEADERS: Final = 100
_MAX_WAITING: Final = 32
"""Requests of one connection, the one that is answered included; past them nothing is read."""
_FEW_WAITING: Final = _MAX_WAITING // 2
"""Reading goes on from there, so that it does not change with every request."""
_END_OF_HEAD: Final = b"\r\n\r\n"
_FRAMING_HEADERS: Final = frozenset(("content-length", "transfer-encoding"))
_OLD_VERSIONS: Final = frozenset(("0.9", "1.0"))
_LINGER_SECONDS: Final = 10.0
"""For the rest of a body that nobody asked for."""
_LAST_SECONDS: Final = 1.0
"""For the rest of what is no request: a connection that is closed over unread bytes loses its last answer."""


class Unreadable(Enum):
    """Why what came is no request."""

    MALFORMED = auto()
    TOO_LONG = auto()
    """Its first line, or a header; or it has too many of these."""


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
        refuse: Callable[[Unreadable], Answer],
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


class Connection(asyncio.Protocol):
    """One of them."""

    __slots__ = (
        "_alarm",
        "_drained",
        "_fields",
        "_idle_since",
        "_is_busy",
        "_is_deaf",
        "_is_finishing",
        "_is_full",
        "_is_held",
        "_is_offer",
        "_is_reading",
        "_is_resumed",
        "_is_too_long",
        "_loop",
        "_newest",
        "_parser",
        "_shared",
        "_target",
        "_unfinished_bytes",
        "_unparsed",
        "_waiting",
        "is_writing_paused",
        "task",
        "transport",
    )

    def __init__(self, shared: Connections) -> None:
        self._shared = shared
        self._loop = shared.loop
        self._parser: HttpRequestParser | None = HttpRequestParser(self)
        self.transport: asyncio.Transport | None = None
        """None before it is made, and once it is lost."""
        self.task: asyncio.Task[None] | None = None
        """Answers the request whose turn it is."""
        self._target = b""
        self._fields: list[tuple[str, str]] = []
        self._unfinished_bytes = 0
        """That came since anything was complete: a header that never ends, say."""
        self._is_too_long = False
        self._waiting: deque[tuple[Message | Unreadable, Body]] = deque()
        self._unparsed = b""
        """What came behind as many requests as may wait."""
        self._newest = NO_BODY
        """The body that the parser is in, or has been in last."""
        self._is_offer = False
        """Whether the request that is parsed offers another protocol."""
        self._is_resumed = False
        """Whether its head is parsed once more."""
        self._is_busy = False
        self._is_finishing = False
        """Whether no further request is answered."""
        self._is_deaf = False
        """Whether what comes is no HTTP any more."""
        self._is_full = self._is_held = False
        """Why nothing is read: many requests wait; nobody reads a body."""
        self._is_reading = True
        self.is_writing_paused = False
        """Whether the caller reads too slowly."""
        self._drained: asyncio.Future[None] | None = None
        self._idle_since = 0.0
        self._alarm: asyncio.TimerHandle | None = None

    # What the loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a request."""
        self.transport = cast(asyncio.Transport, transport)
        made = transport.get_extra_info("socket")
        if made is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._shared.open.add(self)
        self._rest()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Nobody waits for an answer any more."""
        self.transport = None
        self._shared.open.discard(self)
        self._is_finishing = True
        self._waiting.clear()
        # It knows this connection, which knows it.
        self._parser = None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self.resume_writing()
        if self.task is not None:
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse; begin if nothing else is answered."""
        if self._is_deaf or self._parser is None or (self._is_finishing and self._newest.is_whole):
            return
        self._parse(self._unparsed + data if self._unparsed else data)
        if self._waiting and not self._is_busy:
            self._begin()

    def pause_writing(self) -> None:
        """The caller reads too slowly."""
        self.is_writing_paused = True

    def resume_writing(self) -> None:
        """It has caught up, or left."""
        self.is_writing_paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # What the parser tells. What is raised here ends the parsing.

    def on_message_begin(self) -> None:
        """A request begins."""
        if not self._is_resumed:
            self._target, self._fields = b"", []

    def on_url(self, part: bytes) -> None:
        """What it asks for, or a part of that."""
        if self._is_resumed:
            return
        self._target += part
        self._bound(len(self._target))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which nobody reads."""
        if self._is_resumed:
            return
        self._unfinished_bytes = 0
        self._bound(len(name) + len(value))
        if len(self._fields) >= _MAX_HEADERS:
            self._is_too_long = True
            raise ValueError("too many headers")
        self._fields.append((name.decode(), value.decode(errors="replace")))

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._unfinished_bytes = 0
        if self._is_resumed:
            self._is_resumed = False
            return
        parser = self._parser
        assert parser is not None  # noqa: S101  # it is at work
        self._is_offer = parser.should_upgrade()
        if self._is_finishing:
            self._newest = Body(self._hold)
            return
        message = Message(
            parser.get_method().decode(),
            self._target.decode(errors="replace"),
            CIMultiDictProxy(CIMultiDict(self._fields)),
            parser.get_http_version() not in _OLD_VERSIONS,
            not parser.should_keep_alive(),
        )
        if message.is_new and len(message.headers.getall("Host", ())) != 1:
            raise ValueError("not one host, which RFC 9112, section 3.2, asks for")
        self._newest = Body(self._hold)
        self._waiting.append((message, self._newest))

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._unfinished_bytes = 0
        self._newest.feed(data)

    def on_message_complete(self) -> None:
        """The body is whole, or there is none."""
        self._unfinished_bytes = 0
        if not self._is_offer:
            self._newest.end()

    # What answers ask for.

    async def drained(self) -> None:
        """Wait until the caller has caught up.

        :raises ConnectionError: if the caller has left
        """
        while self.is_writing_paused:
            self._drained = self._loop.create_future()
            try:
                await self._drained
            finally:
                self._drained = None
        if self.transport is None:
            raise ConnectionResetError("the connection is closed")

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
        return request.message.closes or self._shared.is_stopping

    def _parse(self, data: bytes) -> None:
        """Parse as much as may wait."""
        self._unparsed = b""
        if data.count(_END_OF_HEAD) + self._places() < _MAX_WAITING:
            self._feed(data)
        else:
            # Head by head: each brings one more at most.
            view, start = memoryview(data), 0
            while start < len(data) and not self._is_deaf and self._places() < _MAX_WAITING:
                found = data.find(_END_OF_HEAD, start)
                end = len(data) if found < 0 else found + len(_END_OF_HEAD)
                self._feed(view[start:end])
                start = end
            if not self._is_deaf:
                self._unparsed = data[start:]
        self._is_full = self._places() >= _MAX_WAITING
        self._read_or_not()

    def _feed(self, data: bytes | memoryview) -> None:
        parser = self._parser
        assert parser is not None  # noqa: S101  # asked before
        self._unfinished_bytes += len(data)
        while True:
            try:
                parser.feed_data(data)
            except HttpParserUpgrade as offer:
                parser = self._parser = self._resumed()
                data = data[offer.args[0] :]
                if data:
                    continue
            except HttpParserError:
                self._garble()
            else:
                # A line and a header, say, each of which may be as long.
                if self._unfinished_bytes > 2 * self._shared.max_header_bytes:
                    self._is_too_long = True
                    self._garble()
            return

    def _resumed(self) -> HttpRequestParser:
        """A parser that goes on where another protocol was offered.

        Nobody here speaks any, so what follows is HTTP. The first parser ends there, without the body that the request
        may have; this one is told of that, and of nothing else.
        """
        self._is_offer, self._is_resumed = False, True
        parser = HttpRequestParser(self)
        framing = [pair for pair in self._fields if pair[0].lower() in _FRAMING_HEADERS]
        parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % head.header_lines(dict(framing)))
        return parser

    def _garble(self) -> None:
        """What comes is no HTTP."""
        self._is_deaf = True
        problem = Unreadable.TOO_LONG if self._is_too_long else Unreadable.MALFORMED
        if self._newest.is_whole:
            self._waiting.append((problem, NO_BODY))
        elif self._waiting and self._waiting[-1][1] is self._newest:
            # Its body is broken before anybody has begun with it.
            self._waiting[-1] = problem, NO_BODY
        else:
            self._newest.fail()

    def _bound(self, length: int) -> None:
        if length > self._shared.max_header_bytes:
            self._is_too_long = True
            raise ValueError("too long")

    def _places(self) -> int:
        """How many requests there are, the one that is answered included."""
        return len(self._waiting) + self._is_busy

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
        message, body = self._waiting.popleft()
        if isinstance(message, Unreadable):
            self._refuse(message)
            return
        self._is_busy = True
        work = self._serve(Request(self, message, body))
        if sys.version_info >= (3, 12):
            # Begins at once; what it sets in its context stays its own.
            task = asyncio.Task(work, loop=self._loop, eager_start=True)
            self.task = None if task.done() else task
        else:
            self.task = self._loop.create_task(work)

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
        written = head.whole(request.message, reply.status, reply.lines, len(body), closes=closes)
        send(self, written if request.method == "HEAD" else written + body)
        return not closes

    def _end(self, *, goes_on: bool) -> None:
        self.task = None
        if not goes_on or self._is_finishing or self._parser is None:
            self._is_busy = False
            self.close()
            return
        if self._is_full and len(self._waiting) <= _FEW_WAITING:
            # While this is still busy, so that it does not begin twice.
            self._parse(self._unparsed)
        self._is_busy = False
        if self._waiting:
            # Not here: many that wait would be begun inside each other.
            self._loop.call_soon(self._begin_next)
        else:
            self._rest()

    def _begin_next(self) -> None:
        if self._waiting and not self._is_busy:
            self._begin()

    def _refuse(self, problem: Unreadable) -> None:
        answer = self._shared.refuse(problem)
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
