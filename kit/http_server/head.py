"""The head of an answer, as bytes."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kit.http_server.request import Request

SERVER: Final = "turnout"

_FORBIDDEN: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
"""What would end a header, or has no place in one (RFC 9110, section 5.5)."""
_STATUS_LINES: Final = {each.value: f"1 {each.value} {each.phrase}\r\n".encode() for each in HTTPStatus}
"""From the minor version's digit on."""
_ENDS: Final = {
    (True, False): b"\r\n",
    (True, True): b"Connection: close\r\n\r\n",
    (False, False): b"Connection: keep-alive\r\n\r\n",
    (False, True): b"\r\n",
}
"""By whether the caller speaks HTTP/1.1, and whether the connection closes: said if it is not the version's own way."""
_SERVER_LINE: Final = f"Server: {SERVER}\r\n".encode()
_SERVER_AND_LENGTH: Final = _SERVER_LINE + b"Content-Length: "


class _Clock:
    """The `Date` of all answers, written once a second."""

    __slots__ = ("_line", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._line = b""

    def line(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second, self._line = second, f"Date: {formatdate(second, usegmt=True)}\r\n".encode()
        return self._line


_clock = _Clock()


def header_lines(headers: Mapping[str, str]) -> bytes:
    """Headers, each with its end.

    :raises ValueError: for what HTTP cannot carry: a line's end in a value would begin a header of somebody else's
    """
    lines = [f"{name}: {value}" for name, value in headers.items()]
    text = "".join(lines)
    # Nothing that is forbidden prints, so most need no closer look.
    if not text.isprintable() and _FORBIDDEN.search(text):
        raise ValueError("a header has characters that have no place there")
    lines.append("")
    return "\r\n".join(lines).encode()


def whole(request: Request | None, status: int, lines: bytes, length: int, *, closes: bool) -> bytes:
    """Of an answer whose length is known.

    :param request: what is answered; None is what could not be read
    :param lines: as of :func:`header_lines`
    :param length: of the body, in bytes
    :param closes: whether the connection ends behind it
    """
    is_new = request is None or request.is_new
    return b"".join(
        (
            b"HTTP/1.",
            _STATUS_LINES[status] if is_new else _old(status),
            lines,
            _SERVER_AND_LENGTH,
            b"%d\r\n" % length,
            _clock.line(),
            _ENDS[is_new, closes],
        )
    )


def unmeasured(request: Request, status: int, lines: bytes, *, closes: bool) -> bytes:
    """Of an answer in pieces: chunked, or up to the connection's end for those who do not know chunks."""
    is_new = request.is_new
    has_chunks = is_new and request.method != "HEAD"
    return b"".join(
        (
            b"HTTP/1.",
            _STATUS_LINES[status] if is_new else _old(status),
            lines,
            _SERVER_LINE,
            b"Transfer-Encoding: chunked\r\n" if has_chunks else b"",
            _clock.line(),
            _ENDS[is_new, closes],
        )
    )


def _old(status: int) -> bytes:
    return b"0" + _STATUS_LINES[status][1:]
