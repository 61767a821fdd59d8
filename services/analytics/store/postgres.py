"""The store: transactions, snapshots, and what must be there before them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from kit import database
from kit.database import Sessions
from services.analytics.domain.request import PayloadPiece, Request
from services.analytics.store.ingest import PostgresIngest
from services.analytics.store.partitions import Partitions
from services.analytics.store.reading import PostgresReading
from services.analytics.store.series import SeriesNumbers


class PostgresStore:
    """Analytics in one schema of a Postgres database.

    :param today: days since 1970
    """

    def __init__(
        self,
        sessions: Sessions,
        *,
        request_retention_days: int,
        payload_retention_days: int,
        today: Callable[[], int],
    ) -> None:
        self._sessions = sessions
        self._series = SeriesNumbers(sessions)
        self._requests = Partitions(sessions, "requests", retention_days=request_retention_days, today=today)
        self._payloads = Partitions(sessions, "payloads", retention_days=payload_retention_days, today=today)

    async def prepare(self, requests: Sequence[Request], pieces: Sequence[PayloadPiece]) -> None:
        await self._requests.ensure({request.day for request in requests})
        await self._payloads.ensure({piece.day for piece in pieces})
        await self._series.ensure(request.series for request in requests)

    @asynccontextmanager
    async def ingest(self) -> AsyncIterator[PostgresIngest]:
        async with database.transaction(self._sessions) as session:
            yield PostgresIngest(await session.connection(), self._series.numbers())

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[PostgresReading]:
        async with database.transaction(self._sessions, read_only_snapshot=True) as session:
            yield PostgresReading(await session.connection())

    async def keep_house(self) -> None:
        """Make the partitions of the next days and drop those past their retention; as often as one likes.

        :raises Unavailable: as every transaction
        """
        for partitions in (self._requests, self._payloads):
            await partitions.ensure_ahead()
            await partitions.drop_expired()
