"""Stored credentials of every project, for giving them another key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, LargeBinary, Select, Text, column, func, select, update, values
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import tables
from services.registry.domain import Provider
from services.registry.store import rows


async def sealed_otherwise(session: AsyncSession, heading: bytes, *, after: str, limit: int) -> Sequence[Provider]:
    """Providers, by uid, whose envelope does not begin with `heading`."""
    table = tables.providers
    query: Select[Any] = select(table).where(table.c.uid > after, *_otherwise(heading))
    found = (await session.execute(query.order_by(table.c.uid).limit(limit))).all()
    return await _providers(session, found)


async def count_sealed_otherwise(session: AsyncSession, heading: bytes) -> int:
    """How many there are."""
    query = select(func.count()).select_from(tables.providers).where(*_otherwise(heading))
    return (await session.execute(query)).scalar_one()


async def replace_envelopes(session: AsyncSession, anew: Mapping[str, tuple[bytes, bytes]]) -> Sequence[Provider]:
    """Store other envelopes; nobody but who opens them sees a difference, so the rest of the rows stays."""
    table = tables.providers
    columns = (column("uid", Text), column("former", LargeBinary), column("envelope", LargeBinary))
    given = values(*columns, name="given").data([(uid, *envelopes) for uid, envelopes in anew.items()])
    statement = (
        update(table)
        .where(table.c.uid == given.c.uid, table.c.envelope == given.c.former)
        .values(envelope=given.c.envelope)
        .returning(table)
    )
    return await _providers(session, (await session.execute(statement)).all())


async def _providers(session: AsyncSession, found: Sequence[rows.AnyRow]) -> Sequence[Provider]:
    project = tables.projects
    query = select(project).where(project.c.uid.in_({row.project for row in found}))
    projects = {row.uid: rows.project(row) for row in await session.execute(query)}
    return [rows.provider(row, projects[row.project]) for row in found]


def _otherwise(heading: bytes) -> tuple[ColumnElement[bool], ...]:
    envelope = tables.providers.c.envelope
    return envelope.is_not(None), func.substring(envelope, 1, len(heading)) != heading
