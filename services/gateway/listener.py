"""The HTTP server: its bounds, its traces and its end. What is answered is the servicers' matter."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from kit.errors import AppError, CannotStart, Invalid, NotFound, Unavailable
from kit.http_server.answer import JSON, Answer, Reply, Stream
from kit.http_server.connections import Connections
from kit.http_server.request import Request, path_of
from kit.telemetry import AttributeValue, Span, TraceContext, Tracing, log_trace_id, parse_traceparent
from services.gateway.convert import failure
from services.gateway.convert.failure import Failure
from services.gateway.unreadable import refuse

log = logging.getLogger(__name__)

_BACKLOG: Final = 1024
_BUSY_RETRY_SECONDS: Final = 1.0
_LAST_WORDS_SECONDS: Final = 0.2
"""For requests that are told to end because the drain is over."""


@dataclass(frozen=True, slots=True)
class ListenerOptions:
    """How the server behaves."""

    address: str
    """`host:port`; port 0 picks a free one."""
    shares_port: bool
    """Whether other processes listen on the same port (SO_REUSEPORT)."""
    max_body_bytes: int
    max_header_bytes: int
    max_concurrent_requests: int
    read_timeout_seconds: float
    keep_alive_seconds: float
    drain_seconds: float


class Visit:
    """One request while it is answered."""

    __slots__ = ("_options", "begun", "path", "place", "request")

    def __init__(self, options: ListenerOptions, request: Request, place: TraceContext, path: str) -> None:
        self._options = options
        self.request = request
        self.place = place
        """Where in its trace this is: the parent of all that is called for it."""
        self.path = path
        """As it was written: still with its percent signs."""
        self.begun: Stream | None = None
        """An answer that is on its way in pieces."""

    def body(self) -> Awaitable[bytes]:
        """All of it.

        :raises Invalid: `BODY_TOO_LARGE`, `BODY_MALFORMED`, `CONTENT_ENCODING_UNSUPPORTED`
        :raises Deadline: `BODY_TOO_SLOW`
        """
        options = self._options
        return self.request.body(options.max_body_bytes, options.read_timeout_seconds)

    async def begin(self, stream: Stream, piece: bytes = b"") -> None:
        """Send the head of an answer in pieces, and a first one; from now on a failure cannot change its status.

        :raises ConnectionError: if the caller has left
        """
        self.begun = stream
        await self.request.begin(stream, piece)

    def cut(self) -> None:
        """Close the connection behind what is written, so that nobody takes a broken answer for a whole one."""
        self.request.cut()


Handler = Callable[[Visit], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Route:
    """What is served under a path."""

    path: str
    """With `{name}` at its end if it stands for all paths that begin so."""
    handlers: Mapping[str, Handler]
    """By method."""
    is_probe: bool = False
    """Whether it is answered however busy the server is, and leaves no trace."""


class Listener:
    """Serves routes."""

    def __init__(self, routes: tuple[Route, ...], tracing: Tracing, options: ListenerOptions) -> None:
        self.options = options
        self._routes = {route.path: route for route in routes if not route.path.endswith("}")}
        self._prefixes = [(route.path[: route.path.index("{")], route) for route in routes if route.path.endswith("}")]
        self._offered = ", ".join(
            f"{method} {route.path}"
            for route in routes
            if not route.is_probe
            for method in route.handlers
            if method != "HEAD"
        )
        self._tracing = tracing
        self._loop = asyncio.get_running_loop()
        self._connections = Connections(
            self._answer,
            refuse,
            keep_alive_seconds=options.keep_alive_seconds,
            max_header_bytes=options.max_header_bytes,
        )
        self._sockets: asyncio.Server | None = None
        self._active = 0
        self._stopped_at: float | None = None
        self.port = 0

    @property
    def is_stopping(self) -> bool:
        """Whether a stop has begun."""
        return self._stopped_at is not None

    async def start(self) -> None:
        """Listen and serve.

        :raises CannotStart: if the address cannot be had
        """
        host, _, port = self.options.address.rpartition(":")
        try:
            self._sockets = await self._loop.create_server(
                self._connections.make,
                host.strip("[]"),
                int(port),
                backlog=_BACKLOG,
                reuse_port=self.options.shares_port or None,
            )
        except OSError as error:
            raise CannotStart(
                f"cannot listen on {self.options.address} ({error.strerror or error}): the port is taken or the "
                "address is not this machine's; set TURNOUT_GATEWAY_LISTEN_ADDRESS"
            ) from None
        self.port = self._sockets.sockets[0].getsockname()[1]
        log.info("listening for HTTP", extra={"port": self.port})

    def stop_accepting(self) -> None:
        """Take no new connections; what is asked on those that are open is answered, and is the last there."""
        if self._stopped_at is None:
            self._stopped_at = self._loop.time()
            self._connections.is_stopping = True
        if self._sockets is not None:
            self._sockets.close()

    async def drain(self) -> None:
        """Wait until the requests that run are answered and the answers sent, and end those that are left when
        `drain_seconds` have passed since the stop began.
        """
        self.stop_accepting()
        remaining = (self._stopped_at or 0) + self.options.drain_seconds - self._loop.time()
        self._connections.close_idle()
        await self._connections.gone(max(remaining, 0))
        if cut := self._connections.unfinished():
            log.warning("requests are cut by the end of the drain", extra={"requests": cut})
        await self._connections.close(_LAST_WORDS_SECONDS)

    async def _answer(self, request: Request) -> Reply:
        path = path_of(request.target)
        route = self._routes.get(path) or self._route_by_prefix(path)
        if route is not None and route.is_probe:
            handler = route.handlers.get(request.method)
            place = TraceContext("0" * 32, "0" * 16, sampled=False)
            if handler is None:
                return _failed(failure.failure_of(_wrong_method(route)))
            return await handler(Visit(self.options, request, place, path))
        header = request.headers.get("traceparent")
        parent = parse_traceparent(header) if header else None
        place = self._tracing.begin(parent)
        span: Span | None = None
        if place.sampled:
            name = f"{request.method} {route.path if route is not None else ''}".rstrip()
            span = self._tracing.server_span(name, place, is_root=parent is None)
            place = place if span is None else span.place
        # Each request has a task of its own, so there is nothing to undo.
        log_trace_id.set(place.trace_id)
        self._active += 1
        status = failure.CLIENT_LEFT
        error: BaseException | None = None
        visit = Visit(self.options, request, place, path)
        try:
            response = await self._handler(route, request.method)(visit)
            status = response.status
        except AppError as refused:
            error = refused
            response = self._fail(visit, failure.failure_of(refused))
            status = response.status
        except ConnectionError as left:
            error = left
            raise
        except Exception as bug:
            # The edge: a bug has an answer too.
            error = bug
            log.exception("a request fails with a bug", extra={"error": type(bug).__name__})
            response = self._fail(visit, failure.internal_error(place.trace_id))
            status = failure.INTERNAL
        finally:
            self._active -= 1
            if span is not None:
                _end_span(span, visit, route, status, error)
        return response

    def _handler(self, route: Route | None, method: str) -> Handler:
        if self._active > self.options.max_concurrent_requests:
            raise Unavailable(
                "this server answers as many requests as it can; try again in a moment",
                reason="TOO_MANY_REQUESTS_AT_ONCE",
                retry_after_seconds=_BUSY_RETRY_SECONDS,
            )
        if route is None:
            raise NotFound(
                f"there is nothing under this address; offered are {self._offered}, so a base URL ends with /v1",
                reason="URL_NOT_FOUND",
            )
        handler = route.handlers.get(method)
        if handler is None:
            raise _wrong_method(route)
        return handler

    def _fail(self, visit: Visit, failed: Failure) -> Reply:
        if visit.begun is not None:
            # Its status is gone; all that is left is not to end it well.
            visit.cut()
            return visit.begun
        response = _failed(failed)
        # What is left of the body is not worth the wait.
        response.closes = not visit.request.is_whole
        return response

    def _route_by_prefix(self, path: str) -> Route | None:
        for prefix, route in self._prefixes:
            if path.startswith(prefix) and len(path) > len(prefix):
                return route
        return None


def _wrong_method(route: Route) -> Invalid:
    allowed = ", ".join(route.handlers)
    return Invalid(f"this address takes {allowed}", reason="METHOD_NOT_ALLOWED", allow=allowed)


def _failed(failed: Failure) -> Answer:
    return Answer(failed.status, {"Content-Type": JSON, **failed.headers}, failed.body)


def _end_span(span: Span, visit: Visit, route: Route | None, status: int, error: BaseException | None) -> None:
    attributes: dict[str, AttributeValue] = {
        "http.request.method": visit.request.method,
        "http.response.status_code": status,
        "url.path": visit.path,
        "url.scheme": "http",
    }
    if route is not None:
        attributes["http.route"] = route.path
    span.set_attributes(attributes)
    if error is not None and status != failure.CLIENT_LEFT:
        # The reason, not the text: a sentence may quote what a caller sent.
        span.set_attribute("error.type", getattr(error, "reason", type(error).__name__))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        span.fail()
    span.end()
