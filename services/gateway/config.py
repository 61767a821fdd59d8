"""Settings of the gateway."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from kit.addresses import Address
from kit.config import Settings, settings_config

MAX_BODY_BYTES: Final = 4 << 20
"""As much as one gRPC request may hold, and so no more than could be passed on."""


class GatewayConfig(Settings):
    """How HTTP is listened to, and what bounds it."""

    model_config = settings_config("TURNOUT_GATEWAY_")

    listen_address: Address = Field("127.0.0.1:8080", min_length=1)
    """`host:port` for HTTP; port 0 picks a free one."""
    max_body_bytes: int = Field(MAX_BODY_BYTES, ge=1 << 10, le=MAX_BODY_BYTES)
    """The largest body taken."""
    max_header_bytes: int = Field(8 << 10, ge=1 << 10, le=64 << 10)
    """The longest request line, and the longest header."""
    max_concurrent_requests: int = Field(2000, ge=1)
    """Above it, callers get 503 at once instead of waiting."""
    read_timeout_seconds: float = Field(30, gt=0, allow_inf_nan=False)
    """How long a caller may take to send a body."""
    keep_alive_seconds: float = Field(75, gt=0, allow_inf_nan=False)
    """How long a connection may stay without a request; a new one must have sent its first headers by then."""
    call_timeout_seconds: float = Field(600, gt=0, allow_inf_nan=False)
    """What bounds a call whose caller names no time-out."""
    drain_seconds: float = Field(20, ge=0, allow_inf_nan=False)
    """How long a stop waits for requests that run and for their answers to be sent."""


SETTINGS = GatewayConfig
