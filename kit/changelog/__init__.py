"""One append-only log of changes in a service's own schema, its compacted state, and the fan-out to who follows it.

Every transaction that appends holds one advisory lock until it ends, so sequences count transactions in commit order,
without gaps: whoever has seen n has seen everything up to n. Knows no noun: a change is keys and bytes.
"""

from kit.changelog.feed import Event, Feed, Idle, Resumed, SnapshotBegin, SnapshotChunk, SnapshotEnd
from kit.changelog.log import Batch, Change, ChangeLog, Discontinuity, Entry, Head, Snapshot, create_tables

__all__ = [
    "Batch",
    "Change",
    "ChangeLog",
    "Discontinuity",
    "Entry",
    "Event",
    "Feed",
    "Head",
    "Idle",
    "Resumed",
    "Snapshot",
    "SnapshotBegin",
    "SnapshotChunk",
    "SnapshotEnd",
    "create_tables",
]
