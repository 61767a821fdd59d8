"""What is written of API keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import DateTime, Text, column, func, insert, or_, select, update, values
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import tables
from services.registry.domain import ApiKey
from services.registry.store import rows

_keys = tables.api_keys


class KeyNoting:
    """Part of the Noting port, on one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def note_key_uses(self, times: Mapping[str, datetime]) -> None:
        """Move `used_at` forward, never back."""
        if not times:
            return
        # Locked in one order: two reports of the same keys wait for each other, and never both.
        locked = select(_keys.c.uid).where(_keys.c.uid.in_(times)).order_by(_keys.c.uid).with_for_update(key_share=True)
        await self._session.execute(locked)
        given = values(column("uid", Text), column("used_at", DateTime(timezone=True)), name="given").data(
            list(times.items())
        )
        is_newer = or_(_keys.c.used_at.is_(None), _keys.c.used_at < given.c.used_at)
        await self._session.execute(
            update(_keys)
            .where(_keys.c.uid == given.c.uid, is_newer)
            .values(used_at=func.greatest(_keys.c.used_at, given.c.used_at))
        )


class KeyWriting(KeyNoting):
    """Part of the Writing port, on one session."""

    async def add_api_key(self, key: ApiKey) -> None:
        """Store it."""
        await self._session.execute(insert(_keys).values(uid=key.uid, **_values(key)))

    async def replace_api_key(self, key: ApiKey) -> None:
        """Store another state of it. When it was used is noted beside."""
        await self._session.execute(update(_keys).where(_keys.c.uid == key.uid).values(**_values(key)))

    async def bootstrap_keys(self, setting: str) -> Sequence[ApiKey]:
        """Those that came from a setting and are not revoked."""
        query = select(_keys).where(_keys.c.bootstrap == setting, _keys.c.revoked_at.is_(None)).order_by(_keys.c.uid)
        return [rows.api_key(row, None) for row in await self._session.execute(query)]


def _values(key: ApiKey) -> dict[str, Any]:
    return {
        "project": None if key.project is None else key.project.uid,
        "display_name": key.display_name,
        "scopes": list(key.scopes),
        "secret_hash": key.secret_hash,
        "creator": key.creator,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "bootstrap": key.bootstrap,
        "requests_per_minute": key.requests_per_minute,
        **rows.record_values(key.record),
    }
