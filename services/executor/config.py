"""Settings of the executor."""

from __future__ import annotations

from pydantic import Field, SecretStr

from kit.config import Settings, settings_config


class ExecutorConfig(Settings):
    """How completions are run."""

    model_config = settings_config("TURNOUT_EXECUTOR_")

    database_url: SecretStr = SecretStr("")
    """`postgresql+asyncpg://…`; for calls under an idempotency key only, whose records are in its schema `executor`."""
    idempotency_max_bytes: int = Field(8 << 30, ge=1 << 20)
    """How much idempotency records may hold before new keys are refused."""
    capture_payloads: bool = True
    """Whether what was said in a call is kept beside the record of it."""
    prepared_versions: int = Field(1000, ge=1)
    """How many versions stay compiled in memory; the least recently used goes first."""
    prepared_bytes: int = Field(32 << 20, ge=1 << 20)
    """About how much memory they may take; besides, a quarter of it each for contracts and for checks of answers."""
    retry_statuses: tuple[int, ...] = (408, 409, 429, 500, 501, 502, 503, 504)
    """HTTP statuses of a provider after which a call may be repeated, as a JSON list."""
    max_response_bytes: int = Field(3 << 20, ge=1 << 10)
    """The largest whole answer, or event of a streamed one, taken from a provider: what is made of it must fit what a
    caller's gRPC client takes by default, 4 MiB."""
    max_stream_bytes: int = Field(64 << 20, ge=1 << 10)
    """The largest streamed answer taken from a provider, about 250 bytes a token."""
    max_concurrent_calls: int = Field(1000, ge=1)
    """Calls that one process has under way at one provider, where the provider does not say."""
    max_waiting_calls: int = Field(256, ge=0)
    """Calls that may wait for one provider; more are refused at once."""
    max_wait_seconds: float = Field(2.0, ge=0)
    """How long one may wait."""
    breaker_window_seconds: float = Field(30.0, gt=0)
    """Attempts that ended within it count."""
    breaker_min_failures: int = Field(5, ge=0)
    """Failures within the window before a model may be ejected; 0 turns breakers off."""
    breaker_min_failed_share: float = Field(0.5, gt=0, le=1)
    """Of the attempts that count; both must be reached."""
    breaker_ejection_seconds: float = Field(5.0, gt=0)
    """The first ejection; each further one takes twice as long."""
    breaker_max_ejection_seconds: float = Field(300.0, gt=0)
    """The longest, and how long to serve well until the next is a first one again."""
    count_tokens: bool = False
    """Whether prompts near a window of OpenAI's models are counted exactly: needs bpe-openai, 130 MB and 0.6 s."""
    slow_seconds: float = Field(30.0, gt=0)
    """From when on a call outside the sample is traced afterwards, as errors are."""


SETTINGS = ExecutorConfig
