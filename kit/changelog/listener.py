"""LISTEN on a connection of its own: a hint that something was committed, never the only way to learn it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
from sqlalchemy.engine import make_url

from kit.database import CONNECT_TIMEOUT_SECONDS

log = logging.getLogger(__name__)

_PAUSE_SECONDS: Final = 0.5
_PROBE_SECONDS: Final = 30.0
"""How often a silent connection is asked whether it lives: one that vanished without a word stays silent for ever."""
_FOR_SQLALCHEMY_ONLY: Final = ("prepared_statement_cache_size", "prepared_statement_name_func", "async_fallback")


@asynccontextmanager
async def listening(url: str, channel: str) -> AsyncIterator[asyncio.Event]:
    """An event that is set on every NOTIFY of `channel`, and whenever listening begins or ends, since what was
    committed between was not heard. Reconnects by itself; while it cannot, the event just stays as it is.

    :param url: `postgresql+asyncpg://…`
    """
    woken = asyncio.Event()
    task = asyncio.create_task(_listen_for_ever(url, channel, woken), name=f"listen: {channel}")
    try:
        yield woken
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _listen_for_ever(url: str, channel: str, woken: asyncio.Event) -> None:
    arguments = _connect_arguments(url)
    arguments["server_settings"] = {"application_name": f"turnout-listen-{channel}"}
    last_failure = ""
    while True:
        try:
            connection = await asyncpg.connect(**arguments, timeout=CONNECT_TIMEOUT_SECONDS)
            try:
                last_failure = ""
                await _listen(connection, channel, woken)
            finally:
                connection.terminate()
                # What ended this connection may have ended all of them: look now, not at the next poll.
                woken.set()
            failure = "closed"
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            failure = type(error).__name__
        if failure != last_failure:
            log.warning("not listening; polling until it works again", extra={"channel": channel, "failure": failure})
            last_failure = failure
        await asyncio.sleep(_PAUSE_SECONDS)


async def _listen(connection: asyncpg.Connection, channel: str, woken: asyncio.Event) -> None:
    closed = asyncio.Event()
    connection.add_termination_listener(lambda _: closed.set())
    await connection.add_listener(channel, lambda *_: woken.set())
    woken.set()
    while not closed.is_set():
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                await closed.wait()
        except TimeoutError:
            await connection.execute("SELECT 1", timeout=CONNECT_TIMEOUT_SECONDS)


def _connect_arguments(url: str) -> dict[str, Any]:
    """What SQLAlchemy would hand to asyncpg for this address."""
    parsed = make_url(url)
    _, arguments = parsed.get_dialect()().create_connect_args(parsed)
    return {name: value for name, value in arguments.items() if name not in _FOR_SQLALCHEMY_ONLY}
