"""Series by number and numbers by series."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from kit import database
from kit.database import Sessions
from services.analytics.domain.request import Series

_MAX_KNOWN: Final = 50_000

_ADD: Final = """
    INSERT INTO series (project, deployment, deployment_slug, variant, variant_slug)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
    ON CONFLICT DO NOTHING
"""
_FIND: Final = """
    SELECT series, project, deployment, deployment_slug, variant, variant_slug FROM series
    JOIN unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
        AS wanted (project, deployment, deployment_slug, variant, variant_slug)
    USING (project, deployment, deployment_slug, variant, variant_slug)
"""


class SeriesNumbers:
    """The numbers of all series that this process has met. They never change, so they are remembered."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._known: dict[Series, int] = {}

    async def ensure(self, wanted: Iterable[Series]) -> None:
        """Give a number to each, in a transaction of its own: only what is committed is remembered.

        :raises Unavailable: as every transaction
        """
        missing = sorted(set(wanted) - self._known.keys())
        if not missing:
            return
        if len(self._known) > _MAX_KNOWN:
            self._known.clear()
        columns = tuple([*column] for column in zip(*missing, strict=True))
        async with database.transaction(self._sessions) as session:
            connection = await session.connection()
            await connection.exec_driver_sql(_ADD, columns)
        # Another transaction: what a faster one has added is seen only now.
        async with database.transaction(self._sessions) as session:
            connection = await session.connection()
            for row in await connection.exec_driver_sql(_FIND, columns):
                self._known[Series._make(row[1:])] = row[0]

    def numbers(self) -> Mapping[Series, int]:
        """All that were ensured lately."""
        return self._known
