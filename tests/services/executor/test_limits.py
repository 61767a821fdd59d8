"""Limits, by values and under random comings, goings and cancellations."""

from __future__ import annotations

import asyncio
import random
from contextlib import AbstractAsyncContextManager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.errors import Exhausted
from services.executor.limits import ProviderLimits

PROVIDER = "prv_1"


class Hands:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def limits(*, max_waiting: int = 10, max_wait_seconds: float = 60.0, now: Hands | None = None) -> ProviderLimits:
    return ProviderLimits(now or Hands(), max_waiting=max_waiting, max_wait_seconds=max_wait_seconds)


def slot(of: ProviderLimits, limit: int = 1, patience_seconds: float = 60.0) -> AbstractAsyncContextManager[bool]:
    return of.slot(PROVIDER, name="openai", limit=limit, patience_seconds=patience_seconds)


class Calls:
    """Calls that hold a slot until they are told to end."""

    def __init__(self, of: ProviderLimits) -> None:
        self.of = of
        self.entered: list[int] = []
        self.ends: dict[int, asyncio.Event] = {}

    def begin(self, number: int, limit: int = 1, patience_seconds: float = 60.0) -> asyncio.Task[None]:
        self.ends[number] = asyncio.Event()

        async def call() -> None:
            async with slot(self.of, limit, patience_seconds):
                self.entered.append(number)
                await self.ends[number].wait()

        return asyncio.create_task(call())


async def settle() -> None:
    """Until every task has gone as far as it can: a wake-up takes two turns of the loop."""
    for _ in range(4):
        await asyncio.sleep(0)


async def test_as_many_enter_as_there_are_slots_and_the_others_in_order() -> None:
    tested = limits()
    calls = Calls(tested)
    tasks = [calls.begin(number, limit=2) for number in range(5)]
    await settle()
    assert calls.entered == [0, 1]
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
    # The slot is the second's already, although it has not run yet.
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
        async with slot(tested):
            pytest.fail("there was no slot")
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
        async with slot(tested, patience_seconds=patience):
            pytest.fail("there was no slot")
    calls.ends[1].set()
    await holder
    assert len(tested) == 0


async def test_without_patience_nobody_waits_but_a_free_slot_is_taken() -> None:
    tested = limits()
    async with slot(tested, patience_seconds=0.0):
        with pytest.raises(Exhausted):
            async with slot(tested, patience_seconds=-1.0):
                pytest.fail("there was no slot")


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


async def test_a_slot_is_left_when_its_call_fails() -> None:
    tested = limits()
    with pytest.raises(ValueError, match="mine"):
        async with slot(tested):
            raise ValueError("mine")
    assert len(tested) == 0
    async with slot(tested, patience_seconds=0.0):
        pass


async def test_a_slot_given_to_a_caller_who_leaves_in_the_same_turn_goes_to_the_next() -> None:
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


async def test_who_waits_and_leaves_frees_its_slot_in_the_queue() -> None:
    tested = limits(max_waiting=1)
    calls = Calls(tested)
    holder = calls.begin(1)
    await settle()
    for number in (2, 3, 4):
        waiter = calls.begin(number)
        await settle()
        assert not waiter.done()
        with pytest.raises(Exhausted):
            async with slot(tested):
                pytest.fail("there was no slot")
        waiter.cancel()
        await settle()
    calls.ends[1].set()
    await holder


async def test_the_next_slot_is_expected_as_calls_took_lately() -> None:
    clock = Hands()
    tested = limits(now=clock, max_waiting=0)
    async with slot(tested, limit=2):
        async with slot(tested, limit=2):
            clock.now += 12.0
        async with slot(tested, limit=2):
            with pytest.raises(Exhausted) as refusal:
                async with slot(tested, limit=2):
                    pytest.fail("there was no slot")
    assert refusal.value.retry_after_seconds == 6.0


async def test_providers_are_apart() -> None:
    tested = limits()
    async with slot(tested), tested.slot("prv_2", name="other", limit=1, patience_seconds=0.0):
        assert len(tested) == 2


@given(seed=st.integers(0, 2**32 - 1), limit=st.integers(1, 4), max_waiting=st.integers(0, 6))
@settings(max_examples=150, deadline=None)
def test_no_slot_is_lost_or_given_twice_whoever_leaves_when(seed: int, limit: int, max_waiting: int) -> None:
    chance = random.Random(seed)

    async def scenario() -> None:
        tested = limits(max_waiting=max_waiting, max_wait_seconds=chance.choice([0.0, 0.001, 60.0]))
        inside = most = 0

        async def call(turns: int) -> None:
            nonlocal inside, most
            async with slot(tested, limit):
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
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, (Exhausted, ValueError, asyncio.CancelledError, type(None))) for end in ends)
        assert inside == 0
        assert most <= limit
        assert len(tested) == 0

    asyncio.run(scenario())
