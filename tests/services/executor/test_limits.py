"""Limits, by values and under random comings, goings and cancellations."""

from __future__ import annotations

import asyncio
import math
import random
from contextlib import AbstractAsyncContextManager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.errors import Exhausted
from services.executor.limits import KeyRates, ProviderLimits

PROVIDER = "prv_1"


class Hands:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def limits(*, max_waiting: int = 10, max_wait_seconds: float = 60.0, now: Hands | None = None) -> ProviderLimits:
    return ProviderLimits(now or Hands(), max_waiting=max_waiting, max_wait_seconds=max_wait_seconds)


def place(of: ProviderLimits, limit: int = 1, patience_seconds: float = 60.0) -> AbstractAsyncContextManager[None]:
    return of.place(PROVIDER, name="openai", limit=limit, patience_seconds=patience_seconds)


class Calls:
    """Calls that hold a place until they are told to end."""

    def __init__(self, of: ProviderLimits) -> None:
        self.of = of
        self.entered: list[int] = []
        self.ends: dict[int, asyncio.Event] = {}

    def begin(self, number: int, limit: int = 1, patience_seconds: float = 60.0) -> asyncio.Task[None]:
        self.ends[number] = asyncio.Event()

        async def call() -> None:
            async with place(self.of, limit, patience_seconds):
                self.entered.append(number)
                await self.ends[number].wait()

        return asyncio.create_task(call())


async def settle() -> None:
    """Until every task has gone as far as it can: a wake-up takes two turns of the loop."""
    for _ in range(4):
        await asyncio.sleep(0)


async def test_as_many_enter_as_there_are_places_and_the_others_in_order() -> None:
    tested = limits()
    calls = Calls(tested)
    tasks = [calls.begin(number, limit=2) for number in range(5)]
    await settle()
    assert calls.entered == [0, 1]
    assert (tested.under_way(PROVIDER), tested.waiting(PROVIDER)) == (2, 3)
    for number in (1, 0, 2, 3, 4):
        calls.ends[number].set()
        await settle()
    await asyncio.gather(*tasks)
    assert calls.entered == [0, 1, 2, 3, 4]
    assert len(tested) == 0


async def test_whoever_comes_later_does_not_overtake() -> None:
    tested = limits()
    calls = Calls(tested)
    first, second = calls.begin(1), calls.begin(2)
    await settle()
    calls.ends[1].set()
    await first
    # The place is the second's already, although it has not run yet.
    third = calls.begin(3)
    await settle()
    assert calls.entered == [1, 2]
    calls.ends[2].set()
    calls.ends[3].set()
    await asyncio.gather(second, third)


async def test_too_many_waiting_are_refused_at_once() -> None:
    tested = limits(max_waiting=1)
    calls = Calls(tested)
    tasks = [calls.begin(1), calls.begin(2)]
    await settle()
    with pytest.raises(Exhausted) as refusal:
        async with place(tested):
            pytest.fail("there was no place")
    assert refusal.value.reason == "PROVIDER_BUSY"
    assert refusal.value.retry_after_seconds == 1.0
    assert "'openai' has 1 calls under way" in refusal.value.message
    for end in calls.ends.values():
        end.set()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize(("patience", "setting"), [(0.01, 60.0), (60.0, 0.01)])
async def test_waiting_ends_with_the_shorter_of_the_callers_patience_and_the_setting(
    patience: float, setting: float
) -> None:
    tested = limits(max_wait_seconds=setting)
    calls = Calls(tested)
    holder = calls.begin(1)
    await settle()
    with pytest.raises(Exhausted, match="under way"):
        async with place(tested, patience_seconds=patience):
            pytest.fail("there was no place")
    assert (tested.under_way(PROVIDER), tested.waiting(PROVIDER)) == (1, 0)
    calls.ends[1].set()
    await holder
    assert len(tested) == 0


async def test_without_patience_nobody_waits_but_a_free_place_is_taken() -> None:
    tested = limits()
    async with place(tested, patience_seconds=0.0):
        with pytest.raises(Exhausted):
            async with place(tested, patience_seconds=-1.0):
                pytest.fail("there was no place")


async def test_a_raised_limit_lets_in_who_waits_and_a_lowered_one_throws_out_nobody() -> None:
    tested = limits()
    calls = Calls(tested)
    tasks = [calls.begin(number, limit=1) for number in range(3)]
    await settle()
    tasks.append(calls.begin(3, limit=3))
    await settle()
    assert calls.entered == [0, 1, 2]
    tasks.append(calls.begin(4, limit=1))
    for number in (0, 1):
        calls.ends[number].set()
    await settle()
    assert calls.entered == [0, 1, 2]
    calls.ends[2].set()
    await settle()
    assert calls.entered == [0, 1, 2, 3]
    for end in calls.ends.values():
        end.set()
    await asyncio.gather(*tasks)
    assert len(tested) == 0


async def test_a_place_is_left_when_its_call_fails() -> None:
    tested = limits()
    with pytest.raises(ValueError, match="mine"):
        async with place(tested):
            raise ValueError("mine")
    assert (tested.under_way(PROVIDER), len(tested)) == (0, 0)


async def test_a_place_given_to_a_caller_who_leaves_in_the_same_turn_goes_to_the_next() -> None:
    tested = limits()
    calls = Calls(tested)
    first, second, third = (calls.begin(number) for number in (1, 2, 3))
    await settle()

    async def first_ends_and_second_leaves() -> None:
        calls.ends[1].set()
        while not first.done():
            await asyncio.sleep(0)
        second.cancel()

    await first_ends_and_second_leaves()
    await settle()
    assert 3 in calls.entered
    calls.ends[3].set()
    await third
    assert len(tested) == 0


async def test_who_waits_and_leaves_frees_its_place_in_the_queue() -> None:
    tested = limits(max_waiting=1)
    calls = Calls(tested)
    holder = calls.begin(1)
    await settle()
    for number in (2, 3, 4):
        waiter = calls.begin(number)
        await settle()
        assert tested.waiting(PROVIDER) == 1
        waiter.cancel()
        await settle()
        assert tested.waiting(PROVIDER) == 0
    calls.ends[1].set()
    await holder


async def test_the_next_place_is_expected_as_calls_took_lately() -> None:
    clock = Hands()
    tested = limits(now=clock, max_waiting=0)
    async with place(tested, limit=2):
        async with place(tested, limit=2):
            clock.now += 12.0
        async with place(tested, limit=2):
            with pytest.raises(Exhausted) as refusal:
                async with place(tested, limit=2):
                    pytest.fail("there was no place")
    assert refusal.value.retry_after_seconds == 6.0


async def test_providers_are_apart() -> None:
    tested = limits()
    async with place(tested), tested.place("prv_2", name="other", limit=1, patience_seconds=0.0):
        assert len(tested) == 2


@given(seed=st.integers(0, 2**32 - 1), limit=st.integers(1, 4), max_waiting=st.integers(0, 6))
@settings(max_examples=150, deadline=None)
def test_no_place_is_lost_or_given_twice_whoever_leaves_when(seed: int, limit: int, max_waiting: int) -> None:
    chance = random.Random(seed)

    async def scenario() -> None:
        tested = limits(max_waiting=max_waiting, max_wait_seconds=chance.choice([0.0, 0.001, 60.0]))
        inside = most = 0

        async def call(turns: int) -> None:
            nonlocal inside, most
            async with place(tested, limit):
                inside += 1
                most = max(most, inside)
                try:
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    if chance.random() < 0.2:
                        raise ValueError
                finally:
                    inside -= 1

        tasks: list[asyncio.Task[None]] = []
        for _ in range(60):
            tasks.append(asyncio.create_task(call(chance.randrange(4))))
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
            if chance.random() < 0.5:
                chance.choice(tasks).cancel()
            assert tested.waiting(PROVIDER) <= max_waiting
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, (Exhausted, ValueError, asyncio.CancelledError, type(None))) for end in ends)
        assert inside == 0
        assert most <= limit
        assert len(tested) == 0

    asyncio.run(scenario())


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
