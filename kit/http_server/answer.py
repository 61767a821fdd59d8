"""What is answered: at once, or in pieces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from kit.http_server import head

if TYPE_CHECKING:
    from kit.http_server.connection import Connection
    from kit.http_server.request import Request

JSON: Final = "application/json"

_LAST_CHUNK: Final = b"0\r\n\r\n"


class Answer:
    """An answer that is whole.

    :param status: one whose answers have a body (not 1xx, 204 or 304)
    :raises ValueError: for a header that HTTP cannot carry
    """

    __slots__ = ("body", "closes", "lines", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.lines = head.header_lines(headers)
        self.body = body
        self.closes = False
        """Whether the connection ends behind it, whatever the caller wishes."""


class Stream:
    """An answer in pieces, begun by `Request.begin`.

    :raises ValueError: for a header that HTTP cannot carry
    """

    __slots__ = ("_connection", "_has_body", "_has_chunks", "closes", "has_ended", "lines", "status")

    def __init__(self, headers: Mapping[str, str], status: int = 200) -> None:
        self.status = status
        self.lines = head.header_lines(headers)
        self.closes = False
        """Whether the connection ends behind it."""
        self.has_ended = False
        self._connection: Connection | None = None
        self._has_chunks = True
        self._has_body = True

    async def begin(self, connection: Connection, request: Request, piece: bytes = b"", *, closes: bool) -> None:
        """Send the head, and a first piece with it; wait while the caller reads too slowly.

        :raises ConnectionError: if the caller has left
        """
        self._connection = connection
        self._has_chunks, self._has_body = request.is_new, request.method != "HEAD"
        # Without chunks, only the connection's end says that this was all.
        self.closes = closes or not self._has_chunks
        written = head.unmeasured(request, self.status, self.lines, closes=self.closes)
        send(connection, written + self._framed(piece))
        if connection.is_writing_paused:
            await connection.drained()

    async def write(self, piece: bytes) -> None:
        """Send a piece; wait while the caller reads too slowly.

        :raises ConnectionError: if the caller has left
        """
        connection = self._connection
        assert connection is not None  # noqa: S101  # of a stream that has begun
        if framed := self._framed(piece):
            send(connection, framed)
        if connection.is_writing_paused:
            await connection.drained()

    def end(self, piece: bytes = b"") -> None:
        """Send the last piece, and that it was the last. Whoever must not look whole is not ended.

        :raises ConnectionError: if the caller has left
        """
        assert self._connection is not None  # noqa: S101  # of a stream that has begun
        self.has_ended = True
        written = self._framed(piece)
        if self._has_chunks and self._has_body:
            written += _LAST_CHUNK
        if written:
            send(self._connection, written)

    def _framed(self, piece: bytes) -> bytes:
        if not piece or not self._has_body:
            # A chunk without bytes would be the end.
            return b""
        return b"%x\r\n%b\r\n" % (len(piece), piece) if self._has_chunks else piece


Reply = Answer | Stream


def send(connection: Connection, data: bytes) -> None:
    """Write without waiting.

    :raises ConnectionError: if nobody is there any more
    """
    transport = connection.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the connection is closed")
    transport.write(data)
