"""Settings of a process, whatever services it holds."""

from __future__ import annotations

from typing import Annotated, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from kit.config import Settings, settings_config


def _checked_address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if text and (not host or text.split() != [text] or not port.isdecimal() or int(port) > 65535):
        raise ValueError("must be host:port, such as 127.0.0.1:7070")
    return text


def _checked_endpoint(text: str) -> str:
    parts = urlsplit(text)
    if text and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ValueError("must be http://host:port or https://host:port")
    return text


Address: TypeAlias = Annotated[str, AfterValidator(_checked_address)]
Endpoint: TypeAlias = Annotated[str, AfterValidator(_checked_endpoint)]


class ProcessConfig(Settings):
    """How this process listens, finds its peers, and reports."""

    model_config = settings_config("TURNOUT_")

    listen_address: Address = Field("127.0.0.1:7070", min_length=1)
    registry_address: Address = ""
    executor_address: Address = ""
    analytics_address: Address = ""
    max_concurrent_calls: int = Field(4000, ge=1)
    connection_age_seconds: int = Field(300, ge=1)
    drain_seconds: float = Field(20, ge=0)
    log_level: str = Field("info", pattern="^(debug|info|warning|error|critical)$")
    trace_sample_ratio: float = Field(0.1, ge=0, le=1)
    otlp_endpoint: Endpoint = ""
    otlp_headers: SecretStr = SecretStr("")

    def peers(self) -> dict[str, str]:
        """Configured addresses by service."""
        return {
            "registry": self.registry_address,
            "executor": self.executor_address,
            "analytics": self.analytics_address,
        }
