"""Settings of analytics."""

from __future__ import annotations

from pydantic import Field, SecretStr

from kit.config import Settings, settings_config


class AnalyticsConfig(Settings):
    """Where analytics keeps what it owns, and for how long."""

    model_config = settings_config("TURNOUT_ANALYTICS_")

    database_url: SecretStr = SecretStr("")
    """`postgresql+asyncpg://…`; the tables of analytics are in its schema `analytics`."""
    batch_events: int = Field(2000, ge=1, le=5000)
    """How many events one transaction takes at most."""
    request_retention_days: int = Field(90, ge=8)
    """How long requests can be listed one by one. More than the stream's 7 days: what the stream may still repeat must
    be found here. Totals are kept for ever."""
    payload_retention_days: int = Field(30, ge=8)
    """How long payloads are kept."""


SETTINGS = AnalyticsConfig
