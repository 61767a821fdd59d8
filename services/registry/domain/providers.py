"""Places that run LLMs, and completion configurations for them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from completions.version import Version as Content
from kit.errors import Violation
from kit.secrets import Secret
from services.registry.domain.access import Project, Record, all_violated, violated

MAX_CREDENTIAL_CHARACTERS: Final = 4096
_PORTS: Final = {"http": 80, "https": 443}
MAX_MODEL_FACTS_BYTES: Final = 128 << 10
"""Of one provider: every service holds them and gets them in one message."""
OPENAI_URL: Final = "https://api.openai.com/v1"
ANTHROPIC_URL: Final = "https://api.anthropic.com"
OLLAMA_URL: Final = "http://localhost:11434"
"""Private, so only for installations whose egress policy allows that."""


class ProviderKind(StrEnum):
    """Which wire contract a provider speaks."""

    OPENAI = "openai"
    OPENAI_COMPATIBLE = "openai-compatible"
    ANTHROPIC = "anthropic"
    OLLAMA = "ollama"


_OWN_URLS: Final = {
    ProviderKind.OPENAI: OPENAI_URL,
    ProviderKind.ANTHROPIC: ANTHROPIC_URL,
    ProviderKind.OLLAMA: OLLAMA_URL,
}


class StructuredOutput(StrEnum):
    """What a model takes of a version's response format; the rest is told in words."""

    JSON_SCHEMA = "json_schema"
    JSON_OBJECT = "json_object"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class ProviderModelFacts:
    """What is known of a model of a provider, before the price table; None and 0 are the table's."""

    model: str
    """The provider's name for it."""
    input_usd_micros_per_million: int | None = None
    """The price of a million tokens, in millionths of a US dollar."""
    cached_input_usd_micros_per_million: int | None = None
    output_usd_micros_per_million: int | None = None
    context_window_tokens: int = 0
    structured_output: StructuredOutput | None = None
    """None: what the provider's kind usually takes."""

    @property
    def size(self) -> int:
        """About what it takes in a message, in bytes."""
        return len(self.model.encode()) + 38


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
    archived_at: datetime | None = None
    model_facts: tuple[ProviderModelFacts, ...] = ()
    """Of each model once."""
    max_concurrent_calls: int = 0
    """Of one process; 0: the executor's setting."""

    @property
    def name(self) -> str:
        """The resource name."""
        return f"{self.project.name}/providers/{self.slug}"


@dataclass(frozen=True, slots=True)
class Use:
    """Where a provider, a model or a prompt is in use."""

    deployment: str
    """Its resource name."""
    alias: str


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
    seen_at: datetime
    """When it was last put, run, or taken by a revision."""
    is_used: bool = False
    """Whether any revision has it."""

    @property
    def name(self) -> str:
        """The resource name."""
        return f"{self.project.name}/versions/{self.uid}"

    def expires_at(self, after: timedelta | None) -> datetime | None:
        """When it is deleted unless it is seen before; None if it is not.

        :param after: how long what nobody uses is kept; None: for ever
        """
        return None if self.is_used or after is None else self.seen_at + after


@dataclass(frozen=True, slots=True)
class ProviderDraft:
    """A provider to be made."""

    slug: str
    kind: ProviderKind
    display_name: str
    base_url: str
    credential: Secret | None
    model_facts: tuple[ProviderModelFacts, ...] = ()
    max_concurrent_calls: int = 0


@dataclass(frozen=True, slots=True)
class ProviderChange:
    """What of a provider is to change; None leaves it as it is."""

    display_name: str | None
    base_url: str | None
    changes_credential: bool
    credential: Secret | None
    """None, if it is to change, removes the one that is stored."""
    model_facts: tuple[ProviderModelFacts, ...] | None = None
    max_concurrent_calls: int | None = None


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


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port: who is spoken to."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").rstrip("."), parts.port or _PORTS.get(parts.scheme)


def check_credential_goes_along(provider: Provider, url: str) -> None:
    """Whether a stored credential may be used at another address. A key that may write but never read it could else
    send it to a server of its own.

    :raises Invalid: `CREDENTIAL_REQUIRED` at another scheme, host or port
    """
    if provider.envelope is not None and origin(url) != origin(provider.base_url):
        raise violated(
            "CREDENTIAL_REQUIRED",
            "provider.credential",
            "must be given anew, or removed, together with a base_url of another scheme, host or port: the one that is "
            "stored was given for the former address only",
        )


def check_model_facts(facts: Sequence[ProviderModelFacts]) -> None:
    """:raises Invalid: `MODEL_FACTS_DUPLICATE` with every model that was named before, `MODEL_FACTS_TOO_LARGE`"""
    seen: set[str] = set()
    wrong = []
    for index, each in enumerate(facts):
        if each.model in seen:
            wrong.append(Violation(f"provider.model_facts[{index}].model", f"names {each.model!r} a second time"))
        seen.add(each.model)
    if wrong:
        raise all_violated("MODEL_FACTS_DUPLICATE", wrong)
    if sum(each.size for each in facts) > MAX_MODEL_FACTS_BYTES:
        raise violated(
            "MODEL_FACTS_TOO_LARGE", "provider.model_facts", f"must hold at most {MAX_MODEL_FACTS_BYTES} bytes"
        )


def base_url(kind: ProviderKind, given: str) -> str:
    """Where a provider's API starts, without a slash at the end.

    :raises Invalid: `BASE_URL_REQUIRED`, `BASE_URL_INVALID`
    """
    if not given:
        if kind not in _OWN_URLS:
            raise violated("BASE_URL_REQUIRED", "provider.base_url", "is required for this kind of provider")
        return _OWN_URLS[kind]
    # Paths are appended to it, and a key in a query would be stored in the clear.
    if "?" in given or "#" in given:
        raise violated("BASE_URL_INVALID", "provider.base_url", "must have no query and no fragment")
    return given.rstrip("/")
