"""What a run of a completion is: the call, its attempts and its end, and the rules for trying again. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from catalog import view
from catalog.plan import Decision
from catalog.targets import Target
from completions.chat import Message
from kit.errors import AppError, Deadline, Exhausted, FailedAttempt, Invalid, Precondition, Unavailable
from kit.secrets import Secret

BACKOFF_BASE_SECONDS: Final = 0.25
BACKOFF_CAP_SECONDS: Final = 8.0
RETRY_RESERVE_SECONDS: Final = 1.0
"""What must be left of the deadline when a retry starts; a shorter attempt could only cost money."""
DEADLINE_TOLERANCE_SECONDS: Final = 0.005
"""Timers fire early by up to the clock's resolution: closer to the deadline than this counts as past it."""
DEADLINE_LEAD_SECONDS: Final = 0.25
"""By how much a caller's clock may be ahead of ours: its timer began before the call was sent, and ends the call as if
the caller had left. Whoever leaves closer to the deadline than this has run out of time."""


class Source(StrEnum):
    """Where a call came from."""

    API = "api"
    SDK = "sdk"


class Status(StrEnum):
    """How a call ended."""

    OK = "ok"
    ERROR = "error"
    CANCELLED = "cancelled"
    LOST = "lost"
    """Not ended yet: what its record says if the process dies now."""


class FinishReason(StrEnum):
    """Why the model stopped."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    OTHER = "other"


class Reason(StrEnum):
    """Why an attempt failed; stable words."""

    STREAM_BROKEN = "STREAM_BROKEN"
    """After the answer had begun."""

    TIMEOUT = "PROVIDER_TIMEOUT"
    UNREACHABLE = "PROVIDER_UNREACHABLE"
    ERROR = "PROVIDER_ERROR"
    RATE_LIMITED = "PROVIDER_RATE_LIMITED"
    MALFORMED_RESPONSE = "PROVIDER_MALFORMED_RESPONSE"
    CREDENTIAL_REFUSED = "PROVIDER_CREDENTIAL_REFUSED"
    REJECTED_REQUEST = "PROVIDER_REJECTED_REQUEST"
    MODEL_NOT_FOUND = "PROVIDER_MODEL_NOT_FOUND"
    REDIRECTED = "PROVIDER_REDIRECTED"
    ADDRESS_REFUSED = "PROVIDER_ADDRESS_REFUSED"
    CANCELLED = "CANCELLED"
    """The caller left, or its deadline passed, while the attempt ran."""


@dataclass(frozen=True, slots=True)
class RunCall:
    """What a caller asks, and who it is. Texts are as sent; the JSON ones are parsed when they are checked."""

    deployment: str
    variables_json: str
    messages: tuple[Message, ...]
    routing_key: str
    identity: str
    thread: str
    metadata_json: str
    caller_trace_id: str
    source: Source
    tenant: str
    """uid of the key's project; empty for platform keys."""
    key_id: str
    trace_id: str
    """W3C, 32 hexadecimal digits."""
    deadline: float
    """On the clock of `ports.Clock.now`."""
    user: str = ""
    """The end user; not for the provider."""
    is_streamed: bool = False
    """Whether the answer is wanted in pieces."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider billed them; None is what it did not tell."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int | None = None
    reasoning_output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ProviderRequest:
    """One completion, ready for a provider."""

    provider: view.Provider
    credential: Secret | None
    """None if the provider wants none."""
    model: str
    prepared_body: bytes = field(repr=False)
    """What the provider's adapter made of the version."""
    messages: Sequence[Message] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ProviderAnswer:
    """A complete answer."""

    message: Message
    finish_reason: FinishReason | None
    """None if the provider did not say."""
    usage: Usage
    model: str
    """What answered, in the provider's words; what was asked if it did not say."""
    http_status: int


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a tool call."""

    index: int
    """Which of the message's calls, from 0."""
    id: str = ""
    """In its first piece only, as `tool`."""
    tool: str = ""
    arguments_json: str = ""


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer; never empty."""

    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()


@dataclass(frozen=True, slots=True)
class Started:
    """The first piece of an answer is there: who gives it, in the provider's words."""

    model: str


@dataclass(frozen=True, slots=True)
class ProviderFailure:
    """An attempt without an answer."""

    reason: Reason
    message: str
    """A sentence without content or credentials; a provider's own words are cut and marked as a quotation."""
    http_status: int
    """0 when no answer came."""
    is_retryable: bool
    retry_after_seconds: float | None = None
    """What the provider asked for."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call to one provider."""

    provider: str
    model: str
    http_status: int
    reason: str
    """Empty for success."""
    message: str
    start_offset_us: int
    latency_us: int


@dataclass(slots=True)
class Run:
    """One call while it is served, and afterwards what is recorded of it. Filled in as it goes, so not frozen."""

    request_id: str
    call: RunCall
    seen: view.View = field(repr=False)
    """The one state of the catalog that this call sees."""
    target: Target
    start_unix_ns: int
    started: float
    """On the clock of `ports.Clock.now`."""
    decision: Decision | None = None
    provider: str = ""
    """The slug."""
    model: str = ""
    """What is asked of the provider."""
    version: str = ""
    attempts: list[Attempt] = field(default_factory=list)
    answer: ProviderAnswer | None = None
    cost_usd_micros: int | None = None
    """None is unknown."""
    status: Status = Status.LOST
    reason: str = ""
    latency_us: int = 0
    time_to_first_token_us: int | None = None
    """Of a streamed answer; None before its first piece."""

    @property
    def project(self) -> view.Project:
        """The tenant."""
        return self.target.project


def backoff_seconds(retry: int, uniform: float, retry_after_seconds: float | None) -> float:
    """How long to wait before a retry.

    Full jitter, so that callers which failed together do not return together. A provider that names a time is not asked
    before it.

    :param retry: 0 for the first
    :param uniform: a random number in [0, 1)
    Source: M. Brooker (2015), "Exponential Backoff And Jitter", AWS Architecture Blog.
    """
    jittered = uniform * min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2.0**retry)
    return jittered if retry_after_seconds is None else max(jittered, retry_after_seconds)


def may_retry(failure: ProviderFailure, *, retries_left: int, pause_seconds: float, remaining_seconds: float) -> bool:
    """Whether the call is repeated: only what may succeed then, and only if enough of the deadline is left for it."""
    return failure.is_retryable and retries_left > 0 and pause_seconds + RETRY_RESERVE_SECONDS <= remaining_seconds


def attempt_timeout_seconds(limit_seconds: float | None, remaining_seconds: float) -> float:
    """How long one attempt may take."""
    return remaining_seconds if limit_seconds is None else min(limit_seconds, remaining_seconds)


def completion_of(decision: Decision) -> view.Completion:
    """What the chosen variant runs.

    :raises Precondition: `DEPLOYMENT_KIND_MISMATCH` if it is no completion
    """
    serving = decision.variant.serving
    if not isinstance(serving, view.Completion):
        raise kind_mismatch(decision.target)
    return serving


def kind_mismatch(target: Target) -> Precondition:
    """The deployment answers something else than completions."""
    name = target.deployment.slug
    return Precondition(
        f"the deployment {name!r} answers no completions but {target.deployment.kind}s: "
        "call turnout.inference.v1.RecommendationService.Recommend",
        reason="DEPLOYMENT_KIND_MISMATCH",
        resource=f"projects/{target.project.slug}/deployments/{name}",
    )


def deadline_passed(attempts: Sequence[Attempt]) -> Deadline:
    """The failure of a call that ran out of time."""
    return Deadline(
        f"the deadline passed{_after(attempts)}; allow more time",
        reason="DEADLINE_EXCEEDED",
        attempts=_failed(attempts),
    )


def failure_of(last: ProviderFailure, attempts: Sequence[Attempt]) -> AppError:
    """The failure of a call after its last attempt: its kind says what the caller, or the operator, can do."""
    message, failed = (
        f"{attempts[-1].provider}/{attempts[-1].model}{_after(attempts)}: {last.message}",
        _failed(attempts),
    )
    match last.reason:
        case Reason.REJECTED_REQUEST:
            return Invalid(message, reason=last.reason.value, attempts=failed)
        case Reason.CREDENTIAL_REFUSED | Reason.MODEL_NOT_FOUND | Reason.REDIRECTED | Reason.ADDRESS_REFUSED:
            return Precondition(message, reason=last.reason.value, attempts=failed)
        case Reason.RATE_LIMITED:
            return Exhausted(
                message, reason=last.reason.value, attempts=failed, retry_after_seconds=last.retry_after_seconds
            )
    return Unavailable(message, reason="PROVIDER_FAILED", attempts=failed, retry_after_seconds=last.retry_after_seconds)


def broken_stream(last: ProviderFailure, attempts: Sequence[Attempt]) -> Unavailable:
    """The failure of a call whose answer broke off: what was sent cannot be taken back, so nothing is repeated."""
    return Unavailable(
        f"the answer of {attempts[-1].provider}/{attempts[-1].model} broke off: {last.message}",
        reason=Reason.STREAM_BROKEN.value,
        attempts=_failed(attempts),
    )


def microseconds(seconds: float) -> int:
    """Rounded down; never negative."""
    return max(0, math.floor(seconds * 1e6))


def _after(attempts: Sequence[Attempt]) -> str:
    return f" after {len(attempts)} attempts" if len(attempts) > 1 else ""


def _failed(attempts: Sequence[Attempt]) -> tuple[FailedAttempt, ...]:
    return tuple(
        FailedAttempt(f"{each.provider}/{each.model}", each.reason, each.message, each.http_status) for each in attempts
    )
