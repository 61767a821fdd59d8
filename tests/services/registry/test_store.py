from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from kit import database
from kit.changelog import ChangeLog
from kit.errors import CannotStart
from services.registry import tables
from services.registry.store import PostgresStore


async def test_the_migrations_make_the_tables_that_the_code_expects(own_database: str) -> None:
    def differences(connection: Connection) -> list[Any]:
        connection.execute(text(f"SET search_path TO {tables.SCHEMA}"))
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        found: list[Any] = compare_metadata(context, tables.metadata)
        return [each for each in found if "change_" not in repr(each) and "alembic_version" not in repr(each)]

    engine = create_async_engine(own_database)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


async def test_numbers_are_given_once_and_a_rolled_back_one_again(own_database: str) -> None:
    async with database.sessions(own_database, schema=tables.SCHEMA) as sessions:
        store = PostgresStore(sessions, ChangeLog(tables.SCHEMA))
        given = []
        for is_dry in (False, True, False):
            async with store.writing(is_dry=is_dry) as tx:
                given.append((await tx.next_number("thing"), await tx.next_number("thing", 3)))
                await tx.announce([])

    assert given == [(1, 2), (5, 6), (5, 6)]


async def test_a_write_that_fails_or_is_dry_leaves_no_change(own_database: str) -> None:
    async with database.sessions(own_database, schema=tables.SCHEMA) as sessions:
        store = PostgresStore(sessions, ChangeLog(tables.SCHEMA))
        async with store.writing(is_dry=True) as tx:
            await tx.announce([])
        with contextlib.suppress(ZeroDivisionError):
            async with store.writing() as tx:
                await tx.announce([])
                raise ZeroDivisionError
        async with store.writing() as tx:
            assert tx.sequence == 1
            await tx.announce([])
        async with store.writing() as tx:
            assert tx.sequence == 2


@pytest.mark.parametrize("case", ["", "nowhere", "no schema", "no such database", "nonsense"])
async def test_a_database_that_cannot_be_used_stops_the_start_in_a_sentence_without_the_password(
    own_database: str, postgres: Any, new_keys: Any, start: Any, case: str
) -> None:
    postgres.create_database("without_schema")
    url = {
        "": "",
        "nowhere": "postgresql+asyncpg://turnout:hunter2@127.0.0.1:1/registry",
        "no schema": postgres.url("without_schema"),
        "no such database": postgres.url("absent").replace("postgres@", "postgres:hunter2@"),
        "nonsense": "hunter2",
    }[case]

    with pytest.raises(CannotStart) as failure:
        async with start(url, new_keys()):
            pass

    sentence = str(failure.value)
    assert "migrate" in sentence if case == "no schema" else "TURNOUT_REGISTRY_DATABASE_URL" in sentence
    assert "hunter2" not in sentence


def test_the_settings_are_read_without_a_database_library() -> None:
    program = (
        "import sys, services.registry.config; "
        "print(sorted({'sqlalchemy', 'alembic', 'asyncpg', 'grpc'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[3]
    found = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"
