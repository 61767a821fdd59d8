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
    max_response_bytes: int = Field(3 << 20, ge=1 << 10)
    """The largest whole answer, or event of a streamed one, taken from a provider: what is made of it must fit what a
    caller's gRPC client takes by default, 4 MiB."""
    max_stream_bytes: int = Field(64 << 20, ge=1 << 10)
    """The largest streamed answer taken from a provider, about 250 bytes a token."""


SETTINGS = ExecutorConfig
