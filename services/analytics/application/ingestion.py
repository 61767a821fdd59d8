"""Taking events: each counts once, however often and in whatever order it arrives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.analytics.domain.request import PayloadPiece, Rejection, Request
from services.analytics.domain.rollup import periods_of
from services.analytics.ports import Store


@dataclass(frozen=True, slots=True)
class Ingestion:
    """Into the store."""

    store: Store

    async def take(self, requests: Sequence[Request], pieces: Sequence[PayloadPiece]) -> None:
        """Keep what is new and add it to the totals, in one transaction: the record of an event and its effect are
        there both or neither, so a repetition finds the record and adds nothing.

        :raises Unavailable: the database is not there; nothing has happened
        :raises Conflict: another transaction was in the way; nothing has happened
        """
        await self.store.prepare(requests, pieces)
        async with self.store.ingest() as tx:
            if requests:
                fresh = await tx.add_requests(requests)
                await tx.add_totals(periods_of(fresh))
            if pieces:
                await tx.add_payloads(pieces)

    async def reject(self, rejection: Rejection) -> None:
        """Keep an event that cannot be taken, for a person.

        :raises Unavailable: as :meth:`take`
        """
        async with self.store.ingest() as tx:
            await tx.reject(rejection)
