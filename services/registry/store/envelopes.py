"""Stored credentials of every project, for giving them another key."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import tables
from services.registry.domain import Provider
from services.registry.store import rows


async def sealed_otherwise(session: AsyncSession, heading: bytes, *, after: str, limit: int) -> Sequence[Provider]:
    """Providers, by uid, whose envelope does not begin with `heading`."""
    table, project = tables.providers, tables.projects
    found = (
        await session.execute(
            select(table).where(table.c.uid > after, *_otherwise(heading)).order_by(table.c.uid).limit(limit)
        )
    ).all()
    uids = {row.project for row in found}
    projects = {
        row.uid: rows.project(row) for row in await session.execute(select(project).where(project.c.uid.in_(uids)))
    }
    return [rows.provider(row, projects[row.project]) for row in found]


async def count_sealed_otherwise(session: AsyncSession, heading: bytes) -> int:
    """How many there are."""
    query = select(func.count()).select_from(tables.providers).where(*_otherwise(heading))
    return (await session.execute(query)).scalar_one()


async def replace_envelope(session: AsyncSession, provider: Provider) -> None:
    """Store another envelope; nobody but who opens it sees a difference, so the rest of the row stays."""
    table = tables.providers
    await session.execute(update(table).where(table.c.uid == provider.uid).values(envelope=provider.envelope))


def _otherwise(heading: bytes) -> tuple[ColumnElement[bool], ...]:
    envelope = tables.providers.c.envelope
    return envelope.is_not(None), func.substring(envelope, 1, len(heading)) != heading
