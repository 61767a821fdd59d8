"""Rows that were written before the schema went on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from completions.version import Version as Content
from kit import database
from kit.changelog import ChangeLog
from kit.errors import Precondition
from kit.migrations import migrate
from kit.paging import PageRequest
from services.registry import module, tables
from services.registry.convert.versions import pack_content
from services.registry.domain import USUAL, WEIGHTS_ALONE, Completion, DeploymentSearch
from services.registry.store import PostgresStore

RECORD = "now(), now(), 1, 1"
ROWS_OF_0004 = (
    f"INSERT INTO projects VALUES ('prj_1', 1, 'shop', 'Shop', {RECORD})",
    f"INSERT INTO providers VALUES ('prv_1', 'prj_1', 'main', 'openai', 'main', 'https://a.example', NULL, {RECORD})",
    "INSERT INTO versions VALUES ('prj_1', 'ver_1', 'prv_1', $1, now(), 1, now())",
    "INSERT INTO versions VALUES ('prj_1', 'ver_2', 'prv_1', $1, now(), 1, now())",
    f"""
    INSERT INTO deployments (uid, project, slug, kind, display_name, description, creator, protected, search_text,
        first_provider, first_model, created_at, updated_at, created_in, changed_in)
    VALUES ('dep_1', 'prj_1', 'guide', 'completion', 'Guide', '', 'me', false, '', '', '', {RECORD})""",
    """
    INSERT INTO revisions (uid, deployment, major, minor, salt, author, description, published, created_at)
    VALUES ('rev_1', 'dep_1', 1, 0, 's', 'me', '', true, now())""",
    "INSERT INTO variants (uid, deployment, number, slug) VALUES ('var_1', 'dep_1', 1, 'a')",
    """
    INSERT INTO revision_variants (revision, position, variant, display_name, notes, active, weight, project, version,
        max_retries)
    VALUES ('rev_1', 0, 'var_1', 'A', '', true, 100, 'prj_1', 'ver_1', 3)""",
    "INSERT INTO aliases (deployment, alias, revision, updated_at) VALUES ('dep_1', 'live', 'rev_1', now())",
    f"""
    INSERT INTO api_keys (uid, project, display_name, scopes, secret_hash, creator, bootstrap, created_at, updated_at,
        created_in, changed_in)
    VALUES ('key_1', 'prj_1', 'K', '{{}}', decode(repeat('00', 32), 'hex'), 'me', '', {RECORD})""",
)


async def test_rows_from_before_0005_ask_for_nothing_and_are_found(postgres: Any, tmp_path: Path) -> None:
    postgres.create_database("registry_0004")
    url = postgres.url("registry_0004")
    older = tmp_path / "versions"
    older.mkdir()
    for number in ("0001", "0002", "0003", "0004"):
        for script in (module.MIGRATIONS / "versions").glob(f"{number}_*.py"):
            shutil.copy(script, older)
    assert await migrate(url, schema=tables.SCHEMA, folder=tmp_path) == "0004"
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        await connection.execute(f"SET search_path TO {tables.SCHEMA}")
        for statement in ROWS_OF_0004:
            arguments = [pack_content(Content("main", "small"))] if "$1" in statement else []
            await connection.execute(statement, *arguments)
    finally:
        await connection.close()

    assert await migrate(url, schema=tables.SCHEMA, folder=module.MIGRATIONS) >= "0005"

    async with database.sessions(url, schema=tables.SCHEMA) as sessions:
        store = PostgresStore(sessions, ChangeLog(tables.SCHEMA))
        async with store.reading() as tx:
            project = await tx.project("shop")
            assert project is not None
            provider, key = await tx.provider(project, "main"), await tx.api_key(project, "key_1")
            deployment = await tx.deployment(project, "guide")
            found = [
                [
                    each.slug
                    for each, _ in (await tx.deployments(project, PageRequest(9, None), search, max_bytes=9999))[0]
                ]
                for search in (DeploymentSearch(("small",)), DeploymentSearch(("main",)), DeploymentSearch(("other",)))
            ]
        async with sessions() as session:
            sorted_by = (await session.execute(text("SELECT first_provider, first_model FROM deployments"))).one()
    assert provider is not None
    assert (provider.model_facts, provider.max_concurrent_calls) == ((), 0)
    assert key is not None
    assert key.requests_per_minute == 0
    assert deployment is not None
    assert deployment.live.variants[0].serving == Completion("ver_1", 3, None, None, USUAL)
    assert deployment.live.routing == WEIGHTS_ALONE
    assert found == [["guide"], ["guide"], []]
    assert tuple(sorted_by) == ("main", "small")


async def test_a_database_without_trigrams_is_told_what_it_needs(postgres: Any, tmp_path: Path) -> None:
    postgres.create_database("registry_bare")
    shutil.copytree(module.MIGRATIONS, tmp_path / "migrations")
    core = tmp_path / "migrations" / "versions" / "0004_core.py"
    core.write_text(core.read_text().replace("pg_trgm WITH", "pg_no_trgm WITH"))

    with pytest.raises(Precondition) as failure:
        await migrate(postgres.url("registry_bare"), schema=tables.SCHEMA, folder=tmp_path / "migrations")

    assert failure.value.reason == "PG_TRGM_MISSING"
    assert "contrib" in failure.value.message
