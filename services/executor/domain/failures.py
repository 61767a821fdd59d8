"""What callers are told of a call without an answer. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from catalog import view
from catalog.plan import Decision
from catalog.targets import Target
from kit.errors import AppError, Deadline, Exhausted, FailedAttempt, Invalid, Precondition, Unavailable
from services.executor.domain.provider import ProviderFailure, Reason
from services.executor.domain.run import Attempt

_RETRY_SECONDS: Final = 1.0
"""When to come back to a provider that is asked too much and does not say itself."""


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


def failure_of(failure: ProviderFailure, attempts: Sequence[Attempt], told: Attempt | None = None) -> AppError:
    """The failure of a call after its last attempt: its kind says what the caller, or the operator, can do.

    :param failure: the one that is told
    :param told: the attempt that it ended; None for the last
    """
    at = attempts[-1] if told is None else told
    message, failed = f"{at.provider}/{at.model}{_after(attempts)}: {failure.message}", _failed(attempts)
    match failure.reason:
        case Reason.REJECTED_REQUEST | Reason.CONTEXT_LENGTH_EXCEEDED:
            return Invalid(message, reason=failure.reason.value, attempts=failed)
        case (
            Reason.CREDENTIAL_REFUSED
            | Reason.CREDENTIAL_MISSING
            | Reason.MODEL_NOT_FOUND
            | Reason.REDIRECTED
            | Reason.ADDRESS_REFUSED
            | Reason.OUTPUT_INVALID
        ):
            return Precondition(message, reason=failure.reason.value, attempts=failed)
        case Reason.RATE_LIMITED | Reason.BUSY:
            wait = failure.retry_after_seconds
            return Exhausted(
                message,
                reason=failure.reason.value,
                attempts=failed,
                retry_after_seconds=_RETRY_SECONDS if wait is None else wait,
            )
    return Unavailable(
        message, reason="PROVIDER_FAILED", attempts=failed, retry_after_seconds=failure.retry_after_seconds
    )


def broken_stream(last: ProviderFailure, attempts: Sequence[Attempt]) -> Unavailable:
    """The failure of a call whose answer broke off: what was sent cannot be taken back, so nothing is repeated."""
    return Unavailable(
        f"the answer of {attempts[-1].provider}/{attempts[-1].model} broke off: {last.message}",
        reason=Reason.STREAM_BROKEN.value,
        attempts=_failed(attempts),
    )


def _after(attempts: Sequence[Attempt]) -> str:
    return f" after {len(attempts)} attempts" if len(attempts) > 1 else ""


def _failed(attempts: Sequence[Attempt]) -> tuple[FailedAttempt, ...]:
    return tuple(
        FailedAttempt(f"{each.provider}/{each.model}", each.reason, each.message, each.http_status) for each in attempts
    )
