"""What can be set about a spool, and the failure of a spool that cannot be had."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kit.errors import CannotStart

SHED_AT = 0.8
"""Share of the bound from which payloads are shed, and acknowledged segments are dropped before their time."""


class SpoolUnusable(CannotStart):
    """The service must not start: without a spool, calls would go unrecorded. Says which setting to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolOptions:
    """All sizes are bytes, all times seconds."""

    root: Path
    """An existing, writable folder on a volume that outlives the container; several processes may share it."""
    root_setting: str
    """Name of the setting that holds `root`, for the message when it cannot be used."""
    bound_bytes: int = 2 << 30
    """Of all folders that this process owns, adopted ones included; `rejected/` has its own."""
    segment_bytes: int = 16 << 20
    max_record_bytes: int = 8 << 20
    """Of one append: a start, or all events of an end."""
    retention_seconds: float = 3600.0
    """How long a segment stays after its last record was acknowledged, unless the space is needed."""
    fsync: Literal["never", "batch"] = "never"
    """`never` survives the death of the process; `batch` also the loss of power, but for the last interval."""
    fsync_interval_seconds: float = 0.05
    rejected_bytes: int = 64 << 20
    rejected_files: int = 1000
    batch_records: int = 256
    batch_bytes: int = 1 << 20
    linger_seconds: float = 0.05
    """How long the relay waits for company between batches that are not full."""
    publish_timeout_seconds: float = 30.0
    backoff_min_seconds: float = 0.1
    backoff_max_seconds: float = 10.0
    adopt_interval_seconds: float = 10.0
    """How often the relay looks for folders whose owner died, and for segments past their retention."""
