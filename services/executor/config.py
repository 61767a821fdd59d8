"""Settings of the executor."""

from __future__ import annotations

from pydantic import Field

from kit.config import Settings, settings_config


class ExecutorConfig(Settings):
    """How completions are run."""

    model_config = settings_config("TURNOUT_EXECUTOR_")

    capture_payloads: bool = True
    """Whether what was said in a call is kept beside the record of it."""
    prepared_versions: int = Field(1000, ge=1)
    """How many versions stay compiled in memory; the least recently used goes first."""
    retry_statuses: tuple[int, ...] = (408, 409, 429, 500, 501, 502, 503, 504)
    """HTTP statuses of a provider after which a call may be repeated, as a JSON list."""
    max_response_bytes: int = Field(16 << 20, ge=1 << 10)
    """The largest answer taken from a provider."""


SETTINGS = ExecutorConfig
