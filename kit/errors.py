"""Failures a caller can act on. Imports nothing, so that the purest code may raise them.

A kind is a word, not a status code: `kit.interceptors.errors` maps it to gRPC at the edge and `kit.status` maps a
received status back to the same class, so a failure keeps its meaning across any number of hops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing wrong with a request. `field` is a path such as `deployment.variants[1].weight`."""

    field: str
    message: str


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """One try inside a failed call, for the summary the caller gets. Never holds content or credentials."""

    target: str
    """What was tried, such as `openai/gpt-4o`."""
    reason: str
    """UPPER_SNAKE, stable, as in :class:`AppError`."""
    message: str
    status: int = 0
    """HTTP status that the other side gave; 0 when none arrived."""


class CannotStart(Exception):
    """Why a process cannot start, in a sentence for the operator that says what to change. Holds no secret."""


class AppError(Exception):
    """A failure the caller can act on. Anything else is a bug and reaches them as "internal error".

    :param message: one sentence for a person: what is wrong and what to do
    :param reason: UPPER_SNAKE, stable for ever; programs branch on it
    :param violations: where in the request, for `Invalid`
    :param attempts: what was tried, for failures after retries or fallbacks
    :param retry_after_seconds: when the same request may succeed; None when unknown
    :param metadata: the variable parts of the message, for programs
    """

    kind: ClassVar[str] = "internal"

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        violations: Sequence[Violation] = (),
        attempts: Sequence[FailedAttempt] = (),
        retry_after_seconds: float | None = None,
        **metadata: str,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.violations = tuple(violations)
        self.attempts = tuple(attempts)
        self.retry_after_seconds = retry_after_seconds
        self.metadata = metadata


class Invalid(AppError):
    """Fix the request; violations say where."""

    kind = "invalid"


class Unauthenticated(AppError):
    """Present a valid key."""

    kind = "unauthenticated"


class Denied(AppError):
    """The key is valid but may not do this; ask for the scope."""

    kind = "denied"


class NotFound(AppError):
    """Ask for something else."""

    kind = "not_found"


class Exists(AppError):
    """The name is taken; choose another or use what is there."""

    kind = "exists"


class Precondition(AppError):
    """The request is right but the state is not; change the state first."""

    kind = "precondition"


class Conflict(AppError):
    """Somebody was faster: read again, decide again."""

    kind = "conflict"


class Exhausted(AppError):
    """A quota or a queue is full; come back later or ask for more."""

    kind = "exhausted"


class Unavailable(AppError):
    """Retry later, same request."""

    kind = "unavailable"


class Deadline(AppError):
    """The time the caller gave ran out."""

    kind = "deadline"


class Unimplemented(AppError):
    """This version does not offer that."""

    kind = "unimplemented"


KINDS: dict[str, type[AppError]] = {
    error.kind: error
    for error in (
        Invalid,
        Unauthenticated,
        Denied,
        NotFound,
        Exists,
        Precondition,
        Conflict,
        Exhausted,
        Unavailable,
        Deadline,
        Unimplemented,
    )
}
"""The eleven kinds, by name."""
