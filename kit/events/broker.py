"""NATS as this process knows it: one connection at a time, opened in the background, again and again for ever."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final
from urllib.parse import urlsplit

import nats.errors
from nats.aio.client import Client

from kit import config
from kit.errors import CannotStart
from kit.events import stream
from kit.events.config import EventsConfig
from kit.events.connection import Connection, unreachable
from kit.events.stream import StreamOptions
from kit.runtime import Runtime

log = logging.getLogger(__name__)

_MAX_PAUSE_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.5
_OPEN_SECONDS: Final = 10
_PING_SECONDS: Final = 10
_PENDING_BYTES: Final = 16 << 20
"""What may wait for the socket before a publish waits too: more than one batch of the spool."""


class _Life:
    """What the client library tells of one connection."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.is_open = False
        self.error = ""

    async def on_error(self, error: Exception) -> None:
        kind = _kind_of(error)
        if self.is_open and kind != self.error:
            # Words of the broker, such as a permission that is refused; never an address with credentials.
            log.warning("NATS reports an error", extra={"error": kind, "words": str(error)[:200]})
        self.error = kind

    async def on_closed(self) -> None:
        self.ended.set()


class Broker:
    """The way to NATS, whether or not it is there now.

    :param url: one address or several, separated by commas; credentials in it are never logged
    """

    def __init__(self, url: str, *, name: str, stream_options: StreamOptions) -> None:
        self._servers = [server.strip() for server in url.split(",") if server.strip()]
        self._name = name
        self._stream_options = stream_options
        self._connection: Connection | None = None
        self._opened = asyncio.Event()
        self._ensuring = asyncio.Lock()

    @property
    def is_connected(self) -> bool:
        """Whether messages can be sent now."""
        return self._connection is not None and not self._connection.is_closed

    def connection(self) -> Connection:
        """The connection there is.

        :raises Unavailable: `BROKER_UNREACHABLE`
        """
        if self._connection is None or self._connection.is_closed:
            raise unreachable()
        return self._connection

    async def connected(self) -> Connection:
        """The connection there is or will be; waits for ever."""
        while not self.is_connected:
            await self._opened.wait()
        return self.connection()

    async def ensure_stream(self, connection: Connection) -> None:
        """Make the stream if it is not there: see :func:`kit.events.stream.ensure`.

        :raises Unavailable: `STREAM_UNAVAILABLE`
        """
        async with self._ensuring:
            await stream.ensure(connection.manager, self._stream_options)

    async def run(self) -> None:
        """Keep a connection until cancelled. A broker that is down, or that refuses us, is tried again for ever."""
        pause, last_failure = 0.1, ""
        while True:
            life = _Life()
            client = Client()
            try:
                await self._open(client, life)
            except (nats.errors.Error, OSError, TimeoutError) as error:
                if (failure := life.error or _kind_of(error)) != last_failure:
                    last_failure = failure
                    extra = {"servers": self._addresses(), "error": failure}
                    log.warning("NATS cannot be reached; retrying", extra=extra)
                await Connection(client).close()
            except asyncio.CancelledError:
                await Connection(client).close()
                raise
            else:
                pause, last_failure = 0.1, ""
                await self._serve(Connection(client), life)
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # The client, and Python 3.11's wait_for inside it, swallow a cancellation that meets a failure.
                raise asyncio.CancelledError
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  # jitter, no secret
            pause = min(pause * 2, _MAX_PAUSE_SECONDS)

    async def _open(self, client: Client, life: _Life) -> None:
        async with asyncio.timeout(_OPEN_SECONDS):
            await client.connect(
                self._servers,
                name=self._name,
                error_cb=life.on_error,
                closed_cb=life.on_closed,
                allow_reconnect=False,
                # One round over the servers; the rounds are ours.
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=3,
                ping_interval=_PING_SECONDS,
                max_outstanding_pings=2,
                pending_size=_PENDING_BYTES,
            )

    async def _serve(self, connection: Connection, life: _Life) -> None:
        life.is_open = True
        log.info("connected to NATS", extra={"servers": self._addresses()})
        self._connection = connection
        self._opened.set()
        try:
            while not life.ended.is_set() and connection.is_alive:
                # Looked at as well: a client whose connection breaks while it sends can close without telling anybody.
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_SECONDS):
                        await life.ended.wait()
            log.warning("the connection to NATS ended; opening another", extra={"servers": self._addresses()})
        finally:
            self._connection = None
            self._opened.clear()
            await connection.close()

    def _addresses(self) -> str:
        return ",".join(_address(server) for server in self._servers)


@asynccontextmanager
async def broker(runtime: Runtime) -> AsyncIterator[Broker]:
    """The process's broker; made once (`await runtime.shared(broker)`). Does not wait for NATS.

    :raises CannotStart: if TURNOUT_NATS_URL is no address
    """
    settings = config.load(EventsConfig)
    url = settings.nats_url.get_secret_value()
    for server in url.split(","):
        if not _is_address(server.strip()):
            raise CannotStart("TURNOUT_NATS_URL must be nats://host:port, or several of them separated by commas")
    options = StreamOptions(max_bytes=settings.events_stream_max_bytes)
    opened = Broker(url, name=f"turnout {runtime.options.instance}", stream_options=options)
    async with runtime.background("events: connection", opened.run()):
        yield opened


def _is_address(server: str) -> bool:
    try:
        parts = urlsplit(server)
        return parts.scheme in ("nats", "tls", "ws", "wss") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


def _address(server: str) -> str:
    parts = urlsplit(server)
    return f"{parts.hostname}:{parts.port or 4222}"


def _kind_of(error: Exception) -> str:
    return f"{type(error).__name__} {error.errno}" if isinstance(error, OSError) else type(error).__name__
