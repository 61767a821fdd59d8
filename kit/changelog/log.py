"""The log: three tables in a service's schema, appended to inside the service's own transactions."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncSession

from kit.changelog.listener import listening
from kit.database import Sessions, transaction
from kit.errors import Unavailable

POLL_SECONDS: Final = 0.5
"""How long a reader that no NOTIFY wakes waits before it looks."""
CHUNK_BYTES: Final = 1 << 20
_POLL_TIMEOUT_SECONDS: Final = 5.0
_BATCH_CHANGES: Final = 100
_CHUNK_ROWS: Final = 1000
# What an entry costs in a message beyond its key and payload; generous, so that a chunk stays below its bound.
_OVERHEAD_BYTES: Final = 16

_TABLES: Final = (
    """
    CREATE TABLE change_head (
        only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
        sequence bigint NOT NULL CHECK (sequence >= 0),
        epoch text NOT NULL
    )""",
    """
    CREATE TABLE change_log (
        sequence bigint PRIMARY KEY,
        keys text[] NOT NULL,
        payloads bytea[] NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        CHECK (cardinality(keys) = cardinality(payloads))
    )""",
    """
    CREATE TABLE change_state (
        key text COLLATE "C" PRIMARY KEY,
        sequence bigint NOT NULL,
        payload bytea NOT NULL
    )""",
)
_LOCK: Final = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
_HEAD: Final = text("SELECT sequence, epoch, current_setting('transaction_isolation') AS isolation FROM change_head")
_APPEND: Final = text("""
    WITH head AS (
        UPDATE change_head SET sequence = sequence + 1 RETURNING sequence
    ), given AS (
        SELECT key, payload FROM unnest(CAST(:keys AS text[]), CAST(:payloads AS bytea[])) AS given (key, payload)
    ), logged AS (
        INSERT INTO change_log (sequence, keys, payloads)
        SELECT sequence, CAST(:keys AS text[]), CAST(:payloads AS bytea[]) FROM head
    ), gone AS (
        DELETE FROM change_state WHERE key IN (SELECT key FROM given WHERE payload IS NULL)
    ), kept AS (
        INSERT INTO change_state (key, sequence, payload)
        SELECT key, sequence, payload FROM given, head WHERE payload IS NOT NULL
        ON CONFLICT (key) DO UPDATE SET sequence = excluded.sequence, payload = excluded.payload
    )
    SELECT sequence, pg_notify(CAST(:channel AS text), CAST(sequence AS text)) FROM head""")
_AFTER: Final = text("""
    SELECT head.sequence AS head, head.epoch, log.sequence, log.keys, log.payloads
    FROM change_head AS head
    LEFT JOIN LATERAL (
        SELECT sequence, keys, payloads FROM change_log WHERE sequence > :after ORDER BY sequence LIMIT :limit
    ) AS log ON true
    ORDER BY log.sequence""")
# The window carries references to large payloads, not the payloads: only those within the bound are read.
_CHUNK: Final = text("""
    SELECT key, payload FROM (
        SELECT key, payload, row_number() OVER by_key AS number,
            sum(octet_length(key) + octet_length(payload) + :overhead) OVER by_key AS total
        FROM (SELECT key, payload FROM change_state WHERE key > :after ORDER BY key LIMIT :limit) AS page
        WINDOW by_key AS (ORDER BY key)
    ) AS counted
    WHERE number = 1 OR total <= :bytes
    ORDER BY key""")
_RENEW: Final = text("UPDATE change_head SET epoch = :fresh WHERE epoch = :epoch AND sequence < :sequence")
_PRESENT: Final = text("SELECT key FROM change_state WHERE key = ANY(CAST(:keys AS text[]))")

Entry: TypeAlias = tuple[str, bytes | None]
"""A key and what it holds from now on; None means that it is gone."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where a log stands."""

    sequence: int
    """The last transaction's; 0 before the first."""
    epoch: str
    """The database's life: sequences of different epochs do not compare."""


@dataclass(frozen=True, slots=True)
class Change:
    """One transaction."""

    sequence: int
    entries: tuple[Entry, ...]

    @property
    def size_bytes(self) -> int:
        """Keys, payloads and what they cost in a message."""
        return sum(len(key) + len(payload or b"") + _OVERHEAD_BYTES for key, payload in self.entries)


@dataclass(frozen=True, slots=True)
class Batch:
    """What a look at the log found: changes in order, none skipped, and where the log stood then."""

    head: Head
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The compacted state as of one sequence."""

    head: Head
    chunks: AsyncIterator[list[tuple[str, bytes]]]
    """Keys and payloads in ascending byte order of the keys. A chunk costs at most `chunk_bytes` in a message, unless
    one entry alone is larger. Read inside the transaction that the snapshot was made in."""


class Discontinuity(Exception):
    """The log does not continue from where the reader stands: cut, replaced or restored. Start from a snapshot."""


def create_tables(connection: Connection) -> None:
    """Make the tables in the first schema of the search path, with a new epoch; for a migration of their owner."""
    for statement in _TABLES:
        connection.execute(text(statement))
    connection.execute(
        text("INSERT INTO change_head (sequence, epoch) VALUES (0, :epoch)"), {"epoch": str(uuid.uuid4())}
    )


class ChangeLog:
    """The log of one schema, which is what the sessions handed in have on their search path. Holds no connection."""

    def __init__(self, schema: str) -> None:
        self.channel = f"{schema}_changes"
        """The name that NOTIFY carries."""
        self._lock_name = f"change log of {schema}"

    async def lock(self, session: AsyncSession) -> int:
        """Wait for every earlier appender to end, and keep later ones waiting until this transaction ends. A use case
        takes it first, so that what it then reads is what its change will follow. READ COMMITTED only.

        :return: the sequence that :meth:`append` will answer with in this transaction
        """
        await session.execute(_LOCK, {"name": self._lock_name})
        # A statement of its own: one that waits for the lock would still see what was committed before it waited.
        return (await self.head(session)).sequence + 1

    async def append(self, session: AsyncSession, entries: Iterable[Entry]) -> int:
        """Append one change: call it once in a transaction. Of a key that is given twice the last counts. Takes the
        lock if :meth:`lock` did not. Readers see it when, and if, the transaction commits.

        :return: its sequence
        """
        await session.execute(_LOCK, {"name": self._lock_name})
        last = dict(entries)
        found = await session.execute(
            _APPEND, {"keys": list(last), "payloads": list(last.values()), "channel": self.channel}
        )
        sequence: int = found.one().sequence
        return sequence

    async def head(self, session: AsyncSession) -> Head:
        """Where the log stands."""
        row = (await session.execute(_HEAD)).one()
        return Head(row.sequence, row.epoch)

    async def present(self, session: AsyncSession, keys: Sequence[str]) -> set[str]:
        """Which of these keys the state holds."""
        return set(await session.scalars(_PRESENT, {"keys": list(keys)}))

    async def after(self, session: AsyncSession, sequence: int, limit: int = _BATCH_CHANGES) -> Batch:
        """The changes after `sequence`, oldest first, at most `limit`.

        :raises Discontinuity: if the next change is not there although the log has passed it, or if the log ends before
            `sequence`
        """
        rows = (await session.execute(_AFTER, {"after": sequence, "limit": limit})).all()
        head = Head(rows[0].head, rows[0].epoch)
        changes = tuple(
            Change(row.sequence, tuple(zip(row.keys, row.payloads, strict=True)))
            for row in rows
            if row.sequence is not None
        )
        next_is_there = bool(changes) and changes[0].sequence == sequence + 1
        if head.sequence < sequence or (head.sequence > sequence and not next_is_there):
            raise Discontinuity(f"the log is at {head.sequence} and does not continue from {sequence}")
        return Batch(head, changes)

    async def snapshot(self, session: AsyncSession, *, chunk_bytes: int = CHUNK_BYTES) -> Snapshot:
        """The state as of one sequence.

        :param session: in a transaction of isolation REPEATABLE READ, whose first query this is
        :raises ValueError: in any other transaction, where chunks would belong to different sequences
        """
        row = (await session.execute(_HEAD)).one()
        if row.isolation != "repeatable read":
            raise ValueError(f"a snapshot needs REPEATABLE READ, not {row.isolation}")
        return Snapshot(Head(row.sequence, row.epoch), self._chunks(session, chunk_bytes))

    async def _chunks(self, session: AsyncSession, chunk_bytes: int) -> AsyncIterator[list[tuple[str, bytes]]]:
        after = ""
        while True:
            bounds = {"after": after, "limit": _CHUNK_ROWS, "bytes": chunk_bytes, "overhead": _OVERHEAD_BYTES}
            rows = (await session.execute(_CHUNK, bounds)).all()
            if not rows:
                return
            yield [(row.key, row.payload) for row in rows]
            after = rows[-1].key

    async def renew_epoch(self, session: AsyncSession, known: Head) -> None:
        """Begin a new epoch if the log stands before `known` in the same one: it was restored from an older copy, and
        the sequences up to `known` will be given to other changes. Does nothing otherwise."""
        await session.execute(_RENEW, {"fresh": str(uuid.uuid4()), "epoch": known.epoch, "sequence": known.sequence})

    async def batches(
        self, sessions: Sessions, url: str, after: int, *, poll_seconds: float = POLL_SECONDS
    ) -> AsyncGenerator[Batch]:
        """Look for ever: on NOTIFY at once, else every `poll_seconds`; a batch may be empty. Close it when done.

        :param url: where to LISTEN, on a connection of its own that reconnects by itself
        :raises Unavailable: if the database cannot be reached or does not answer within 5 s
        :raises Discontinuity: as :meth:`after`
        """
        async with listening(url, self.channel) as woken:
            while True:
                # Cleared before the look: what is committed during it wakes the next one.
                woken.clear()
                batch = await self._look(sessions, after)
                yield batch
                if batch.changes:
                    after = batch.changes[-1].sequence
                if after < batch.head.sequence:
                    continue
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(poll_seconds):
                        await woken.wait()

    async def tail(
        self, sessions: Sessions, url: str, after: int, *, poll_seconds: float = POLL_SECONDS
    ) -> AsyncGenerator[Change]:
        """Every change after `after`, in order, for ever. Close it when done.

        :raises Unavailable: as :meth:`batches`; go on with the last sequence seen
        :raises Discontinuity: as :meth:`after`
        """
        async with contextlib.aclosing(self.batches(sessions, url, after, poll_seconds=poll_seconds)) as batches:
            async for batch in batches:
                for change in batch.changes:
                    yield change

    async def _look(self, sessions: Sessions, after: int) -> Batch:
        try:
            async with asyncio.timeout(_POLL_TIMEOUT_SECONDS), transaction(sessions) as session:
                return await self.after(session, after)
        except TimeoutError:
            raise Unavailable(
                "the database does not answer; try again", reason="DATABASE_UNAVAILABLE", retry_after_seconds=1
            ) from None
