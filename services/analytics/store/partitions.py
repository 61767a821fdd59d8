"""Daily partitions: made before they are needed, or when they are, and dropped when their time is over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from kit import database
from kit.database import Sessions

log = logging.getLogger(__name__)

DAYS_AHEAD: Final = 2
_EPOCH: Final = date(1970, 1, 1)
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('analytics partitions', 0))"


class Partitions:
    """The partitions of one table.

    :param retention_days: how many days are kept, today included
    :param today: days since 1970
    """

    def __init__(self, sessions: Sessions, table: str, *, retention_days: int, today: Callable[[], int]) -> None:
        self._sessions = sessions
        self._table = table
        self._retention_days = retention_days
        self._today = today
        self._known: set[int] = set()
        self._making = asyncio.Lock()

    async def ensure(self, days: Iterable[int]) -> None:
        """Make those of `days` that are in reach: kept, and not far in the future. Rows of other days lie in the
        default partition, so that events with absurd times make no partitions.

        :raises Unavailable: as every transaction
        """
        today = self._today()
        reach = range(today - self._retention_days + 1, today + DAYS_AHEAD + 1)
        missing = {day for day in days if day in reach} - self._known
        if not missing:
            return
        async with self._making:
            for day in sorted(missing - self._known):
                await self._make(day)
                self._known.add(day)

    async def ensure_ahead(self) -> None:
        """Make those that will be needed next."""
        today = self._today()
        await self.ensure(range(today, today + DAYS_AHEAD + 1))

    async def drop_expired(self) -> int:
        """Drop those past the retention. What lies in the default partition stays.

        :return: how many
        """
        oldest = _name(self._table, self._today() - self._retention_days + 1)
        async with database.transaction(self._sessions) as session:
            connection = await session.connection()
            await connection.exec_driver_sql(_LOCK)
            names = [name for name in await _partitions(connection, self._table) if name < oldest]
            for name in names:
                await connection.exec_driver_sql(f"DROP TABLE {name}")
        if names:
            log.info("expired partitions are dropped", extra={"table": self._table, "partitions": len(names)})
        self._known = {day for day in self._known if _name(self._table, day) >= oldest}
        return len(names)

    async def _make(self, day: int) -> None:
        name, default = _name(self._table, day), f"{self._table}_default"
        async with database.transaction(self._sessions) as session:
            connection = await session.connection()
            await connection.exec_driver_sql(_LOCK)
            if name in await _partitions(connection, self._table):
                return
            # Rows of that day may have come before their partition: they move. The lock keeps more from coming; the
            # partition is attached rather than created in place because that would lock out every reader.
            await connection.exec_driver_sql(f"LOCK TABLE {default} IN ACCESS EXCLUSIVE MODE")
            await connection.exec_driver_sql(f"CREATE TABLE {name} (LIKE {self._table} INCLUDING ALL)")
            move = (
                f"WITH moved AS (DELETE FROM {default} WHERE day = {day} RETURNING *) "  # noqa: S608  # our own names
                f"INSERT INTO {name} SELECT * FROM moved"
            )
            await connection.exec_driver_sql(move)
            attach = f"ALTER TABLE {self._table} ATTACH PARTITION {name} FOR VALUES FROM ({day}) TO ({day + 1})"
            await connection.exec_driver_sql(attach)
        log.info("a partition is made", extra={"partition": name})


async def _partitions(connection: AsyncConnection, table: str) -> set[str]:
    """Names of a table's daily partitions; they sort by day."""
    found = await connection.exec_driver_sql(
        "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid "
        "WHERE inhparent = CAST($1 AS text)::regclass AND child.relname <> CAST($1 AS text) || '_default'",
        (table,),
    )
    return {name for (name,) in found}


def _name(table: str, day: int) -> str:
    return f"{table}_{_EPOCH + timedelta(days=day):%Y%m%d}"
