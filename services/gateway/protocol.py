"""What aiohttp answers of itself, in our shape: whoever speaks no HTTP, or too much of it, learns no more than that."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import ERROR

from kit.errors import Invalid
from services.gateway.convert import failure

SERVER: Final = "turnout"
JSON: Final = "application/json"

_MALFORMED: Final = ERROR._replace(version=HttpVersion11)


class Protocol(web.RequestHandler):
    """One connection."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no request; the connection ends behind it.

        What others send is no error of ours, and its text is not repeated: neither to them nor in the log.
        """
        if not isinstance(exc, HttpProcessingError) or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        failed = failure.failure_of(_too_long() if _is_too_long(exc) else _malformed())
        response = web.Response(
            status=failed.status, body=failed.body, headers={"Content-Type": JSON, **failed.headers}
        )
        response.headers["Server"] = SERVER
        response.force_close()
        return response


def make_request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[Any],
) -> web.BaseRequest:
    """A request, which stands for what could not be read as one, too: that is answered as HTTP/1.1."""
    if message is ERROR:
        message = _MALFORMED
    return web.BaseRequest(message, payload, protocol, writer, task, task.get_loop())


def _is_too_long(error: HttpProcessingError) -> bool:
    return isinstance(error, LineTooLong) or error.message.startswith("Too many headers")


def _too_long() -> Invalid:
    return Invalid("the request line or the headers are longer, or more, than is taken", reason="HEADERS_TOO_LARGE")


def _malformed() -> Invalid:
    return Invalid("this is not a request of HTTP/1.1", reason="HTTP_MALFORMED")
