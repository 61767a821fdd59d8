"""Calls beyond what a provider may have at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kit.errors import Deadline, Exhausted
from services.attempts import asked_nobody
from tests.services.executor.house import ANSWER, House
from tests.services.executor.test_application_fallbacks import fallback


async def full(**fields: Any) -> tuple[House, asyncio.Future[Any]]:
    """A house whose provider takes one call, and that call."""
    house = House("stall", max_concurrent_calls=1, **fields)
    held = asyncio.ensure_future(house.run())
    while not house.provider.requests:
        await asyncio.sleep(0)
    return house, held


async def behind(house: House, *, is_streamed: bool, deadline: float) -> asyncio.Future[Any]:
    """A call that waits for its end."""
    waiting = asyncio.ensure_future(house.stream(deadline=deadline) if is_streamed else house.run(deadline=deadline))
    gate = house.executor.attempts.limits.gate("prv_main", 1)
    while not gate.queue:
        await asyncio.sleep(0)
    return waiting


async def test_a_provider_has_no_more_calls_than_it_may_have() -> None:
    house, held = await full()

    with pytest.raises(Exhausted) as failure:
        await house.run()

    assert (failure.value.reason, failure.value.retry_after_seconds) == ("PROVIDER_BUSY", 1.0)
    held.cancel()
    with pytest.raises(asyncio.CancelledError):
        await held
    assert (await house.run()).answer is ANSWER


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize(("deadline", "given"), [(100, 5), (6, 2)])
async def test_a_wait_for_a_busy_provider_takes_of_the_deadline_and_not_of_the_attempts_time(
    deadline: float, given: float, *, is_streamed: bool
) -> None:
    house, held = await full(attempt_timeout=5)
    waiting = await behind(house, is_streamed=is_streamed, deadline=deadline)

    house.clock.time += 4
    held.cancel()
    await waiting
    assert house.provider.timeouts == [5, given]


async def test_a_busy_provider_is_passed_over_where_there_is_another() -> None:
    house, held = await full(fallbacks=(fallback(),))
    run = await house.run()
    assert (run.provider, [each.reason for each in run.attempts]) == ("other", ["PROVIDER_BUSY", ""])
    held.cancel()


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_who_gets_a_slot_too_late_reaches_no_provider(*, is_streamed: bool) -> None:
    house, held = await full()
    waiting = await behind(house, is_streamed=is_streamed, deadline=3)

    house.clock.time += 2.996
    held.cancel()
    with pytest.raises(Deadline):
        await waiting
    assert len(house.provider.requests) == 1


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_of_who_leaves_while_waiting_for_a_slot_no_provider_heard(*, is_streamed: bool) -> None:
    house, held = await full()
    waiting = await behind(house, is_streamed=is_streamed, deadline=3)

    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    [attempt] = house.records.closed[0].attempts
    assert asked_nobody(attempt.reason, attempt.http_status)
    held.cancel()
