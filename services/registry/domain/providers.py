"""Places that run LLMs, and completion configurations for them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from completions.version import Version as Content
from kit.secrets import Secret
from services.registry.domain.access import Project, Record, violated

MAX_CREDENTIAL_CHARACTERS: Final = 4096
OPENAI_URL: Final = "https://api.openai.com/v1"


class ProviderKind(StrEnum):
    """Which wire contract a provider speaks."""

    OPENAI = "openai"
    OPENAI_COMPATIBLE = "openai-compatible"


@dataclass(frozen=True, slots=True)
class Provider:
    """A place that runs LLMs."""

    uid: str
    project: Project
    slug: str
    kind: ProviderKind
    display_name: str
    base_url: str
    envelope: bytes | None = field(repr=False)
    """The credential, sealed for this uid; None if it wants none."""
    record: Record

    @property
    def name(self) -> str:
        """The resource name."""
        return f"{self.project.name}/providers/{self.slug}"


@dataclass(frozen=True, slots=True)
class Version:
    """A completion configuration. Its uid hashes `content`, whose provider is the slug."""

    uid: str
    project: Project
    provider: str
    """The provider's uid."""
    content: Content
    created_at: datetime
    created_in: int

    @property
    def name(self) -> str:
        """The resource name."""
        return f"{self.project.name}/versions/{self.uid}"


@dataclass(frozen=True, slots=True)
class ProviderDraft:
    """A provider to be made."""

    slug: str
    kind: ProviderKind
    display_name: str
    base_url: str
    credential: Secret | None


@dataclass(frozen=True, slots=True)
class ProviderChange:
    """What of a provider is to change; None leaves it as it is."""

    display_name: str | None
    base_url: str | None
    changes_credential: bool
    credential: Secret | None
    """None, if it is to change, removes the one that is stored."""


def check_credential(credential: Secret) -> None:
    """Whether it can go into an HTTP header, where every provider wants it.

    :raises Invalid: `CREDENTIAL_INVALID`; of the credential itself the sentence says nothing
    """
    text = credential.reveal()
    if len(text) > MAX_CREDENTIAL_CHARACTERS or not text.isascii() or not text.isprintable() or " " in text:
        raise violated(
            "CREDENTIAL_INVALID",
            "provider.credential",
            f"must be at most {MAX_CREDENTIAL_CHARACTERS} printable ASCII characters without spaces and line ends; "
            "a file often ends with one",
        )


def base_url(kind: ProviderKind, given: str) -> str:
    """Where a provider's API starts, without a slash at the end.

    :raises Invalid: `BASE_URL_REQUIRED`, `BASE_URL_INVALID`
    """
    if not given:
        if kind is not ProviderKind.OPENAI:
            raise violated("BASE_URL_REQUIRED", "provider.base_url", "is required for this kind of provider")
        return OPENAI_URL
    # Paths are appended to it, and a key in a query would be stored in the clear.
    if "?" in given or "#" in given:
        raise violated("BASE_URL_INVALID", "provider.base_url", "must have no query and no fragment")
    return given.rstrip("/")
