"""Settings of the local view."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from kit.config import Settings, settings_config


class CatalogConfig(Settings):
    """How this process follows the registry."""

    model_config = settings_config("TURNOUT_")

    service_key: SecretStr = SecretStr("")
    """What this process shows to its peers: a key with `catalog:watch`, in executors `catalog:credentials` too."""
    data_dir: Path | None = None
    """Where the disk copy lies, beside the spool. Unset: no copy, so a start needs the registry."""
    catalog_max_age_seconds: float = Field(0, ge=0)
    """How long after the last sign of life of the registry calls are still served. 0: for ever."""
