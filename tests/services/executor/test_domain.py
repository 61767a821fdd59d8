from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import AppError, Deadline, Exhausted, Invalid, Precondition, Unavailable
from services.executor import domain
from services.executor.domain import Attempt, ProviderFailure, Reason

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


@pytest.mark.parametrize(
    ("retries_left", "pause", "remaining", "may"),
    [(1, 0.5, 1.5, True), (1, 0.5, 1.49, False), (0, 0.5, 100, False), (1, 60, 30, False)],
)
def test_a_retry_needs_a_try_left_and_time_for_it(retries_left: int, pause: float, remaining: float, may: bool) -> None:
    found = domain.may_retry(FLAKY, retries_left=retries_left, pause_seconds=pause, remaining_seconds=remaining)
    assert found is may


def test_a_failure_that_repeating_cannot_mend_is_not_repeated() -> None:
    refused = ProviderFailure(Reason.REJECTED_REQUEST, "no", 400, is_retryable=False)
    assert not domain.may_retry(refused, retries_left=5, pause_seconds=0, remaining_seconds=600)


def test_an_attempt_never_outlives_the_deadline() -> None:
    assert domain.attempt_timeout_seconds(None, 7) == 7
    assert domain.attempt_timeout_seconds(3, 7) == 3
    assert domain.attempt_timeout_seconds(30, 7) == 7


@pytest.mark.parametrize(
    ("reason", "kind", "answered"),
    [
        (Reason.REJECTED_REQUEST, Invalid, "PROVIDER_REJECTED_REQUEST"),
        (Reason.CREDENTIAL_REFUSED, Precondition, "PROVIDER_CREDENTIAL_REFUSED"),
        (Reason.MODEL_NOT_FOUND, Precondition, "PROVIDER_MODEL_NOT_FOUND"),
        (Reason.REDIRECTED, Precondition, "PROVIDER_REDIRECTED"),
        (Reason.ADDRESS_REFUSED, Precondition, "PROVIDER_ADDRESS_REFUSED"),
        (Reason.RATE_LIMITED, Exhausted, "PROVIDER_RATE_LIMITED"),
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


def test_a_passed_deadline_names_every_attempt() -> None:
    failure = domain.deadline_passed(ATTEMPTS)
    assert isinstance(failure, Deadline)
    assert (failure.reason, len(failure.attempts)) == ("DEADLINE_EXCEEDED", 2)
    assert "2 attempts" in failure.message
