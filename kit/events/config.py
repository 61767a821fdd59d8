"""Settings of the way events take: the local spool, then NATS JetStream."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from kit.config import Settings, settings_config


class EventsConfig(Settings):
    """Where events wait and where they go."""

    model_config = settings_config("TURNOUT_")

    data_dir: Path | None = None
    """A writable volume that outlives the container: the spool lies in its folder `spool`."""
    nats_url: SecretStr = SecretStr("nats://127.0.0.1:4222")
    """One address or several, separated by commas; secret because it may hold a user and a password."""
    events_stream_max_bytes: int = Field(8 << 30, ge=1 << 20)
    """How large the stream is made; one that exists already is left as its operator wants it."""
    spool_max_bytes: int = Field(2 << 30, ge=32 << 20)
    spool_fsync: Literal["never", "batch"] = "never"
    """`never` survives the death of the process; `batch` survives power loss too, but for the last moments."""
