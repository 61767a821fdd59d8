"""Which version a service's schema is at, and which one its code needs.

Without Alembic, which moves schemas (:mod:`kit.migrations`): with what it imports it takes some 8 MB, and a process
that serves never moves any.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from kit.database import CONNECT_TIMEOUT_SECONDS, translated
from kit.errors import CannotStart


class SchemaBehind(CannotStart):
    """The database is not at the version that this code needs. The text tells the operator what to run."""


async def require_current(url: str, *, schema: str, folder: Path) -> None:
    """Check that a schema is at the version that this code needs.

    :param folder: the service's `migrations/`
    :raises SchemaBehind: if it is older or newer, or was never made
    :raises Unavailable: `DATABASE_UNAVAILABLE`
    """
    wanted = newest(folder)
    found = await _current(url, schema)
    if found != [wanted]:
        raise SchemaBehind(
            f"the database schema {schema!r} is at {' and '.join(found) or 'no version'}, this code needs {wanted}: "
            "run `python -m services migrate`"
        )


def newest(folder: Path) -> str:
    """The version that a service's revisions lead to: they are `versions/NNNN_words.py`, and follow their numbers."""
    return max(path.name.partition("_")[0] for path in (folder / "versions").glob("[0-9]*_*.py"))


async def _current(url: str, schema: str) -> list[str]:
    """One, unless somebody has meddled."""
    table = f'"{schema}".alembic_version'
    with translated():
        engine = create_async_engine(url, connect_args={"timeout": CONNECT_TIMEOUT_SECONDS})
        try:
            async with asyncio.timeout(60), engine.connect() as connection:
                if await connection.scalar(text("SELECT to_regclass(:name)"), {"name": table}) is None:
                    return []
                query = text(f"SELECT version_num FROM {table} ORDER BY version_num")  # noqa: S608  # ours
                return list(await connection.scalars(query))
        finally:
            await engine.dispose()
