"""Postgres: bounded sessions for one service's schema, and its migrations.

A room hands its URL and its schema; every connection sees that schema only, gives up on statements and locks that take
too long, and a database that cannot be reached is one clear `Unavailable`, never a driver's traceback.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import asyncpg
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from kit.errors import Conflict, Unavailable

STATEMENT_TIMEOUT_SECONDS: Final = 15
LOCK_TIMEOUT_SECONDS: Final = 5
CONNECT_TIMEOUT_SECONDS: Final = 5

Sessions = async_sessionmaker[AsyncSession]

_RETRYABLE: Final = {"40001", "40P01"}  # serialization_failure, deadlock_detected
# Of the server, not of a statement: connection, login, database, resources (a full disk), shutdown, I/O, damage; and
# one that may only be read, which is a standby, or a managed one whose disk is nearly full.
_BROKEN: Final = ("08", "25006", "28", "3D", "53", "57P", "58", "XX")
_TIMED_OUT: Final = {"57014", "55P03"}  # query_canceled (statement_timeout), lock_not_available


@asynccontextmanager
async def sessions(url: str, *, schema: str, pool_size: int = 10) -> AsyncIterator[Sessions]:
    """Sessions on a bounded pool; connects when first used, so a service starts while its database is down.

    :param url: `postgresql+asyncpg://…`
    :param schema: the only schema on the search path
    """
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=CONNECT_TIMEOUT_SECONDS,
        pool_pre_ping=True,
        connect_args={
            "timeout": CONNECT_TIMEOUT_SECONDS,
            "server_settings": {
                "search_path": schema,
                "application_name": f"turnout-{schema}",
                "statement_timeout": f"{STATEMENT_TIMEOUT_SECONDS}s",
                "lock_timeout": f"{LOCK_TIMEOUT_SECONDS}s",
                "idle_in_transaction_session_timeout": "60s",
            },
        },
    )
    try:
        yield async_sessionmaker(engine, expire_on_commit=False)
    finally:
        await engine.dispose()


@asynccontextmanager
async def transaction(factory: Sessions, *, read_only_snapshot: bool = False) -> AsyncIterator[AsyncSession]:
    """One transaction: commits when the block ends, rolls back if it raises.

    :param read_only_snapshot: REPEATABLE READ, so that every query of the block sees one state
    :raises Unavailable: `DATABASE_UNAVAILABLE` or `DATABASE_TIMEOUT`
    :raises Conflict: `TRANSACTION_CONFLICT` if Postgres refused it because of another one; the same request may succeed
    """
    with translated():
        async with factory() as session, session.begin():
            if read_only_snapshot:
                await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            yield session


@contextmanager
def translated() -> Iterator[None]:
    """Failures of the database as errors to act on; violated constraints pass, they are the store's to read."""
    try:
        yield
    except (OSError, InterfaceError, PoolTimeoutError, asyncpg.InterfaceError) as error:
        raise _unavailable() from error
    except (DBAPIError, asyncpg.PostgresError) as error:
        state = getattr(getattr(error, "orig", error), "sqlstate", None) or ""
        if state in _RETRYABLE:
            raise Conflict("another change was faster; try again", reason="TRANSACTION_CONFLICT") from error
        if state in _TIMED_OUT:
            raise Unavailable(
                "the database took too long; try again", reason="DATABASE_TIMEOUT", retry_after_seconds=1
            ) from error
        invalidated = isinstance(error, DBAPIError) and error.connection_invalidated
        if invalidated or isinstance(error, OperationalError) or state.startswith(_BROKEN):
            raise _unavailable() from error
        raise


def _unavailable() -> Unavailable:
    return Unavailable(
        "the database cannot be reached; try again", reason="DATABASE_UNAVAILABLE", retry_after_seconds=1
    )
