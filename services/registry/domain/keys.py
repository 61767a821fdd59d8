"""API keys. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from services.registry.domain.access import Project, Record, key_name


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Who may call."""

    uid: str
    project: Project | None
    """None for keys of the installation."""
    display_name: str
    scopes: tuple[str, ...]
    secret_hash: bytes = field(repr=False)
    creator: str
    expires_at: datetime | None
    revoked_at: datetime | None
    record: Record
    bootstrap: str = ""
    """The setting that it comes from; empty for keys that were created by a call."""
    used_at: datetime | None = None
    """When it was last used, as far as the services have told."""
    requests_per_minute: int = 0
    """0: no bound."""

    @property
    def name(self) -> str:
        """The resource name."""
        return key_name(self.project, self.uid)


@dataclass(frozen=True, slots=True)
class ApiKeyDraft:
    """A key to be made."""

    display_name: str
    scopes: tuple[str, ...]
    expires_at: datetime | None
    requests_per_minute: int = 0


@dataclass(frozen=True, slots=True)
class ApiKeyChange:
    """What of a key is to be changed: None stays as it is."""

    display_name: str | None = None
    scopes: tuple[str, ...] | None = None
    changes_expiry: bool = False
    expires_at: datetime | None = None
    """From now on, if `changes_expiry`; None for ever."""
    requests_per_minute: int | None = None
