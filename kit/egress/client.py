"""The HTTP client: one pool of connections, and every call bounded in time and size."""

from __future__ import annotations

import asyncio
import functools
import math
import ssl
from collections.abc import Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Final, Self

from multidict import CIMultiDictProxy

from kit.abreast import Abreast
from kit.egress import failures
from kit.egress.answer import EgressStream
from kit.egress.connector import Connector
from kit.egress.failures import Trouble
from kit.egress.policy import EgressPolicy, parse_url, refusal_of_host
from kit.egress.pool import Pool
from kit.egress.resolver import CheckedResolver, Resolver, SystemResolver
from kit.egress.target import Target
from kit.egress.wire import Wire
from kit.errors import AppError
from kit.values import Value

_FRAMING_HEADERS = frozenset(
    ("connection", "content-length", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")
)
"""What says where a message ends on a connection that other callers use next: never a caller's to set."""
_IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))
"""RFC 9110, section 9.2.2."""
_REMEMBERED_URLS = 1024
_WITHOUT_BODY: Final = frozenset(("HEAD",))
_STALE_SECONDS: Final = 1.0
"""A connection that the server had closed says so within a round trip. What ends later was being worked on."""


class Timeouts(Value):
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
        idle = self.idle_seconds
        if not (
            0 < self.total_seconds < math.inf
            and 0 < self.connect_seconds < math.inf
            and 0 < self.first_byte_seconds < math.inf
            and (idle is None or 0 < idle < math.inf)
        ):
            raise ValueError(f"time-outs are finite numbers of seconds above 0, unlike some of {self}")


class EgressResponse(Value):
    """A whole answer, of any status; redirects are answers too."""

    status: int
    headers: CIMultiDictProxy[str]
    """Case-insensitive."""
    body: bytes
    """Decompressed."""


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
    :param abreast: with whom requests for whole answers are sent together; without it they are not
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
        abreast: Abreast | None = None,
    ) -> None:
        self._policy = policy
        self._resolver = resolver or SystemResolver()
        self._tls = tls
        self._max_connections = max_connections
        self._max_connections_per_host = max_connections_per_host
        self._keepalive_seconds = keepalive_seconds
        self._dns_cache_seconds = dns_cache_seconds
        self._dns_cache_names = dns_cache_names
        self._abreast = abreast or Abreast()
        self._names: CheckedResolver | None = None
        self._pool: Pool | None = None
        # A process calls few URLs, many times.
        self._target = functools.lru_cache(_REMEMBERED_URLS)(self._parsed)

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._names = CheckedResolver(
            self._resolver,
            self._policy,
            remember_seconds=self._dns_cache_seconds,
            remember_names=self._dns_cache_names,
        )
        self._pool = Pool(
            Connector(self._names, self._policy, self._tls).connect,
            limit=self._max_connections,
            limit_per_place=self._max_connections_per_host,
            keep_seconds=self._keepalive_seconds,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pool, self._pool = self._pool, None
        if pool is not None and self._names is not None:
            self._names.close()
            # What is remembered of URLs belongs to the pool.
            self._target.cache_clear()
            await pool.close()

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
        answer = await self._open(method, url, headers, body, timeout, max_response_bytes, is_repeatable, is_whole=True)
        try:
            return EgressResponse(answer.status, answer.headers, await answer.read())
        finally:
            answer.close()

    def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes = b"",
        timeout: Timeouts,
        max_response_bytes: int,
        is_repeatable: bool = False,
    ) -> AbstractAsyncContextManager[EgressStream]:
        """Send a request and hand out the answer as it comes. Leaving early closes the connection.

        :raises AppError: as :meth:`request`, on entering and at each chunk
        """
        return _Streaming(
            self._open(method, url, headers, body, timeout, max_response_bytes, is_repeatable, is_whole=False)
        )

    async def _open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout: Timeouts,
        max_response_bytes: int,
        is_repeatable: bool,
        *,
        is_whole: bool,
    ) -> EgressStream:
        if self._pool is None:
            raise _unopened()
        target = self._target(url)
        if target.is_refused:
            raise failures.refused(target.origin)
        if not _FRAMING_HEADERS.isdisjoint(map(str.lower, headers)):
            raise failures.invalid_request("headers", f"must not have any of {', '.join(sorted(_FRAMING_HEADERS))}")
        try:
            request = target.request(method, headers, body)
        except ValueError:
            raise failures.invalid_request("headers", "must not hold control characters") from None
        if is_whole:
            # Before a connection is taken, so that who is cancelled meanwhile holds none.
            await self._abreast.step()
        pool = self._pool
        if pool is None:
            raise _unopened()
        idle = timeout.first_byte_seconds if timeout.idle_seconds is None else timeout.idle_seconds
        wire, begun, is_again = pool.kept(target.place), self._loop.time(), False
        while True:
            if wire is None:
                wire = await self._connected(pool, target, timeout, begun, is_new=is_again)
            is_kept = wire.was_used
            answer = EgressStream(
                wire,
                self._loop,
                target.origin,
                max_bytes=max_response_bytes,
                has_no_body=method in _WITHOUT_BODY,
                idle_seconds=idle if idle < timeout.total_seconds else None,
            )
            sent = self._loop.time()
            answer.limit(timeout.total_seconds - (sent - begun), timeout.first_byte_seconds)
            wire.send(request, answer)
            try:
                await answer.begun(is_wanted_whole=is_whole)
            except AppError:
                is_stale = is_kept and answer.is_unheard and self._loop.time() - sent <= _STALE_SECONDS
                if is_again or not (is_stale and (is_repeatable or method in _IDEMPOTENT)):
                    raise
            except BaseException:
                answer.close()
                raise
            else:
                return answer
            # A kept connection turned out to be closed: once more, on one that was not kept.
            is_again, wire = True, None

    async def _connected(self, pool: Pool, target: Target, timeout: Timeouts, begun: float, *, is_new: bool) -> Wire:
        left = timeout.total_seconds - (self._loop.time() - begun)
        late = Trouble.CONNECT if timeout.connect_seconds < left else Trouble.TOTAL
        failure: AppError
        try:
            async with asyncio.timeout(min(left, timeout.connect_seconds)) as clock:
                return await pool.made(target.place, is_new=is_new)
        except OSError as error:
            # The operating system's own ETIMEDOUT is a TimeoutError as well.
            if clock.expired():
                failure = failures.failure_of(late, target.origin)
            else:
                failure = failures.no_connection(error, target.origin)
        raise failure

    def _parsed(self, text: str) -> Target:
        assert self._pool is not None  # noqa: S101  # looked at before
        url = parse_url(text, self._policy)
        assert url.raw_host is not None  # noqa: S101  # `parse_url` has seen to both
        assert url.port is not None  # noqa: S101
        place = self._pool.place(url.raw_host, url.port, is_tls=url.scheme == "https")
        return Target(url, place, is_refused=refusal_of_host(url, self._policy) is not None)


def _unopened() -> RuntimeError:
    return RuntimeError("Egress is used outside its context")


class _Streaming(AbstractAsyncContextManager[EgressStream]):
    """An answer that is handed out as it comes. A class, because a generator costs each stream some microseconds."""

    __slots__ = ("_answer", "_opening")

    def __init__(self, opening: Coroutine[Any, Any, EgressStream]) -> None:
        self._opening = opening

    async def __aenter__(self) -> EgressStream:
        self._answer = await self._opening
        return self._answer

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._answer.close()
