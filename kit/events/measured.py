"""What metrics show of the spool: how much waits in it, and what went wrong."""

from __future__ import annotations

from kit.metrics import Reading
from kit.spool import Usage


def readings_of(usage: Usage) -> list[Reading]:
    """The spool's books as readings."""
    return [
        Reading("turnout_spool_pending_records", "Events that the broker has not acknowledged.", usage.pending_records),
        Reading(
            "turnout_spool_oldest_pending_seconds",
            "Age of the oldest event that the broker has not acknowledged; 0 if there is none.",
            usage.oldest_pending_seconds,
        ),
        Reading("turnout_spool_backlog_bytes", "What counts against the spool's bound.", usage.needed_bytes),
        Reading("turnout_spool_bound_bytes", "The spool's bound: at 80 % payloads are shed.", usage.bound_bytes),
        Reading("turnout_spool_size_bytes", "All of the spool on disk, acknowledged segments included.", usage.bytes),
        Reading("turnout_spool_segments", "Files of the spool on disk.", usage.segments),
        Reading("turnout_spool_folders", "Folders that this process relays: its own, and adopted ones.", usage.folders),
        Reading("turnout_spool_open_calls", "Calls whose start is written and whose end is not.", usage.open_calls),
        Reading(
            "turnout_spool_rejected_records",
            "Events that the broker will never take; they lie in `rejected`.",
            usage.rejected_records,
            is_counter=True,
        ),
        Reading(
            "turnout_spool_lost_calls",
            "Calls of processes that died, reported as lost by this one.",
            usage.lost_calls,
            is_counter=True,
        ),
        Reading(
            "turnout_spool_corrupt_segments",
            "Segments of which a part could not be read.",
            usage.corrupt_segments,
            is_counter=True,
        ),
        Reading(
            "turnout_spool_failed_writes",
            "Writes to the spool's disk that failed.",
            usage.failed_writes,
            is_counter=True,
        ),
        Reading(
            "turnout_spool_publish_failures",
            "How often the relay could not publish, mostly because the broker takes nothing.",
            usage.failed_rounds,
            is_counter=True,
        ),
    ]
