"""A log in a database of its own: made, written and read back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from kit.changelog import Change, ChangeLog, Head, create_tables
from kit.database import Sessions, transaction
from stack.postgres import Postgres

SCHEMA = "notes"


async def new_log(server: Postgres, name: str) -> str:
    """A fresh database with the log's tables; its address."""
    server.create_database(name)
    engine = create_async_engine(server.url(name))
    async with engine.begin() as connection:
        await connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
        await connection.execute(text(f"SET search_path TO {SCHEMA}"))
        await connection.run_sync(create_tables)
    await engine.dispose()
    return server.url(name)


async def append(sessions: Sessions, log: ChangeLog, *entries: tuple[str, bytes | None]) -> int:
    async with transaction(sessions) as session:
        return await log.append(session, entries)


async def collect(
    log: ChangeLog, sessions: Sessions, url: str, after: int, count: int, poll_seconds: float = 0.5
) -> list[Change]:
    found: list[Change] = []
    async with (
        asyncio.timeout(20),
        contextlib.aclosing(log.tail(sessions, url, after, poll_seconds=poll_seconds)) as tail,
    ):
        async for change in tail:
            found.append(change)
            if len(found) == count:
                break
    return found


async def eventually(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    try:
        async with asyncio.timeout(15):
            while not await condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"not within 15 s: {what}")


async def state(sessions: Sessions, log: ChangeLog, chunk_bytes: int = 1 << 20) -> tuple[Head, dict[str, bytes]]:
    async with transaction(sessions, read_only_snapshot=True) as session:
        snapshot = await log.snapshot(session, chunk_bytes=chunk_bytes)
        return snapshot.head, {key: payload async for chunk in snapshot.chunks for key, payload in chunk}


def replay(changes: list[Change], start: dict[str, bytes] | None = None) -> dict[str, bytes]:
    now = dict(start or {})
    for change in changes:
        for key, payload in change.entries:
            if payload is None:
                now.pop(key, None)
            else:
                now[key] = payload
    return now
