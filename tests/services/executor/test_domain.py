from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import AppError, Deadline, Exhausted, Invalid, Precondition, Unavailable
from services.executor import domain
from services.executor.domain import Attempt, ProviderFailure, Reason, Step

FLAKY = ProviderFailure(Reason.ERROR, "the provider answered HTTP 503", 503, is_retryable=True)
ATTEMPTS = [
    Attempt("main", "m", 503, Reason.ERROR, "the provider answered HTTP 503", 0, 10),
    Attempt("main", "m", 429, Reason.RATE_LIMITED, "the provider answered HTTP 429", 20, 10),
]


@given(st.integers(0, 9), st.floats(0, 1, exclude_max=True), st.none() | st.floats(0, 100))
def test_backoff_stays_in_its_bounds_and_never_comes_before_the_provider_wants(
    retry: int, uniform: float, retry_after: float | None
) -> None:
    pause = domain.backoff_seconds(retry, uniform, retry_after)
    assert (retry_after or 0) <= pause <= max(min(8.0, 0.25 * 2**retry), retry_after or 0)


def test_backoff_doubles_up_to_its_cap() -> None:
    assert [domain.backoff_seconds(retry, 1, None) for retry in range(7)] == [0.25, 0.5, 1, 2, 4, 8, 8]


def step(failure: ProviderFailure = FLAKY, **fields: Any) -> Step:
    usual: dict[str, Any] = {
        "retries_left": 1,
        "pause_seconds": 0.5,
        "remaining_seconds": 100.0,
        "reserve_seconds": 0.0,
        "has_fallback": False,
    }
    return domain.step_after(failure, **(usual | fields))


@pytest.mark.parametrize(
    ("retries_left", "pause", "remaining", "found"),
    [
        (1, 0.5, 1.5, Step.RETRY),
        (1, 0.5, 1.49, Step.FAIL),
        (0, 0.5, 100, Step.FAIL),
        (1, 60, 30, Step.FAIL),
    ],
)
def test_a_retry_needs_a_try_left_and_time_for_it(
    retries_left: int, pause: float, remaining: float, found: Step
) -> None:
    assert step(retries_left=retries_left, pause_seconds=pause, remaining_seconds=remaining) is found


def test_a_failure_that_repeating_cannot_mend_is_not_repeated() -> None:
    refused = ProviderFailure(Reason.MODEL_NOT_FOUND, "no", 404, is_retryable=False)
    assert step(refused, retries_left=5) is Step.FAIL
    assert step(refused, retries_left=5, has_fallback=True) is Step.FALL_BACK


def test_a_retry_leaves_fallbacks_their_time() -> None:
    assert step(remaining_seconds=30, reserve_seconds=25, has_fallback=True) is Step.RETRY
    assert step(remaining_seconds=26, reserve_seconds=25, has_fallback=True) is Step.FALL_BACK


@pytest.mark.parametrize("reason", [Reason.REJECTED_REQUEST])
def test_what_is_wrong_everywhere_goes_nowhere_else(reason: Reason) -> None:
    failure = ProviderFailure(reason, "no", 400, is_retryable=True)
    assert step(failure, has_fallback=True) is Step.FAIL


def test_what_one_place_cannot_carry_another_may() -> None:
    unsayable = ProviderFailure(Reason.REJECTED_REQUEST, "no pictures", 0, is_retryable=False)
    assert step(unsayable, has_fallback=True) is Step.FALL_BACK
    assert step(unsayable) is Step.FAIL


def test_nothing_begins_after_the_deadline() -> None:
    assert step(remaining_seconds=0.001, has_fallback=True) is Step.FAIL


def test_an_attempt_never_outlives_the_deadline() -> None:
    assert domain.attempt_timeout_seconds(None, 7, 0) == 7
    assert domain.attempt_timeout_seconds(3, 7, 0) == 3
    assert domain.attempt_timeout_seconds(30, 7, 0) == 7


def test_an_attempt_leaves_what_is_reserved_but_gets_half_of_what_there_is() -> None:
    assert domain.reserve_seconds(100, has_fallback=True) == 25
    assert domain.reserve_seconds(100, has_fallback=False) == 0
    assert domain.attempt_timeout_seconds(None, 100, 25) == 75
    assert domain.attempt_timeout_seconds(None, 30, 25) == 15
    assert domain.attempt_timeout_seconds(10, 30, 25) == 10


@pytest.mark.parametrize(
    ("reason", "kind", "answered"),
    [
        (Reason.REJECTED_REQUEST, Invalid, "PROVIDER_REJECTED_REQUEST"),
        (Reason.CREDENTIAL_REFUSED, Precondition, "PROVIDER_CREDENTIAL_REFUSED"),
        (Reason.MODEL_NOT_FOUND, Precondition, "PROVIDER_MODEL_NOT_FOUND"),
        (Reason.REDIRECTED, Precondition, "PROVIDER_REDIRECTED"),
        (Reason.ADDRESS_REFUSED, Precondition, "PROVIDER_ADDRESS_REFUSED"),
        (Reason.CONTEXT_LENGTH_EXCEEDED, Invalid, "PROVIDER_CONTEXT_LENGTH_EXCEEDED"),
        (Reason.OUTPUT_INVALID, Precondition, "OUTPUT_INVALID"),
        (Reason.RATE_LIMITED, Exhausted, "PROVIDER_RATE_LIMITED"),
        (Reason.BUSY, Exhausted, "PROVIDER_BUSY"),
        (Reason.CIRCUIT_OPEN, Unavailable, "PROVIDER_FAILED"),
        (Reason.ERROR, Unavailable, "PROVIDER_FAILED"),
        (Reason.TIMEOUT, Unavailable, "PROVIDER_FAILED"),
        (Reason.UNREACHABLE, Unavailable, "PROVIDER_FAILED"),
        (Reason.MALFORMED_RESPONSE, Unavailable, "PROVIDER_FAILED"),
    ],
)
def test_the_last_failure_says_what_the_caller_can_do(reason: Reason, kind: type[AppError], answered: str) -> None:
    failure = domain.failure_of(ProviderFailure(reason, "no", 0, is_retryable=False, retry_after_seconds=3), ATTEMPTS)
    assert type(failure) is kind
    assert failure.reason == answered
    assert [(each.target, each.reason, each.status) for each in failure.attempts] == [
        ("main/m", "PROVIDER_ERROR", 503),
        ("main/m", "PROVIDER_RATE_LIMITED", 429),
    ]
    assert failure.retry_after_seconds == (3 if kind in (Exhausted, Unavailable) else None)


@pytest.mark.parametrize("reason", [Reason.RATE_LIMITED, Reason.BUSY])
def test_who_shall_wait_is_told_how_long_even_where_the_provider_does_not_say(reason: Reason) -> None:
    for told, found in ((None, 1.0), (0.0, 0.0), (20.0, 20.0)):
        failure = ProviderFailure(reason, "no", 429, is_retryable=True, retry_after_seconds=told)
        assert domain.failure_of(failure, ATTEMPTS).retry_after_seconds == found


def test_a_failure_is_told_of_the_attempt_that_it_was() -> None:
    attempts = [*ATTEMPTS, Attempt("other", "spare", 0, Reason.REJECTED_REQUEST, "no pictures", 40, 10)]
    assert domain.failure_of(FLAKY, attempts, ATTEMPTS[0]).message == (
        "main/m after 3 attempts: the provider answered HTTP 503"
    )
    assert domain.failure_of(FLAKY, attempts).message.startswith("other/spare after 3 attempts")


def test_a_passed_deadline_names_every_attempt() -> None:
    failure = domain.deadline_passed(ATTEMPTS)
    assert isinstance(failure, Deadline)
    assert (failure.reason, len(failure.attempts)) == ("DEADLINE_EXCEEDED", 2)
    assert "2 attempts" in failure.message
