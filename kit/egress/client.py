"""The HTTP client: one pool of connections, and every call bounded in time and size."""

from __future__ import annotations

import functools
import math
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from multidict import CIMultiDictProxy

from kit.egress import failures
from kit.egress.answer import EgressStream
from kit.egress.policy import EgressPolicy, parse_url, refusal_of_host
from kit.egress.resolver import CheckedResolver, Resolver, SystemResolver, checked_sockets
from kit.egress.wire import Answer, Route
from kit.values import value

_FRAMING_HEADERS = frozenset(
    ("connection", "content-length", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")
)
"""What says where a message ends on a connection that other callers use next: never a caller's to set."""
_IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))
"""RFC 9110, section 9.2.2."""
_REMEMBERED_URLS = 1024
_STALE_SECONDS: Final = 1.0
"""A connection that the server had closed says so within a round trip. What ends later was being worked on."""


@value
class Timeouts:
    """Bounds of one call, in seconds, all finite and above 0; one above 5 s may end up to 1 s later.

    :raises ValueError: for any other number
    """

    total_seconds: float
    """From the call to the last byte of the answer."""
    connect_seconds: float
    """To get a connection: wait for a free one, look the name up, connect, shake hands."""
    first_byte_seconds: float
    """From the request's leaving for the connection to the answer's first byte."""
    idle_seconds: float | None = None
    """Longest silence inside the body of the answer; None: as `first_byte_seconds`."""

    def __post_init__(self) -> None:
        for seconds in (self.total_seconds, self.connect_seconds, self.first_byte_seconds, self.idle_seconds):
            # aiohttp takes 0 and less for "never".
            if seconds is not None and not 0 < seconds < math.inf:
                raise ValueError(f"a time-out is a finite number of seconds above 0, not {seconds}")


@value
class EgressResponse:
    """A whole answer, of any status; redirects are answers too."""

    status: int
    headers: CIMultiDictProxy[str]
    """Case-insensitive."""
    body: bytes
    """Decompressed."""


@dataclass(frozen=True, slots=True)
class _Target:
    route: Route
    origin: str
    is_refused: bool


@dataclass(slots=True)
class _Sending:
    """One request under way."""

    has_connected: bool = False
    """Whether a connection was made for it; else it went out on a kept one."""


_SENDING: ContextVar[_Sending | None] = ContextVar("sending", default=None)


class Egress:
    """Outbound HTTP/1.1, an async context manager that owns one pool of kept-alive connections.

    Follows no redirects, keeps no cookies, reads no proxy or credentials from the environment. A name is looked up
    when a connection is made, or remembered from shortly before; what was checked is what is connected to. Methods that
    HTTP calls idempotent are sent once more when a kept connection turns out to be closed; POST and PATCH only if their
    caller says that they may be.

    :param resolver: looks names up; the operating system's by default
    :param tls: trust for https; the system's roots by default
    :param max_connections: open at once; further calls wait, within `connect_seconds`
    :param max_connections_per_host: the same per scheme, host and port
    :param keepalive_seconds: how long an unused connection is kept
    :param dns_cache_seconds: how long permitted addresses of a name are remembered
    :param dns_cache_names: how many names are remembered
    """

    def __init__(
        self,
        policy: EgressPolicy,
        *,
        resolver: Resolver | None = None,
        tls: ssl.SSLContext | None = None,
        max_connections: int = 1024,
        max_connections_per_host: int = 256,
        keepalive_seconds: float = 30,
        dns_cache_seconds: int = 30,
        dns_cache_names: int = 1024,
    ) -> None:
        self._policy = policy
        self._resolver = resolver or SystemResolver()
        self._tls = tls
        self._max_connections = max_connections
        self._max_connections_per_host = max_connections_per_host
        self._keepalive_seconds = keepalive_seconds
        self._dns_cache_seconds = dns_cache_seconds
        self._dns_cache_names = dns_cache_names
        self._session: aiohttp.ClientSession | None = None
        self._left: set[Answer] = set()
        """Read by nobody any more, though not over. Each is here for half a second at most, and holds a connection of
        the pool until that breaks, so the pool bounds them."""
        # A process calls few URLs, many times. The parsed URL also keeps what aiohttp derives from it.
        self._target = functools.lru_cache(_REMEMBERED_URLS)(self._parsed)

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            resolver=CheckedResolver(self._resolver, self._policy),
            socket_factory=_noted(checked_sockets(self._policy)),
            ssl=True if self._tls is None else self._tls,
            limit=self._max_connections,
            limit_per_host=self._max_connections_per_host,
            keepalive_timeout=self._keepalive_seconds,
            ttl_dns_cache=self._dns_cache_seconds,
            dns_cache_max_size=self._dns_cache_names,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            for answer in list(self._left):
                answer.close()
            # What is remembered of URLs belongs to the session.
            self._target.cache_clear()
            await session.close()

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes = b"",
        timeout: Timeouts,
        max_response_bytes: int,
        is_repeatable: bool = False,
    ) -> EgressResponse:
        """Send a request and read the whole answer.

        :param max_response_bytes: of the body, after decompression
        :param is_repeatable: whether a POST or PATCH may reach the server twice. It is then sent once more if the
            connection that it went out on had been kept, and ended within a second and before the head of an answer: so
            a server ends connections that it no longer wants, which it cannot tell while a request is on its way
        :raises Invalid: `EGRESS_URL_INVALID`, as :func:`check_url`; `EGRESS_REQUEST_INVALID` for a header that a caller
            may not set or that HTTP cannot carry
        :raises Denied: `EGRESS_ADDRESS_REFUSED`
        :raises Unavailable: `EGRESS_NAME_UNRESOLVED`; `EGRESS_CONNECTION_FAILED` (metadata `cause`: an errno's name,
            `TLS` or `DISCONNECTED`); `EGRESS_TIMEOUT` (metadata `phase`: `connect`, `first_byte`, `read` or `total`);
            `EGRESS_RESPONSE_TOO_LARGE`; `EGRESS_MALFORMED_RESPONSE`. A body without a length ends where the connection
            does, so there a cut one passes for whole
        """
        answer = await self._open(method, url, headers, body, timeout, max_response_bytes, is_repeatable)
        try:
            return EgressResponse(answer.status, answer.headers, await answer.read())
        finally:
            answer.close()

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes = b"",
        timeout: Timeouts,
        max_response_bytes: int,
        is_repeatable: bool = False,
    ) -> AsyncIterator[EgressStream]:
        """Send a request and hand out the answer as it comes. Leaving early closes the connection.

        :raises AppError: as :meth:`request`, on entering and at each chunk
        """
        answer = await self._open(method, url, headers, body, timeout, max_response_bytes, is_repeatable)
        try:
            yield answer
        finally:
            answer.close()

    async def _open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout: Timeouts,
        max_response_bytes: int,
        is_repeatable: bool,
    ) -> EgressStream:
        if self._session is None:
            raise RuntimeError("Egress is used outside its context")
        target = self._target(url)
        if target.is_refused:
            raise failures.refused(target.origin)
        if not _FRAMING_HEADERS.isdisjoint(map(str.lower, headers)):
            raise failures.invalid_request("headers", f"must not have any of {', '.join(sorted(_FRAMING_HEADERS))}")
        failure = None
        try:
            if is_repeatable or method in _IDEMPOTENT:
                answer = await self._send_again(method, target.route, headers, body, timeout)
            else:
                answer = await self._send(method, target.route, headers, body, timeout)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            failure = failures.failure_of(error, target.origin, failures.Phase.FIRST_BYTE)
        if failure is not None:
            raise failure
        if answer.status == 101:
            # Nothing here asks for another protocol, and behind a switch there is no HTTP to read.
            answer.close()
            raise failures.malformed(target.origin)
        idle = timeout.idle_seconds
        if idle is not None and idle >= timeout.total_seconds:
            # The total is up first.
            idle = math.inf
        return EgressStream(answer, target.origin, idle, max_response_bytes, self._left)

    def _parsed(self, text: str) -> _Target:
        assert self._session is not None  # noqa: S101  # looked at before
        url = parse_url(text, self._policy)
        host = f"[{url.raw_host}]" if ":" in (url.raw_host or "") else url.raw_host
        is_refused = refusal_of_host(url, self._policy) is not None
        return _Target(Route(url, self._session), f"{url.scheme}://{host}:{url.port}", is_refused)

    def _send(
        self, method: str, route: Route, headers: Mapping[str, str], body: bytes, timeout: Timeouts
    ) -> Awaitable[Answer]:
        assert self._session is not None  # noqa: S101  # looked at before
        assert self._session.connector is not None  # noqa: S101  # it is open
        limits = aiohttp.ClientTimeout(
            total=timeout.total_seconds, connect=timeout.connect_seconds, sock_read=timeout.first_byte_seconds
        )
        return route.send(self._session.connector, method, headers, body, limits)

    async def _send_again(
        self, method: str, route: Route, headers: Mapping[str, str], body: bytes, timeout: Timeouts
    ) -> Answer:
        """Send, and once more if a kept connection turns out to be closed."""
        sending = _Sending()
        begun, token = time.monotonic(), _SENDING.set(sending)
        try:
            return await self._send(method, route, headers, body, timeout)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            took = time.monotonic() - begun
            if sending.has_connected or took > _STALE_SECONDS or took >= timeout.total_seconds:
                raise
        finally:
            _SENDING.reset(token)
        return await self._send(
            method, route, headers, body, replace(timeout, total_seconds=timeout.total_seconds - took)
        )


def _noted(make: Callable[[tuple[Any, ...]], socket.socket]) -> Callable[[tuple[Any, ...]], socket.socket]:
    """As `make`; and the request that wants a connection learns that it got one of its own."""

    def made(address_info: tuple[Any, ...]) -> socket.socket:
        if (sending := _SENDING.get()) is not None:
            sending.has_connected = True
        return make(address_info)

    return made
