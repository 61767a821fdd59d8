"""What is asked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from multidict import CIMultiDictProxy

from kit.errors import Deadline, Invalid, Violation
from kit.http_server.answer import Stream, send
from kit.http_server.body import Body, BrokenBody, keep

if TYPE_CHECKING:
    from kit.http_server.connection import Connection

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Request:
    """A request whose head has come.

    :param target: as it was written
    :param headers: case-insensitive
    :param is_new: whether the caller speaks HTTP/1.1, or says that it speaks something newer
    :param closes: whether its answer is the last of its connection
    """

    __slots__ = ("_body", "closes", "connection", "headers", "is_new", "method", "target")

    connection: Connection
    """On which it came; set when it is its turn."""

    def __init__(
        self, method: str, target: str, headers: CIMultiDictProxy[str], body: Body, *, is_new: bool, closes: bool
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.is_new = is_new
        self.closes = closes
        self._body = body

    @property
    def is_whole(self) -> bool:
        """Whether its body, if it has one, has come to its end."""
        return self._body.is_whole

    async def body(self, max_bytes: int, timeout_seconds: float) -> bytes:
        """All of it.

        :raises Invalid: `BODY_TOO_LARGE`, `BODY_MALFORMED`, `CONTENT_ENCODING_UNSUPPORTED`
        :raises Deadline: `BODY_TOO_SLOW`
        """
        encoding = self.headers.get("Content-Encoding")
        if encoding is not None and encoding.lower() != "identity":
            raise Invalid("the body must not be compressed", reason="CONTENT_ENCODING_UNSUPPORTED")
        if self._body.is_whole:
            # It came with the head, as most do.
            body = self._body.taken()
            if len(body) > max_bytes:
                raise _too_large(max_bytes)
            return body
        length = self.headers.get("Content-Length")
        if length is not None and int(length) > max_bytes:
            raise _too_large(max_bytes)
        if self.is_new and self.headers.get("Expect", "").lower() == "100-continue":
            send(self.connection, _CONTINUE)
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._read(max_bytes)
        except TimeoutError:
            raise Deadline(
                f"the body did not arrive within {timeout_seconds:g} seconds", reason="BODY_TOO_SLOW"
            ) from None
        except BrokenBody:
            raise Invalid("the body does not arrive as HTTP says", reason="BODY_MALFORMED") from None

    async def begin(self, stream: Stream, piece: bytes = b"") -> None:
        """Begin to answer it in pieces.

        :raises ConnectionError: if the caller has left
        """
        closes = self.connection.closes_after(self)
        await stream.begin(self.connection, self, piece, closes=closes)

    def cut(self) -> None:
        """Close the connection behind what is written."""
        self.connection.close()

    async def linger(self, timeout_seconds: float) -> bool:
        """Read what nobody asked for, so that the caller gets to read its answer; whether that was all."""
        try:
            async with asyncio.timeout(timeout_seconds):
                while await self._body.read():
                    pass
        except (TimeoutError, BrokenBody):
            return False
        return True

    async def _read(self, max_bytes: int) -> bytes:
        pieces: list[bytes | bytearray] = []
        size = 0
        while piece := await self._body.read():
            size += len(piece)
            if size > max_bytes:
                raise _too_large(max_bytes)
            keep(pieces, piece)
        return b"".join(pieces)


def path_of(target: str) -> str:
    """The path of a request's target, which proxies may give in absolute form (RFC 9112, section 3.2.2)."""
    path = target.partition("?")[0]
    if path.startswith("/"):
        return path
    scheme, mark, rest = path.partition("://")
    if mark and scheme.lower() in ("http", "https"):
        path = "/" + rest.partition("/")[2]
    return path


def _too_large(max_bytes: int) -> Invalid:
    message = f"must be at most {max_bytes} bytes"
    return Invalid(f"the body {message}", reason="BODY_TOO_LARGE", violations=(Violation("body", message),))
