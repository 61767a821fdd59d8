"""Settings of outbound HTTP, the same in every service that makes or checks it."""

from __future__ import annotations

from kit.config import Settings, settings_config


class EgressConfig(Settings):
    """Where this installation's services may call."""

    model_config = settings_config("TURNOUT_")

    egress_allow_private: bool = False
    """Also private addresses and http, such as a model server beside this machine."""
