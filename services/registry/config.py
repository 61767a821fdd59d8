"""Settings of the registry."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr

from kit.config import Settings, settings_config


class RegistryConfig(Settings):
    """Where the registry keeps what it owns, and the first keys of an installation."""

    model_config = settings_config("TURNOUT_REGISTRY_")

    database_url: SecretStr = SecretStr("")
    """`postgresql+asyncpg://…`; the registry's tables are in its schema `registry`."""
    bootstrap_platform_key: SecretStr = SecretStr("")
    """A whole key, `tk_…`, that holds `platform:admin` from the first start on. Another one replaces it."""
    bootstrap_service_key: SecretStr = SecretStr("")
    """A whole key with `catalog:watch`, `catalog:credentials` and `models:register`. Another one replaces it."""
    approval_time_seconds: Annotated[int, Field(ge=60, le=366 * 86_400)] = 7 * 86_400
    """How long a change of a protected deployment can be approved."""
    http_url: str = "http://127.0.0.1:8080"
    """Where callers find the gateway, for code snippets."""
    grpc_address: str = "127.0.0.1:7070"
    """Where callers find the executor and inference, for code snippets."""
    version_expiry_seconds: Annotated[int, Field(ge=0, le=100 * 366 * 86_400)] = 30 * 86_400
    """How long a version is kept that no revision has and nobody puts or runs; 0: for ever."""
    model_check: bool = True
    """Whether providers are asked for their models when versions are written."""


SETTINGS = RegistryConfig
