from __future__ import annotations

import math

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.calls import Call, Method, Principal
from kit.errors import Exhausted
from kit.interceptors.rates import KeyRates, Rates
from kit.telemetry import TraceContext


def call(scope: str, per_minute: int, key: str = "k") -> Call:
    trace = TraceContext("0" * 32, "0" * 16, sampled=False)
    made = Call(Method("/a/B", scope), {}, "", 1e12, trace)
    made.principal = Principal(key, "prj_1", frozenset({scope}), per_minute)
    return made


async def test_calls_that_run_something_count_and_others_do_not() -> None:
    rates = Rates(frozenset({"deployments:run"}), share=0.5)
    for _ in range(20):
        await rates.enter(call("registry:read", 6), None)
        await rates.enter(call("deployments:run", 0), None)
    await rates.enter(call("deployments:run", 6), None)
    await rates.enter(call("deployments:run", 6, key="other"), None)
    with pytest.raises(Exhausted) as failure:
        await rates.enter(call("deployments:run", 6), None)
    assert failure.value.reason == "KEY_RATE_EXCEEDED"
    assert failure.value.retry_after_seconds == pytest.approx(20, abs=1), "half of 6 a minute is one in 20 s"
    rates.leave(call("deployments:run", 6), None, grpc.StatusCode.OK)


def wait_of(rates: KeyRates, now: float, per_minute: int = 60, share: float = 1.0, key: str = "k") -> float | None:
    """How long a call is told to wait; None if it is allowed."""
    try:
        rates.check(key, requests_per_minute=per_minute, share=share, now=now)
    except Exhausted as error:
        refusal = error
    else:
        return None
    assert refusal.reason == "KEY_RATE_EXCEEDED"
    assert refusal.retry_after_seconds is not None
    assert 0 < refusal.retry_after_seconds <= 60 / (per_minute * share) + 1e-6
    return refusal.retry_after_seconds


def allowed(rates: KeyRates, now: float, per_minute: int = 60, share: float = 1.0, key: str = "k") -> bool:
    return wait_of(rates, now, per_minute, share, key) is None


@pytest.mark.parametrize(
    ("per_minute", "share", "burst"), [(60, 1.0, 10), (60, 0.5, 5), (6000, 1.0, 1000), (3, 1.0, 1), (1, 0.1, 1)]
)
def test_from_rest_ten_seconds_worth_are_allowed_at_once_and_at_least_one(
    per_minute: int, share: float, burst: int
) -> None:
    rates = KeyRates()
    assert sum(allowed(rates, 5.0, per_minute, share) for _ in range(burst + 10)) == burst


def test_a_call_that_comes_when_it_was_told_to_is_allowed_and_one_before_is_not() -> None:
    rates = KeyRates()
    assert allowed(rates, 0.0, 7)
    due = wait_of(rates, 0.0, 7)
    assert due is not None
    assert not allowed(rates, due - 0.01, 7)
    assert allowed(rates, due, 7)


def test_no_rate_is_no_bound_and_needs_no_memory() -> None:
    rates = KeyRates()
    assert all(allowed(rates, 0.0, 0) for _ in range(1000))
    assert len(rates) == 0


def test_rest_is_not_saved_up() -> None:
    rates = KeyRates()
    assert allowed(rates, 0.0, 1, key="slow")
    assert allowed(rates, 0.0)
    # The slow key is in debt still, and stands before the other, which is remembered therefore.
    assert len(rates) == 2
    assert sum(allowed(rates, 50.0) for _ in range(60)) == 10


def test_a_new_rate_holds_at_once() -> None:
    rates = KeyRates()
    assert allowed(rates, 0.0, 1)
    assert wait_of(rates, 0.0, 1) == pytest.approx(60)
    assert wait_of(rates, 0.0, 600) == pytest.approx(0.1)
    assert allowed(rates, 0.11, 600)


def test_keys_that_rest_are_forgotten_and_others_up_to_the_bound() -> None:
    rates = KeyRates(max_keys=100)
    for number in range(1000):
        assert allowed(rates, 0.0, key=str(number))
        assert len(rates) <= 100
    for number in range(300):
        assert allowed(rates, 50.0 + 2 * number, key="one")
    assert len(rates) == 1


@given(
    per_minute=st.integers(1, 10_000),
    share=st.sampled_from([1.0, 0.5, 1 / 3, 0.1]),
    pauses=st.lists(st.sampled_from([0.0, 0.001, 0.05, 0.3, 1.0, 7.0, 61.0]), max_size=120),
)
@settings(max_examples=200, deadline=None)
def test_no_stretch_of_time_sees_more_than_its_rate_and_one_burst_and_nobody_starves(
    per_minute: int, share: float, pauses: list[float]
) -> None:
    rates, now, times = KeyRates(), 0.0, list[float]()
    rate = per_minute * share / 60.0
    burst = max(1.0, 10.0 * rate)
    tokens, last = burst, 0.0
    for pause in pauses:
        now += pause
        tokens, last = min(burst, tokens + (now - last) * rate), now
        granted = allowed(rates, now, per_minute, share)
        # A token bucket of the same rate and size agrees, but for rounding at the very edge.
        if not math.isclose(tokens, 1.0, abs_tol=1e-3):
            assert granted == (tokens > 1.0)
        if granted:
            tokens -= 1.0
            times.append(now)
    for begin in range(len(times)):
        for end in range(begin, len(times)):
            assert end - begin + 1 <= burst + (times[end] - times[begin]) * rate + 1e-3
