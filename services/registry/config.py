"""Settings of the registry."""

from __future__ import annotations

from pydantic import SecretStr

from kit.config import Settings, settings_config


class RegistryConfig(Settings):
    """Where the registry keeps what it owns, and the first keys of an installation."""

    model_config = settings_config("TURNOUT_REGISTRY_")

    database_url: SecretStr = SecretStr("")
    """`postgresql+asyncpg://…`; the registry's tables are in its schema `registry`."""
    bootstrap_platform_key: SecretStr = SecretStr("")
    """A whole key, `tk_…`, that holds `platform:admin` from the first start on. Another one replaces it."""
    bootstrap_service_key: SecretStr = SecretStr("")
    """A whole key, `tk_…`, that holds `catalog:watch` and `catalog:credentials`. Another one replaces it."""


SETTINGS = RegistryConfig
