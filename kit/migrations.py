"""Migrations: each service's own schema, moved by Alembic, never at service start.

A room's `migrations/` folder holds Alembic revisions (`versions/NNNN_words.py`); its version table lies in its schema.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from kit.database import CONNECT_TIMEOUT_SECONDS, translated
from kit.errors import CannotStart

T = TypeVar("T")


class SchemaBehind(CannotStart):
    """The database is not at the version that this code needs. The text tells the operator what to run."""


async def migrate(url: str, *, schema: str, folder: Path) -> str:
    """Bring a schema to its newest version; creates it if need be. Safe to run twice, and by two at once.

    :return: the version it is at now
    :raises Unavailable: `DATABASE_UNAVAILABLE`
    """

    def run(connection: Connection) -> str:
        # Two that migrate at once: the second waits, then finds nothing to do.
        connection.execute(text("SELECT pg_advisory_lock(hashtextextended(:name, 0))"), {"name": f"migrate {schema}"})
        connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'))
        connection.execute(text(f'SET search_path TO "{schema}"'))
        connection.commit()
        script = _script(folder)
        with EnvironmentContext(
            Config(), script, fn=lambda revision, _: script._upgrade_revs("head", revision), destination_rev="head"
        ) as environment:
            environment.configure(connection=connection, version_table_schema=schema, transaction_per_migration=True)
            environment.run_migrations()
        connection.commit()
        return _current(connection, schema) or ""

    return await _with_connection(url, run)


async def require_current(url: str, *, schema: str, folder: Path) -> None:
    """Check that a schema is at the version that this code needs.

    :raises SchemaBehind: if it is older or newer, or was never made
    :raises Unavailable: `DATABASE_UNAVAILABLE`
    """
    wanted = _script(folder).get_current_head()
    found = await _with_connection(url, lambda connection: _current(connection, schema))
    if found != wanted:
        raise SchemaBehind(
            f"the database schema {schema!r} is at {found or 'no version'}, this code needs {wanted}: "
            "run `python -m services migrate`"
        )


def _script(folder: Path) -> ScriptDirectory:
    return ScriptDirectory(str(folder), version_locations=[str(folder / "versions")])


def _current(connection: Connection, schema: str) -> str | None:
    context = MigrationContext.configure(connection, opts={"version_table_schema": schema})
    return context.get_current_revision()


async def _with_connection(url: str, work: Callable[[Connection], T]) -> T:
    with translated():
        engine = create_async_engine(url, connect_args={"timeout": CONNECT_TIMEOUT_SECONDS})
        try:
            async with asyncio.timeout(600), engine.connect() as connection:
                return await connection.run_sync(work)
        finally:
            await engine.dispose()
