"""One HTTP/1.1 exchange on a connection of aiohttp's pool.

aiohttp pools, connects, speaks TLS and parses. What its `ClientSession` does beyond that for every request (cookies,
redirects, middlewares, kinds of payload, a task to write with) is not wanted here, and took more than all the rest:
90 to 150 µs of CPU a call where this takes 55.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Final

import aiohttp
from aiohttp import http_exceptions
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.helpers import TimeoutHandle
from multidict import CIMultiDictProxy
from yarl import URL

from kit.egress.failures import NotHttp

_CEILING_SECONDS: Final = 5
"""From there on aiohttp rounds time-outs up to whole seconds, so that one timer serves many."""
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""RFC 9110, section 5.6.2: a method, or the name of a header."""
_FORBIDDEN: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
"""What would end a header, or has no place in one."""
_WITHOUT_BODY: Final = frozenset(("HEAD",))


class Route:
    """What is the same for all requests to one URL.

    :param session: whose pool is used
    """

    __slots__ = ("_head", "_loop", "_request")

    def __init__(self, url: URL, session: aiohttp.ClientSession) -> None:
        # What a pool wants to know of a request: where to, and over TLS or not.
        self._loop = asyncio.get_running_loop()
        self._request = aiohttp.ClientRequest("GET", url, loop=self._loop, session=session)
        self._head = (
            f" {url.raw_path_qs} HTTP/1.1\r\nHost: {url.host_port_subcomponent}\r\n"
            # Answers are small or streamed: compression would cost both sides time and hold events back.
            "Accept-Encoding: identity\r\nUser-Agent: turnout\r\n"
        )

    async def send(
        self,
        pool: aiohttp.BaseConnector,
        method: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout: aiohttp.ClientTimeout,
    ) -> Answer:
        """Send a request, and wait for the head of its answer.

        :param timeout: `total` counts from here to the end of the body; `sock_read` bounds each wait for bytes
        :raises ValueError: for a method or a header that HTTP cannot carry
        :raises aiohttp.ClientError: if there is no connection, or it breaks
        :raises TimeoutError: `ConnectionTimeoutError`, `ServerTimeoutError`, or none of these for the total
        """
        written = self._written(method, headers, body)
        clock = TimeoutHandle(self._loop, timeout.total, _CEILING_SECONDS)
        timer, alarm = clock.timer(), clock.start()
        try:
            with timer:
                try:
                    connection = await pool.connect(self._request, traces=[], timeout=timeout)
                except TimeoutError as error:
                    raise aiohttp.ConnectionTimeoutError(str(error)) from error
                answer = Answer(connection, alarm)
                try:
                    protocol = connection.protocol
                    assert protocol is not None  # noqa: S101  # of a connection that is fresh
                    protocol.set_response_params(
                        timer=timer,
                        skip_payload=method in _WITHOUT_BODY,
                        # Without a length, a body ends where the connection does.
                        read_until_eof=True,
                        # Each is a timer, set anew for every read: none where the total would be up first.
                        read_timeout=None if _is_up_first(timeout) else timeout.sock_read,
                        timeout_ceil_threshold=_CEILING_SECONDS,
                    )
                    await answer.begin(protocol, written)
                except BaseException:
                    answer.close()
                    raise
        except BaseException:
            if alarm is not None:
                alarm.cancel()
            raise
        return answer

    def _written(self, method: str, headers: Mapping[str, str], body: bytes) -> bytes:
        lines = [method, self._head]
        if not _TOKEN.fullmatch(method):
            raise ValueError("the method is no token")
        for name, value in headers.items():
            if not _TOKEN.fullmatch(name) or _FORBIDDEN.search(value):
                raise ValueError("a header has characters that have no place there")
            lines.append(f"{name}: {value}\r\n")
        if body or method not in ("GET", "HEAD"):
            lines.append(f"Content-Length: {len(body)}\r\n")
        lines.append("\r\n")
        return "".join(lines).encode() + body


def _is_up_first(timeout: aiohttp.ClientTimeout) -> bool:
    """Whether the total time is up before any silence can have lasted too long."""
    return timeout.total is not None and (timeout.sock_read is None or timeout.sock_read >= timeout.total)


class Answer:
    """The head of an answer, and its body as it comes."""

    __slots__ = ("_alarm", "_is_closed", "_left", "connection", "content", "headers", "status")

    def __init__(self, connection: Connection, alarm: asyncio.TimerHandle | None) -> None:
        self.connection: Connection | None = connection
        """None once the body has come whole, or nobody wants the rest."""
        self.status = 0
        self.headers: CIMultiDictProxy[str]
        self.content: aiohttp.StreamReader
        self._alarm = alarm
        self._is_closed = False
        self._left: set[Answer] | None = None

    async def begin(self, protocol: ResponseHandler, request: bytes) -> None:
        """Write the request, and wait for the head of its answer.

        :raises aiohttp.ClientError: if it does not come
        """
        if protocol.transport is None:
            raise aiohttp.ServerDisconnectedError
        protocol.transport.write(request)
        # Not waiting until all is sent: a server may refuse a large request before it has read it.
        protocol.start_timeout()
        while True:
            try:
                message, payload = await protocol.read()
            except http_exceptions.HttpProcessingError as error:
                raise NotHttp from error
            if not 100 <= message.code <= 199 or message.code == 101:
                break
        self.status, self.headers, self.content = message.code, message.headers, payload
        payload.on_eof(self._release)

    @property
    def closed(self) -> bool:
        """Whether nothing more is read."""
        return self._is_closed

    def close(self) -> None:
        """Give up what has not come yet, with the connection."""
        self._end()
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()

    def leave(self, seconds: float, left: set[Answer]) -> None:
        """Read no more. The connection is given back if the end of the body comes within so long, else closed.

        :param left: this is in it as long as that is open
        """
        self._end()
        if self.connection is not None:
            self._left = left
            left.add(self)
            self._alarm = asyncio.get_running_loop().call_later(seconds, self.close)

    def _release(self) -> None:
        """The body is whole: somebody else may have the connection."""
        connection = self.connection
        if connection is not None and (connection.protocol is None or not connection.protocol.upgraded):
            self._end()
            self.connection = None
            connection.release()

    def _end(self) -> None:
        self._is_closed = True
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._left is not None:
            self._left.discard(self)
            self._left = None
