"""Migrations: each service's own schema, moved by Alembic, never at service start.

A room's `migrations/` folder holds Alembic revisions (`versions/NNNN_words.py`); its version table lies in its schema.
What a service checks as it starts is :mod:`kit.schema_version`'s.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from kit.database import CONNECT_TIMEOUT_SECONDS, translated


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
        script = ScriptDirectory(str(folder), version_locations=[str(folder / "versions")])
        with EnvironmentContext(
            Config(), script, fn=lambda revision, _: script._upgrade_revs("head", revision), destination_rev="head"
        ) as environment:
            environment.configure(connection=connection, version_table_schema=schema, transaction_per_migration=True)
            environment.run_migrations()
        connection.commit()
        context = MigrationContext.configure(connection, opts={"version_table_schema": schema})
        return context.get_current_revision() or ""

    with translated():
        engine = create_async_engine(url, connect_args={"timeout": CONNECT_TIMEOUT_SECONDS})
        try:
            async with asyncio.timeout(600), engine.connect() as connection:
                return await connection.run_sync(run)
        finally:
            await engine.dispose()
