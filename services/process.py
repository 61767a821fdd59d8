"""Settings of a process, whatever services it holds."""

from __future__ import annotations

from pydantic import Field, SecretStr

from kit.addresses import Address, Endpoint
from kit.config import Settings, settings_config


class ProcessConfig(Settings):
    """How this process listens, finds its peers, and reports."""

    model_config = settings_config("TURNOUT_")

    listen_address: Address = Field("127.0.0.1:7070", min_length=1)
    registry_address: Address = ""
    router_address: Address = ""
    executor_address: Address = ""
    inference_address: Address = ""
    analytics_address: Address = ""
    replicas: int = Field(1, ge=1)
    """How many containers run the same services, this one included: each allows a key its part of its rate."""
    max_concurrent_calls: int = Field(4000, ge=1)
    metrics_address: Address = ""
    connection_age_seconds: int = Field(300, ge=1)
    drain_seconds: float = Field(20, ge=0, allow_inf_nan=False)
    log_level: str = Field("info", pattern="^(debug|info|warning|error|critical)$")
    trace_sample_ratio: float = Field(0.1, ge=0, le=1)
    otlp_endpoint: Endpoint = ""
    otlp_headers: SecretStr = SecretStr("")

    def peers(self) -> dict[str, str]:
        """Configured addresses by service."""
        return {
            "registry": self.registry_address,
            "router": self.router_address,
            "executor": self.executor_address,
            "inference": self.inference_address,
            "analytics": self.analytics_address,
        }
