from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import pytest

from bench.tensorzero_tables import Migration, create, migrations
from stack.postgres import Postgres

BASE = 0x10000


def migration(version: int, sql: str) -> Migration:
    return Migration(version, sql, hashlib.sha384(sql.encode()).digest())


def library(steps: Sequence[Migration], *, spoilt: bool = False) -> bytes:
    """A shared library that holds these, as a Rust program does."""
    texts, table, places = b"", b"", []
    for step in steps:
        for part in (step.checksum, step.sql.encode()):
            places.append((len(table), len(texts)))
            table += struct.pack("<QQQ", 0, len(part), 0)
            texts += part
        table = table[:-8] + struct.pack("<q", step.version)
    pointers = b"".join(struct.pack("<QQq", BASE + 0x1000 + place, 8, BASE + 0x8000 + text) for place, text in places)
    if spoilt:
        texts = texts.replace(b"TABLE", b"table")
    contents = {4: (0, pointers), 1: (BASE + 0x1000, table), 2: (BASE + 0x8000, texts)}
    headers, data = b"", b"\0" * 64
    for kind, (address, part) in contents.items():
        headers += struct.pack("<IIQQQQIIQQ", 0, kind, 0, address, len(data), len(part), 0, 0, 0, 0)
        data += part
    return struct.pack("<40xQ10xHH2x", len(data), 64, len(contents)) + data[64:] + headers


STEPS = [migration(20260101000000, "CREATE TABLE one (id int)"), migration(20260102000000, "CREATE TABLE two (id int)")]


def test_migrations_are_found_by_their_checksums(tmp_path: Path) -> None:
    file = tmp_path / "library.so"
    file.write_bytes(library(STEPS[::-1]))

    assert migrations(file) == STEPS


@pytest.mark.parametrize("data", [library(STEPS, spoilt=True), library([]), b"", b"no library" * 100])
def test_what_holds_none_has_none(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "library.so"
    file.write_bytes(data)

    assert list(migrations(file)) == []


async def test_tables_are_made_and_steps_noted_but_for_what_needs_an_extension(postgres: Postgres) -> None:
    postgres.create_database("tensorzero_tables")
    url = postgres.url("tensorzero_tables").replace("postgresql+asyncpg", "postgresql", 1)

    await create(url, [*STEPS, migration(20260103000000, "SELECT durable.create_queue('any')")])

    connection = await asyncpg.connect(url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM one, two") == 0
        noted = await connection.fetch("SELECT version, checksum FROM _sqlx_migrations ORDER BY version")
    finally:
        await connection.close()
    assert [tuple(row) for row in noted[:2]] == [(step.version, step.checksum) for step in STEPS]
    assert len(noted) == 3
