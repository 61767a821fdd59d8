"""Settings of inference."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

from kit.config import Settings, settings_config


def _cores() -> int:
    """Those this process may use: a container's share, where the system tells it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class InferenceConfig(Settings):
    """How items are recommended, and where trained models lie."""

    model_config = settings_config("TURNOUT_INFERENCE_")

    artifacts_dir: Path | None = None
    """A folder that every inference process sees and that outlives them all: what was uploaded lies there."""
    max_artifact_bytes: int = Field(16 << 30, ge=1 << 10)
    """The largest artifact taken."""
    concurrent_uploads: int = Field(4, ge=1)
    """How many uploads one process takes at a time."""
    upload_idle_seconds: float = Field(60, gt=0)
    """How long an upload may pause between two pieces."""
    threads: int = Field(default_factory=_cores, ge=1)
    """How many batches are computed at a time; one at a time for each model."""
    max_batch: int = Field(64, ge=1)
    """How many calls to one model are computed together at most."""
    direct_multiplications: int = Field(1_000_000, ge=0)
    """A model that multiplies at most so many numbers for one user answers without a thread; 0: none does."""
    max_queued: int = Field(1024, ge=1)
    """How many calls wait for one model at most."""
    capture_payloads: bool = True
    """Whether what was recommended is kept beside the record of a call."""


SETTINGS = InferenceConfig
