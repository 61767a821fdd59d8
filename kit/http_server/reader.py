"""From bytes to requests. httptools parses: see docs/decisions/0021."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from multidict import CIMultiDict, CIMultiDictProxy

from kit.http_server.body import NO_BODY, Body
from kit.http_server.head import header_lines
from kit.http_server.request import Request

_MAX_HEADERS: Final = 100
_END_OF_HEAD: Final = b"\r\n\r\n"
_FRAMING_HEADERS: Final = frozenset(("content-length", "transfer-encoding"))
_OLD_VERSIONS: Final = frozenset(("0.9", "1.0"))


class Unreadable(Enum):
    """Why what came is no request."""

    MALFORMED = auto()
    TOO_LONG = auto()
    """Its first line, or a header; or it has too many of these."""


class Reader:
    """Makes requests of what comes on one connection.

    :param hold: told whether no more should be taken from the connection for now, because nobody reads a body
    :param max_header_bytes: of the request line, and of each header
    """

    __slots__ = (
        "_fields",
        "_hold",
        "_is_offer",
        "_is_resumed",
        "_is_too_long",
        "_max_header_bytes",
        "_parser",
        "_target",
        "_unfinished_bytes",
        "is_deaf",
        "newest",
        "requests",
        "unparsed",
    )

    def __init__(self, hold: Callable[[bool], None], *, max_header_bytes: int) -> None:
        self._hold = hold
        self._max_header_bytes = max_header_bytes
        self._parser: HttpRequestParser | None = HttpRequestParser(self)
        self._target = b""
        self._fields: list[tuple[str, str]] = []
        self._unfinished_bytes = 0
        """That came since anything was complete: a header that never ends, say."""
        self._is_too_long = False
        self._is_offer = False
        """Whether the request that is parsed offers another protocol."""
        self._is_resumed = False
        """Whether its head is parsed once more."""
        self.is_deaf = False
        """Whether what comes is no HTTP any more, or nobody wants it."""
        self.requests: deque[Request | Unreadable] = deque()
        """Whose heads are whole; what is no request is the last."""
        self.newest = NO_BODY
        """The body that the parser is in, or has been in last."""
        self.unparsed = b""
        """What came behind as many requests as there was room for."""

    def feed(self, data: bytes, room: int) -> None:
        """Parse what is unparsed and what has come.

        :param room: for so many more requests, at least; what may bring others stays unparsed
        """
        if self.unparsed:
            data, self.unparsed = self.unparsed + data, b""
        if self.is_deaf:
            return
        if data.count(_END_OF_HEAD) < room:
            self._parse(data)
            return
        view, start, most = memoryview(data), 0, len(self.requests) + room
        while start < len(data) and (left := most - len(self.requests)) > 0 and not self.is_deaf:
            end = _end_of_heads(data, start, left)
            self._parse(view[start:end])
            start = end
        self.unparsed = data[start:]

    def close(self) -> None:
        """Nobody wants more."""
        self.is_deaf = True
        self.requests.clear()
        # It holds methods of this, and the rest one of the connection, which would wait for the garbage collector.
        self._parser = None
        self._hold, self.newest = _ignore, NO_BODY

    # What the parser tells. What is raised here ends the parsing.

    def on_message_begin(self) -> None:
        """A request begins."""
        self._target, self._fields = b"", []

    def on_url(self, part: bytes) -> None:
        """What it asks for, or a part of that."""
        self._target += part
        if len(self._target) > self._max_header_bytes:
            self._is_too_long = True
            raise ValueError("too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which nobody reads."""
        self._unfinished_bytes = 0
        fields = self._fields
        if len(name) + len(value) > self._max_header_bytes or len(fields) >= _MAX_HEADERS:
            self._is_too_long = True
            raise ValueError("too long, or too many headers")
        fields.append((name.decode(), value.decode(errors="replace")))

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._unfinished_bytes = 0
        if self._is_resumed:
            self._is_resumed = False
            return
        parser = self._parser
        assert parser is not None  # noqa: S101  # it is at work
        self._is_offer = parser.should_upgrade()
        headers = CIMultiDictProxy(CIMultiDict(self._fields))
        is_new = parser.get_http_version() not in _OLD_VERSIONS
        if is_new and len(headers.getall("Host", ())) != 1:
            raise ValueError("not one host, which RFC 9112, section 3.2, asks for")
        if (
            "Transfer-Encoding" in headers
            and ",".join(headers.getall("Transfer-Encoding")).strip().lower() != "chunked"
        ):
            raise ValueError("a coding of the body that nobody here undoes")
        self.newest = Body(self._hold)
        request = Request(
            parser.get_method().decode(),
            self._target.decode(errors="replace"),
            headers,
            self.newest,
            is_new=is_new,
            # What was before HTTP/1.1 frames no body so: others on the way may see its end elsewhere (RFC 9112, section
            # 6.1).
            closes=not parser.should_keep_alive() or (not is_new and "Transfer-Encoding" in headers),
        )
        self.requests.append(request)

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._unfinished_bytes = 0
        self.newest.feed(data)

    def on_message_complete(self) -> None:
        """The body is whole, or there is none."""
        self._unfinished_bytes = 0
        if not self._is_offer:
            self.newest.end()

    def _parse(self, data: bytes | memoryview) -> None:
        parser = self._parser
        assert parser is not None  # noqa: S101  # there is one while this is not deaf
        self._unfinished_bytes += len(data)
        while True:
            try:
                parser.feed_data(data)
            except HttpParserUpgrade as offer:
                data = data[offer.args[0] :]
                resumed = self._resumed()
                if resumed is not None and data:
                    parser = resumed
                    continue
            except HttpParserError:
                self._garble()
            else:
                # A line and a header, say, each of which may be as long.
                if self._unfinished_bytes > 2 * self._max_header_bytes:
                    self._is_too_long = True
                    self._garble()
            return

    def _resumed(self) -> HttpRequestParser | None:
        """What goes on where another protocol was offered; None if what follows cannot be HTTP.

        Nobody here speaks any other. The first parser ends there, without the body that the request may have; this one
        is told of that, and of nothing else.
        """
        self._is_offer, self._is_resumed = False, True
        parser = self._parser = HttpRequestParser(self)
        framing = [pair for pair in self._fields if pair[0].lower() in _FRAMING_HEADERS]
        try:
            parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % header_lines(dict(framing)))
        except (HttpParserError, ValueError):
            # The first one did not look at how the body is framed.
            self._garble()
            return None
        return parser

    def _garble(self) -> None:
        """What comes is no HTTP."""
        self.is_deaf = True
        problem = Unreadable.TOO_LONG if self._is_too_long else Unreadable.MALFORMED
        if self.newest.is_whole:
            self.requests.append(problem)
        elif self.requests:
            # The body of the last is broken before anybody has begun with it.
            self.requests[-1] = problem
        else:
            self.newest.fail()


def _end_of_heads(data: bytes, start: int, count: int) -> int:
    """Where so many heads have ended at most."""
    for _ in range(count):
        found = data.find(_END_OF_HEAD, start)
        if found < 0:
            return len(data)
        start = found + len(_END_OF_HEAD)
    return start


def _ignore(_: bool) -> None:
    """Nobody is told."""
