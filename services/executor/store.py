"""Idempotency records in Postgres. Every moment is the database's own: processes' clocks need not agree.

Imported only where there is a database: without one, neither SQLAlchemy nor Alembic is loaded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import asyncpg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import database, schema_version
from kit.database import Sessions
from kit.errors import CannotStart, Exhausted, Precondition, Unavailable
from services.executor.idempotency import KEPT_SECONDS, SETTING, Found, Fresh

log = logging.getLogger(__name__)

SCHEMA: Final = "executor"
MIGRATIONS: Final = Path(__file__).parent / "migrations"
ROW_BYTES: Final = 512
"""What a record takes beside its answer, indexes included; about."""
SWEEP_BATCH: Final = 500
_START_SECONDS: Final = 10.0
_BEGIN_TRIES: Final = 3
# Tables that are not there, or not as this code knows them, or that it may not use: undefined table, column and schema,
# insufficient privilege.
_UNUSABLE: Final = {"42P01", "42703", "3F000", "42501"}

# Written out, not built: this is on the way of a call, and building it took longer than Postgres does.
_TAKE: Final = """
    INSERT INTO idempotency_records AS known (
        project, api_key, key, body_hash, claim, owner, started_at, busy_until, expires_at
    )
    VALUES (
        $1::text, $2::text, $3::text, $4::bytea, $5::text, $6::text, clock_timestamp(),
        clock_timestamp() + make_interval(secs => $7::double precision),
        clock_timestamp() + make_interval(secs => $8::double precision)
    )
    ON CONFLICT (project, api_key, key) DO UPDATE SET
        body_hash = excluded.body_hash,
        claim = excluded.claim,
        owner = excluded.owner,
        answer = NULL,
        started_at = excluded.started_at,
        busy_until = excluded.busy_until,
        expires_at = excluded.expires_at
    WHERE known.expires_at <= clock_timestamp()
        OR (known.answer IS NULL AND known.busy_until <= clock_timestamp() AND known.body_hash = excluded.body_hash)
    RETURNING claim
"""
# Nobody is told what another request was answered.
_FIND: Final = """
    SELECT
        body_hash = $4::bytea AS is_same_body,
        CASE WHEN body_hash = $4::bytea THEN answer END AS answer,
        greatest(extract(epoch FROM clock_timestamp() - started_at), 0)::double precision AS age_seconds,
        greatest(extract(epoch FROM busy_until - clock_timestamp()), 0)::double precision AS busy_seconds
    FROM idempotency_records
    WHERE (project, api_key, key) = ($1::text, $2::text, $3::text) AND expires_at > clock_timestamp()
"""
_FINISH: Final = """
    UPDATE idempotency_records
    SET answer = $5::bytea, expires_at = clock_timestamp() + make_interval(secs => $6::double precision)
    WHERE (project, api_key, key) = ($1::text, $2::text, $3::text) AND claim = $4::text
    RETURNING claim
"""
_ABANDON: Final = """
    DELETE FROM idempotency_records AS known
    USING unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS held (project, api_key, key, claim)
    WHERE (known.project, known.api_key, known.key) = (held.project, held.api_key, held.key)
        AND known.claim = held.claim AND known.answer IS NULL
"""
# Several processes sweep, each its own part.
_SWEEP: Final = """
    DELETE FROM idempotency_records
    WHERE expires_at <= clock_timestamp() AND (project, api_key, key) IN (
        SELECT project, api_key, key FROM idempotency_records
        WHERE expires_at <= clock_timestamp()
        ORDER BY expires_at LIMIT $1::integer FOR UPDATE SKIP LOCKED
    )
    RETURNING claim
"""
_SIZE: Final = """
    SELECT (count(*) * $1::bigint + coalesce(sum(answer_bytes), 0))::bigint FROM idempotency_records
"""


class PostgresRecords:
    """Records in one schema of a Postgres database.

    :param owner: the service instance, for people who look at the table
    :param max_bytes: how much there may be before new keys are refused; what others add is seen at each sweep
    """

    def __init__(self, sessions: Sessions, *, owner: str, max_bytes: int) -> None:
        self._sessions = sessions
        self._owner = owner
        self._max_bytes = max_bytes
        self._bytes = 0

    async def begin(self, fresh: Fresh) -> Found | None:
        async with self._transaction() as connection:
            for _ in range(_BEGIN_TRIES):
                # A full table is read only.
                if self._bytes < self._max_bytes and await self._take(connection, fresh):
                    self._bytes += ROW_BYTES
                    return None
                found = await connection.exec_driver_sql(_FIND, (*_key_of(fresh), fresh.claim.body_hash))
                if (row := found.mappings().first()) is not None:
                    return Found(row["is_same_body"], row["answer"], row["age_seconds"], row["busy_seconds"])
                if self._bytes >= self._max_bytes:
                    raise Exhausted(
                        "there is no room for more idempotency records; try again later, or call without "
                        "idempotency_key. Operators: TURNOUT_EXECUTOR_IDEMPOTENCY_MAX_BYTES",
                        reason="IDEMPOTENCY_RECORDS_FULL",
                        retry_after_seconds=60,
                    )
        # Given back between the two statements, every time: somebody else's call fails as often as it is made.
        return Found(is_same_body=True, answer=None, age_seconds=0, busy_seconds=1)

    async def finish(self, fresh: Fresh, answer: bytes) -> bool:
        values = (*_key_of(fresh), fresh.uid, answer, KEPT_SECONDS)
        async with self._transaction() as connection:
            is_ours = (await connection.exec_driver_sql(_FINISH, values)).first() is not None
        if is_ours:
            self._bytes += len(answer)
        return is_ours

    async def abandon(self, held: Sequence[Fresh]) -> None:
        if not held:
            return
        columns = zip(*((*_key_of(fresh), fresh.uid) for fresh in held), strict=True)
        async with self._transaction() as connection:
            await connection.exec_driver_sql(_ABANDON, tuple([*column] for column in columns))

    async def sweep(self) -> int:
        deleted, count = 0, SWEEP_BATCH
        while count == SWEEP_BATCH:
            async with self._transaction() as connection:
                count = len((await connection.exec_driver_sql(_SWEEP, (SWEEP_BATCH,))).all())
            deleted += count
        async with self._transaction() as connection:
            self._bytes = int((await connection.exec_driver_sql(_SIZE, (ROW_BYTES,))).scalar_one())
        if self._bytes >= self._max_bytes:
            log.warning("idempotency records are full; new keys are refused", extra={"bytes": self._bytes})
        return deleted

    async def _take(self, connection: AsyncConnection, fresh: Fresh) -> bool:
        values = (*_key_of(fresh), fresh.claim.body_hash, fresh.uid, self._owner, fresh.busy_seconds, KEPT_SECONDS)
        return (await connection.exec_driver_sql(_TAKE, values)).first() is not None

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        with _translated():
            async with database.transaction(self._sessions) as session:
                yield await session.connection()


def _key_of(fresh: Fresh) -> tuple[str, str, str]:
    return fresh.claim.project, fresh.claim.api_key, fresh.claim.key


@contextmanager
def _translated() -> Iterator[None]:
    """A process may start while its database is down, and find out late that nobody has migrated it."""
    try:
        yield
    except (DBAPIError, asyncpg.PostgresError) as error:
        state = getattr(getattr(error, "orig", error), "sqlstate", None) or ""
        if state not in _UNUSABLE:
            raise
        raise Precondition(
            "the executor's tables are not there, or not as this code needs them: run `python -m services migrate` "
            f"with {SETTING}, or call without idempotency_key",
            reason="IDEMPOTENCY_NOT_MIGRATED",
            setting=SETTING,
        ) from error


@asynccontextmanager
async def opened(url: str, *, owner: str, max_bytes: int) -> AsyncIterator[PostgresRecords]:
    """Records in a database. One that is down is no reason not to start: only calls under a key need it.

    :raises CannotStart: if it answers, and is not at the version that this code needs
    """
    try:
        async with asyncio.timeout(_START_SECONDS):
            await schema_version.require_current(url, schema=SCHEMA, folder=MIGRATIONS)
    except schema_version.SchemaBehind as error:
        raise CannotStart(f"{SETTING}: {error}") from None
    except (Unavailable, TimeoutError) as error:
        log.warning(
            "idempotency records cannot be kept now; calls under an idempotency_key are refused",
            extra={"reason": getattr(error, "reason", "TIMEOUT"), "setting": SETTING},
        )
    except (SQLAlchemyError, asyncpg.PostgresError, ValueError) as error:
        # The type only: a driver's sentence may quote the address, and with it the password.
        raise CannotStart(
            f"{SETTING}: the executor's database cannot be used ({type(error).__name__}); is the address right?"
        ) from None
    async with database.sessions(url, schema=SCHEMA) as sessions:
        yield PostgresRecords(sessions, owner=owner, max_bytes=max_bytes)
