"""Settings of the router."""

from __future__ import annotations

from kit.config import Settings, settings_config


class RouterConfig(Settings):
    """None of its own yet."""

    model_config = settings_config("TURNOUT_ROUTER_")


SETTINGS = RouterConfig
