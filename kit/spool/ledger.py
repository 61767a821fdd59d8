"""The spool's books: what all folders of this process hold together, and what has happened since it started."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Ledger:
    """Running totals; every folder posts to the same one, so that the request path reads a number, not a disk."""

    bytes: int = 0
    reclaimable_bytes: int = 0
    """In segments that are acknowledged and stay only for a rebuild."""
    pending_records: int = 0
    rejected_records: int = 0
    rejected_dropped: int = 0
    lost_calls: int = 0
    corrupt_segments: int = 0
    failed_writes: int = 0
    failed_rounds: int = 0
    is_starved: bool = False
    """The disk had no room for the last write, whatever our bound says."""

    @property
    def needed_bytes(self) -> int:
        """What cannot be dropped to make room."""
        return self.bytes - self.reclaimable_bytes


@dataclass(frozen=True, slots=True)
class Usage:
    """The books at one moment, for metrics. Counters count from the start of the process."""

    bytes: int
    needed_bytes: int
    """Those of segments that are not acknowledged: the backlog, which counts against the bound."""
    bound_bytes: int
    folders: int
    segments: int
    open_calls: int
    pending_records: int
    oldest_pending_seconds: float
    """Age of the oldest record that is not acknowledged; 0 when there is none."""
    rejected_records: int
    rejected_dropped: int
    """Files that left `rejected/` because it was full."""
    lost_calls: int
    corrupt_segments: int
    failed_writes: int
    failed_rounds: int
    """How often the relay could not go on, mostly because the broker takes nothing; it tries again."""
