"""The tables in Postgres in which TensorZero records calls.

Its server makes them, and its Python package has no server. But the library in the package holds each migration as sqlx
embeds it in a Rust program: its text, the text's SHA-384 and its version. They are found by that checksum, so none is
guessed, and a library that keeps them otherwise has none.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

_HEADER: Final = struct.Struct("<40xQ10xHH")
"""Of a 64-bit ELF file: where the headers of its sections begin, of what size, how many."""
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_RELOCATION: Final = struct.Struct("<QQq")
_RELOCATIONS, _NOT_IN_FILE = 4, 8
_RELATIVE: Final = (8, 1027)
"""R_X86_64_RELATIVE, R_AARCH64_RELATIVE: the address that stands here is within the library."""

_CHECKSUM, _VERSION = -24, 16
"""Where they stand, in bytes from a migration's text: two slices of address and length, and a number."""
_CHECKSUM_BYTES: Final = 48
_LONGEST: Final = 1 << 20
_LEDGERS: Final = ("", "tensorzero_auth_", "tensorzero_stored_config_")
"""Of each part of TensorZero, which migrations it has run: `<this>_sqlx_migrations`."""


@dataclass(frozen=True, slots=True, order=True)
class Migration:
    """One step."""

    version: int
    """When it was written, as YYYYMMDDhhmmss."""
    sql: str
    checksum: bytes


def migrations(library: Path) -> Sequence[Migration]:
    """All that a shared library holds, in order of their versions; none if it is no such library."""
    try:
        return sorted(_Library(library.read_bytes()).migrations())
    except (struct.error, IndexError):
        return ()


async def create(url: str, steps: Sequence[Migration]) -> None:
    """Make the tables in an empty database.

    :param url: `postgresql://…`
    :raises asyncpg.PostgresError: a step failed
    """
    connection = await asyncpg.connect(url)
    try:
        for ledger in _LEDGERS:
            await connection.execute(
                f"CREATE TABLE {ledger}_sqlx_migrations (version bigint PRIMARY KEY, description text NOT NULL, "
                "installed_on timestamptz NOT NULL DEFAULT now(), success boolean NOT NULL, checksum bytea NOT NULL, "
                "execution_time bigint NOT NULL)"
            )
        for step in steps:
            # One makes queues for evaluations by an extension that comes with its server; nothing here needs them.
            with suppress(asyncpg.InvalidSchemaNameError):
                await connection.execute(step.sql)
            # Each part of it asks for its own ones and passes over the others.
            for ledger in _LEDGERS:
                await connection.execute(
                    f"INSERT INTO {ledger}_sqlx_migrations VALUES ($1, '', now(), true, $2, 0)",
                    step.version,
                    step.checksum,
                )
    finally:
        await connection.close()


class _Library:
    """A shared library in ELF, as far as it is read here."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        start, size, count = _HEADER.unpack_from(data)
        sections = [_SECTION.unpack_from(data, start + number * size) for number in range(count)]
        self._placed = [
            (address, address + length, offset - address)
            for _, kind, _, address, offset, length, *_ in sections
            if address and kind != _NOT_IN_FILE
        ]
        self._pointers: dict[int, int] = {}
        for _, kind, _, _, offset, length, *_ in sections:
            if kind == _RELOCATIONS:
                for place, info, address in _RELOCATION.iter_unpack(data[offset : offset + length]):
                    if info & 0xFFFFFFFF in _RELATIVE:
                        self._pointers[place] = address

    def migrations(self) -> set[Migration]:
        """Found by their checksums."""
        found = set()
        for place in self._pointers:
            checksum = self._slice(place + _CHECKSUM)
            if checksum is not None and len(checksum) == _CHECKSUM_BYTES:
                text = self._slice(place)
                if text and hashlib.sha384(text).digest() == checksum:
                    version = int.from_bytes(self._at(place + _VERSION, 8), "little")
                    found.add(Migration(version, text.decode(), checksum))
        return found

    def _slice(self, place: int) -> bytes | None:
        """What Rust's `&str` or `&[u8]` at an address refers to."""
        address = self._pointers.get(place)
        if address is None:
            return None
        return self._at(address, int.from_bytes(self._at(place + 8, 8), "little"))

    def _at(self, address: int, length: int) -> bytes:
        for first, end, difference in self._placed:
            if first <= address < end:
                start = address + difference
                return self._data[start : start + min(length, _LONGEST)]
        return b""
