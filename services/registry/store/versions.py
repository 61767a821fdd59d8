"""What is known of versions beside their content: whether revisions use them, and when they were last seen."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    DateTime,
    Text,
    column,
    delete,
    exists,
    func,
    select,
    tuple_,
    update,
    values,
)
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import tables
from services.registry.ports import VersionKey

_versions, _members = tables.versions, tables.revision_variants


def is_used() -> ColumnElement[bool]:
    """Whether any revision has the row of `versions`."""
    return exists().where(_members.c.project == _versions.c.project, _members.c.version == _versions.c.uid)


class VersionReading:
    """Part of the Reading port, on one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def known_versions(self, keys: Collection[VersionKey]) -> set[VersionKey]:
        """Which of them are stored."""
        key = tuple_(_versions.c.project, _versions.c.uid)
        query = select(_versions.c.project, _versions.c.uid).where(key.in_(keys))
        return {(row.project, row.uid) for row in await self._session.execute(query)}

    async def has_unused_versions(self, before: datetime) -> bool:
        """Whether there is one to delete."""
        query = select(_versions.c.uid).where(_versions.c.seen_at < before, ~is_used()).limit(1)
        return (await self._session.execute(query)).first() is not None


class VersionNoting:
    """Part of the Noting port, on one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def touch_versions(self, times: Mapping[VersionKey, datetime]) -> set[VersionKey]:
        """Move `seen_at` forward, never back. Without the writers' lock it waits for no row, so that it and a writer
        never wait for each other: what another transaction works on counts as not stored."""
        return await self._touch(times, waits=False)

    async def _touch(self, times: Mapping[VersionKey, datetime], *, waits: bool) -> set[VersionKey]:
        project, uid = _versions.c.project, _versions.c.uid
        query = select(project, uid).where(tuple_(project, uid).in_(times)).order_by(project, uid)
        query = query.with_for_update(key_share=True, skip_locked=not waits)
        found = [(row.project, row.uid) for row in await self._session.execute(query)]
        if found:
            given = values(
                column("project", Text), column("uid", Text), column("seen_at", DateTime(timezone=True)), name="given"
            ).data([(*key, times[key]) for key in found])
            seen_at = func.greatest(_versions.c.seen_at, given.c.seen_at)
            statement = update(_versions).where(project == given.c.project, uid == given.c.uid).values(seen_at=seen_at)
            await self._session.execute(statement)
        return set(found)


class VersionWriting(VersionNoting):
    """Part of the Writing port, on one session."""

    async def touch_versions(self, times: Mapping[VersionKey, datetime]) -> set[VersionKey]:
        """Move `seen_at` forward, never back."""
        return await self._touch(times, waits=True)

    async def delete_unused_versions(self, before: datetime, *, limit: int) -> int:
        """The longest forgotten first."""
        due = (
            select(_versions.c.project, _versions.c.uid)
            .where(_versions.c.seen_at < before, ~is_used())
            .order_by(_versions.c.seen_at, _versions.c.project, _versions.c.uid)
            .limit(limit)
        )
        # The time again: a call may have touched the row while this waited for it.
        key = tuple_(_versions.c.project, _versions.c.uid)
        statement = delete(_versions).where(key.in_(due), _versions.c.seen_at < before).returning(_versions.c.uid)
        return len((await self._session.execute(statement)).all())
