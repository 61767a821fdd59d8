"""How many elements of a list fit one answer: Postgres knows sizes without reading the values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import tables

K = TypeVar("K")

_VARIANT_BYTES: Final = 700
"""What a variant takes in an answer beside its texts: its names, mostly."""


def text_bytes(*columns: ColumnElement[Any]) -> ColumnElement[int]:
    """What texts take in an answer together."""
    size: ColumnElement[int] = sum((func.octet_length(column) for column in columns), start=literal(0))
    return size


def fitting(sized: Iterable[tuple[K, int]], count: int, max_bytes: int) -> list[K]:
    """The keys of the first elements, at most `count` and `max_bytes` of them, but one whatever its size.

    :param sized: keys with sizes in bytes
    """
    keys: list[K] = []
    for key, size in sized:
        max_bytes -= size
        if len(keys) == count or (keys and max_bytes < 0):
            break
        keys.append(key)
    return keys


async def revision_bytes(session: AsyncSession, revisions: Collection[str]) -> Mapping[str, int]:
    """What the variants and the routing of revisions take in an answer, by the revisions' uids."""
    of, own = tables.revision_variants, tables.revisions
    texts: Any = func.octet_length(of.c.display_name) + func.octet_length(of.c.notes)
    size = func.sum(texts + func.coalesce(func.octet_length(of.c.execution), 0) + _VARIANT_BYTES)
    variants = select(size).where(of.c.revision == own.c.uid).scalar_subquery()
    # Slugs, of which it has one for each uid there, may be twice as long.
    routing = 2 * func.coalesce(func.octet_length(own.c.routing), 0)
    query = select(own.c.uid, (func.coalesce(variants, 0) + routing).label("bytes")).where(own.c.uid.in_(revisions))
    return {row.uid: int(row.bytes) for row in await session.execute(query)}


async def deployment_bytes(session: AsyncSession, deployments: Iterable[Any]) -> list[tuple[str, int]]:
    """The uids of deployments with what they take in a list, in their order.

    :param deployments: rows of `deployments`
    """
    found, alias = list(deployments), tables.aliases
    query = select(alias.c.deployment, alias.c.alias, alias.c.revision)
    query = query.where(alias.c.deployment.in_([row.uid for row in found]))
    pointers = (await session.execute(query)).all()
    # All of them are read, though `live` alone is answered with its variants.
    sizes = await revision_bytes(session, {row.revision for row in pointers})
    of: dict[str, set[str]] = {}
    for row in pointers:
        of.setdefault(row.deployment, set()).add(row.revision)
    return [
        (
            row.uid,
            2 * _VARIANT_BYTES
            + len(row.display_name.encode())
            + len(row.description.encode())
            + sum(sizes.get(revision, 0) for revision in of.get(row.uid, ())),
        )
        for row in found
    ]
