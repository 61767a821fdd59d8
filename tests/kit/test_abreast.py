"""Calls take their steps together, and one that is alone does not wait."""

from __future__ import annotations

import asyncio

import pytest

from kit.abreast import Abreast


async def test_all_take_a_step_before_any_takes_the_next() -> None:
    abreast, taken = Abreast(), list[str]()

    async def call(name: str) -> None:
        with abreast:
            # As calls do that others have come to while they waited.
            await asyncio.sleep(0)
            for step in range(3):
                taken.append(f"{name}{step}")
                await abreast.step()

    await asyncio.gather(*map(call, "abc"))
    assert taken == ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2"]
    assert abreast.calls == 0


async def test_a_call_that_is_alone_goes_on_at_once() -> None:
    abreast, others = Abreast(), list[str]()
    asyncio.get_running_loop().call_soon(others.append, "ran")
    with abreast:
        await abreast.step()
        assert not others


async def test_a_call_that_fails_or_is_cancelled_takes_no_more_steps() -> None:
    abreast = Abreast()

    async def call() -> None:
        with abreast:
            await asyncio.sleep(0)
            await abreast.step()
            raise AssertionError

    left, failing = asyncio.create_task(call()), asyncio.create_task(call())
    await asyncio.sleep(0)
    assert abreast.calls == 2
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    with pytest.raises(AssertionError):
        await failing
    assert abreast.calls == 0
