"""A connection that speaks HTTP/1.1: one request on it at a time, its answer told as it is parsed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from multidict import CIMultiDict, CIMultiDictProxy

from kit.egress.answer import EgressStream
from kit.egress.failures import Trouble

_MAX_FIELD_BYTES: Final = 8190
"""Of one header, as most servers have it."""
_MAX_FIELDS: Final = 128
_MAX_FRAMING_BYTES: Final = 64 * 1024
"""How much may come that is no part of a body: the head of an answer, a chunk's extension, trailers."""


class Wire(asyncio.Protocol):
    """An open connection.

    :param on_free: told when it may serve another request
    :param on_lost: told once when it is over
    """

    __slots__ = (
        "_answer",
        "_early",
        "_fields",
        "_framing_bytes",
        "_has_ended",
        "_is_interim",
        "_network",
        "_on_free",
        "_on_lost",
        "_parser",
        "_transport",
        "idle_since",
        "is_open",
        "was_used",
    )

    def __init__(self, on_free: Callable[[Wire], None], on_lost: Callable[[Wire], None]) -> None:
        self._on_free = on_free
        self._on_lost = on_lost
        self._parser: HttpResponseParser | None = _parser_for(self)
        self._answer: EgressStream | None = None
        self._fields: list[tuple[str, str]] = []
        self._framing_bytes = 0
        self._is_interim = False
        self._has_ended = False
        """Whether all that the server had to say was taken."""
        self._transport: asyncio.Transport
        self._network: asyncio.Transport
        """What is below TLS, or the same if there is none."""
        self._early = b""
        """What a server said before it was asked: that it is overloaded, say. It answers the first request, whose own
        answer would be told to a second."""
        self.is_open = False
        """Whether a request may go out on it."""
        self.was_used = False
        """Whether one went out on it."""
        self.idle_since = 0.0
        """The loop's time when it was last given back."""

    def send(self, request: bytes, answer: EgressStream) -> None:
        """Send a request, and tell `answer` what comes; what breaks tells it too."""
        self._answer = answer
        self._framing_bytes = 0
        self.was_used = True
        # Not waiting until all is sent: a server may refuse a large request before it has read it.
        self._transport.write(request)
        if self._early:
            self.data_received(self._early)

    def close(self) -> None:
        """Give up what has not come yet, and the connection. May be called again."""
        if not self.is_open:
            return
        self.is_open = False
        self._answer = None
        # Not `close`: who reads nothing, or does not answer the farewell of TLS, would keep it open.
        self._transport.abort()
        self._on_lost(self)

    def end(self) -> None:
        """As :meth:`close`; whoever reads is told."""
        self._fail(Trouble.DISCONNECTED)

    def pause(self) -> None:
        """Take nothing more from the network for now."""
        # Not above TLS: there, when the server ends, uvloop throws away what it has not deciphered yet.
        if self.is_open and not self._network.is_closing():
            self._network.pause_reading()

    def resume(self) -> None:
        """Take it again."""
        if self.is_open and not self._network.is_closing():
            self._network.resume_reading()

    def secured(self, transport: asyncio.Transport, network: asyncio.Transport) -> None:
        """It is open, and speaks TLS.

        :param transport: of what is said
        :param network: of what goes over the network
        """
        self.connection_made(transport)
        self._network = network
        # The loop may have handed on already what came behind the handshake.
        if len(self._early) > _MAX_FRAMING_BYTES:
            self.close()

    # What the loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = self._network = cast(asyncio.Transport, transport)
        self.is_open = True
        made = transport.get_extra_info("socket")
        if made is not None:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        answer, parser = self._answer, self._parser
        if answer is None or parser is None:
            # Nobody asked for anything, or not yet.
            if not self.was_used:
                self._early += data
            if self.was_used or len(self._early) > _MAX_FRAMING_BYTES:
                self.close()
            return
        if answer.patience is not None:
            answer.hear()
        self._framing_bytes += len(data)
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._fail(Trouble.MALFORMED)
        else:
            if self._framing_bytes > _MAX_FRAMING_BYTES and self._answer is not None:
                self._fail(Trouble.MALFORMED)

    def eof_received(self) -> None:
        """The server says nothing more."""
        self._has_ended = True

    def connection_lost(self, error: Exception | None) -> None:
        """It is over."""
        # The parser holds methods of this.
        self._parser = None
        answer, self._answer = self._answer, None
        if answer is not None:
            # What is held back has no end: some of it was not taken.
            is_cut = answer.is_paused and not self._has_ended
            if error is None and answer.ends_with_connection and not is_cut:
                answer.end()
            else:
                answer.is_unheard = not (self._framing_bytes or answer.status)
                answer.fail(Trouble.DISCONNECTED)
        if self.is_open:
            self.is_open = False
            self._on_lost(self)

    # What the parser tells. What is raised here ends the parsing.

    def on_message_begin(self) -> None:
        """An answer begins, maybe one that nobody asked for."""
        if self._answer is None:
            raise ValueError("an answer without a request")
        self._fields = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which nobody reads."""
        if len(name) + len(value) > _MAX_FIELD_BYTES or len(self._fields) >= _MAX_FIELDS:
            raise ValueError("the head is too large")
        # Where it frames the message, the parser obeys a name with spaces behind it.
        name = name.rstrip()
        self._fields.append((name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape")))

    def on_headers_complete(self) -> None:
        """The head is whole."""
        assert self._parser is not None  # noqa: S101  # it is at work
        status = self._parser.get_status_code()
        if status == 101:
            # Nothing here asks for another protocol, and behind a switch there is no HTTP to read.
            raise ValueError("another protocol")
        self._is_interim = 100 <= status <= 199
        answer = self._answer
        if answer is None or self._is_interim:
            return
        answer.begin(status, CIMultiDictProxy(CIMultiDict(self._fields)))
        if answer.has_no_body:
            # The parser would wait for the body that the head tells of.
            self._answer = None
            answer.end()
            self.close()

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._framing_bytes = 0
        if self._answer is not None:
            self._answer.feed(data)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if self._is_interim:
            return
        assert self._parser is not None  # noqa: S101  # it is at work
        answer, self._answer = self._answer, None
        if answer is None:
            return
        answer.end()
        # A server that refuses a request before it has read it, may take the rest of it for the next one.
        if self._parser.should_keep_alive() and not (self._early or self._network.get_write_buffer_size()):
            self._on_free(self)
        else:
            self.close()

    def _fail(self, trouble: Trouble) -> None:
        answer = self._answer
        self.close()
        if answer is not None:
            answer.fail(trouble)


def _parser_for(wire: Wire) -> HttpResponseParser:
    parser = HttpResponseParser(wire)
    # What servers get wrong and everybody reads. It would be dangerous for a server, which others may stand before.
    parser.set_dangerous_leniencies(
        lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
    )
    return parser
