"""Settings of the router."""

from __future__ import annotations

from pydantic import Field

from kit.config import Settings, settings_config


class RouterConfig(Settings):
    """How much the router tries out beside its calls."""

    model_config = settings_config("TURNOUT_ROUTER_")

    concurrent_batches: int = Field(2, ge=1, le=16)
    """How many batches of more than 10 calls one process decides at a time."""
    concurrent_simulations: int = Field(2, ge=1, le=16)
    """How many simulations of more than one call one process has under way."""


SETTINGS = RouterConfig
