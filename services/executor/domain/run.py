"""One call while it is served. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from catalog import view
from catalog.plan import Decision, Refusal
from catalog.targets import Target
from completions.chat import Message
from completions.version import Version
from kit.values import Entity, Value, field
from services.executor.domain.call import RunCall
from services.executor.domain.provider import ProviderAnswer


class Status(StrEnum):
    """How a call ended."""

    OK = "ok"
    ERROR = "error"
    CANCELLED = "cancelled"
    LOST = "lost"
    """Not ended yet: what its record says if the process dies now."""


class Attempt(Value):
    """One call to one provider."""

    provider: str
    model: str
    http_status: int
    reason: str
    """Empty for success."""
    message: str
    start_offset_us: int
    latency_us: int
    fallback_index: int = 0
    """0 for the version's own provider, n for its n-th fallback."""


class Run(Entity):
    """One call while it is served, and afterwards what is recorded of it. Filled in as it goes, so not frozen."""

    hidden: ClassVar = frozenset(("seen", "said", "seen_version"))

    request_id: str
    call: RunCall
    seen: view.View
    """The one state of the catalog that this call sees."""
    project: view.Project
    target: Target | None
    """None of a direct completion."""
    start_unix_ns: int
    started: float
    """On the clock of `ports.Clock.now`."""
    said: tuple[Message, ...]
    """What the caller said: the input, without the messages of the version."""
    has_variables: bool = False
    """Whether the call's variables were found to be a JSON object."""
    decision: Decision | None = None
    refusal: Refusal | None = None
    """What was decided instead, if nothing that could serve was active."""
    provider: str = ""
    """The slug."""
    model: str = ""
    """What is asked of the provider."""
    version: str = ""
    """What ran."""
    base_version: str = ""
    """The deployment's own, where the call laid something over it; empty otherwise."""
    seen_version: Version | None = None
    """What ran, if the registry need not know it; its provider is a uid."""
    fallback_index: int = 0
    """Of what answered, or was tried last."""
    output_violations: tuple[str, ...] | None = None
    """Where the answer does not keep to its JSON schema; None without one."""
    attempts: list[Attempt] = field(default_factory=list)
    answer: ProviderAnswer | None = None
    cost_usd_micros: int | None = None
    """None is unknown."""
    status: Status = Status.LOST
    reason: str = ""
    latency_us: int = 0
    time_to_first_token_us: int | None = None
    """Of a streamed answer; None before its first piece."""


def microseconds(seconds: float) -> int:
    """Rounded down; never negative."""
    return int(seconds * 1e6) if seconds > 0 else 0
