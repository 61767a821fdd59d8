"""`GET /metrics` for Prometheus, and `GET /healthz`, on the process's own event loop.

Meant for the operator's network: it shows names of projects and deployments, and asks for no key.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from kit.errors import CannotStart
from kit.http_server.answer import Answer
from kit.http_server.connections import Connections
from kit.http_server.reader import Unreadable
from kit.http_server.request import Request, path_of
from kit.metrics.page import Page
from kit.metrics.registry import Metrics

log = logging.getLogger(__name__)

_TEXT: Final = "text/plain; charset=utf-8"
_KEEP_ALIVE_SECONDS: Final = 75.0
"""More than the time between two scrapes, mostly."""
_MAX_HEADER_BYTES: Final = 8190
_STOP_SECONDS: Final = 1.0
"""For a page that is being written when the process ends."""


class MetricsUnservable(CannotStart):
    """The metrics cannot be listened for. The text is for the operator."""


@asynccontextmanager
async def endpoint(metrics: Metrics, address: str, *, workers: int = 1) -> AsyncIterator[int]:
    """Serve the page while the block lasts; gives the port.

    :param address: `host:port`; port 0 picks a free one
    :param workers: how many processes were given this address: each takes the first free port of so many in a row
    :raises MetricsUnservable: if none can be had
    """
    page = Page(metrics)

    async def answer(request: Request) -> Answer:
        path = path_of(request.target)
        if path not in ("/metrics", "/healthz"):
            return _text(404, "there is nothing here but /metrics and /healthz\n")
        if request.method not in ("GET", "HEAD"):
            return _text(405, "this address takes GET\n", Allow="GET, HEAD")
        if path == "/healthz":
            return _text(200, "ok\n")
        try:
            written = await page.write(request.headers.get("Accept", ""))
        except Exception as bug:
            # The edge: a source that cannot be read, say.
            log.exception("the metrics are not written", extra={"error": type(bug).__name__})
            return _text(500, "the metrics cannot be written; the process's log says why\n")
        if written is None:
            return _text(503, "too many scrapes at once\n", **{"Retry-After": "1"})
        body, content_type = written
        return Answer(200, {"Content-Type": content_type}, body)

    connections = Connections(
        answer, _refuse, keep_alive_seconds=_KEEP_ALIVE_SECONDS, max_header_bytes=_MAX_HEADER_BYTES
    )
    sockets = await _listen(connections, address, workers)
    try:
        port: int = sockets.sockets[0].getsockname()[1]
        log.info("metrics are served", extra={"port": port})
        yield port
    finally:
        connections.is_stopping = True
        sockets.close()
        await connections.close(_STOP_SECONDS)


async def _listen(connections: Connections, address: str, workers: int) -> asyncio.Server:
    host, _, text = address.rpartition(":")
    first = int(text)
    ports = [0] if first == 0 else range(first, min(first + workers, 65536))
    cause = ""
    for port in ports:
        try:
            # Alone on its port: with two processes on one, a scrape would see now this one, now that.
            return await connections.loop.create_server(connections.make, host.strip("[]"), port, reuse_port=False)
        except OSError as error:
            cause = error.strerror or type(error).__name__
    through = f" to {ports[-1]}" if len(ports) > 1 else ""
    raise MetricsUnservable(f"TURNOUT_METRICS_ADDRESS: cannot listen on {address}{through}: {cause}")


def _refuse(problem: Unreadable) -> Answer:
    if problem is Unreadable.TOO_LONG:
        return _text(431, "the request line or the headers are longer, or more, than is taken\n")
    return _text(400, "this is not a request of HTTP/1.1\n")


def _text(status: int, text: str, **headers: str) -> Answer:
    return Answer(status, {"Content-Type": _TEXT, **headers}, text.encode())
