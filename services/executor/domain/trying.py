"""When to try again, where, and for how long. Pure."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from services.executor.domain.provider import ProviderFailure, Reason

BACKOFF_BASE_SECONDS: Final = 0.25
BACKOFF_CAP_SECONDS: Final = 8.0
RETRY_RESERVE_SECONDS: Final = 1.0
"""What must be left of the deadline when a retry starts; a shorter attempt could only cost money."""
DEADLINE_TOLERANCE_SECONDS: Final = 0.005
"""Timers fire early by up to the clock's resolution, and deadlines arrive rounded up to whole milliseconds: closer to
the deadline than this counts as past it, and nobody is asked any more."""
DEADLINE_LEAD_SECONDS: Final = 0.25
"""By how much a caller's clock may be ahead of ours: its timer began before the call was sent, and ends the call as if
the caller had left. Whoever leaves closer to the deadline than this has run out of time."""
FALLBACK_RESERVE: Final = 0.25
"""The part of a call's time that is kept back while a fallback is untried."""


class Step(Enum):
    """What follows a failed attempt."""

    RETRY = auto()
    """The same again, after a pause."""
    FALL_BACK = auto()
    """The next place."""
    FAIL = auto()


def says_nothing_of_others(failure: ProviderFailure) -> bool:
    """Whether a place failed because the call is none for it: whether the call could be answered elsewhere, or later,
    another place's failure says better."""
    if failure.reason is Reason.REJECTED_REQUEST:
        return not failure.http_status
    return failure.reason is Reason.CONTEXT_LENGTH_EXCEEDED


def is_wrong_everywhere(failure: ProviderFailure) -> bool:
    """Whether a provider said that the client did something wrong. What one place cannot carry, another may."""
    return failure.reason is Reason.REJECTED_REQUEST and bool(failure.http_status)


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


def reserve_seconds(total_seconds: float, *, has_fallback: bool) -> float:
    """What an attempt must leave of the call's time.

    :param total_seconds: from the call's start to its deadline
    :param has_fallback: whether a fallback is untried
    """
    return FALLBACK_RESERVE * total_seconds if has_fallback else 0.0


def step_after(
    failure: ProviderFailure,
    *,
    retries_left: int,
    pause_seconds: float,
    remaining_seconds: float,
    reserve_seconds: float,
    has_fallback: bool,
) -> Step:
    """What follows a failed attempt: the same again if that may succeed and enough time is left for it, else the next
    place if there is one.

    :param remaining_seconds: until the deadline
    :param reserve_seconds: of these, for fallbacks
    :param has_fallback: whether there is another place that may take the call
    """
    if is_wrong_everywhere(failure):
        return Step.FAIL
    is_worth_it = pause_seconds + RETRY_RESERVE_SECONDS <= remaining_seconds - reserve_seconds
    if failure.is_retryable and retries_left > 0 and is_worth_it:
        return Step.RETRY
    return Step.FALL_BACK if has_fallback and remaining_seconds > DEADLINE_TOLERANCE_SECONDS else Step.FAIL


def attempt_timeout_seconds(limit_seconds: float | None, remaining_seconds: float, reserve_seconds: float) -> float:
    """How long one attempt may take.

    :param limit_seconds: the variant's; None for no other than the deadline
    :param remaining_seconds: until the deadline, above 0
    """
    # Where the reserve is all there is, half of what is left is for this attempt.
    available = max(remaining_seconds - reserve_seconds, remaining_seconds / 2)
    return available if limit_seconds is None else min(limit_seconds, available)
