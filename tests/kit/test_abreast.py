"""Calls go in groups and take their steps together, and one that is alone does not wait."""

from __future__ import annotations

import asyncio

import pytest

from kit.abreast import Abreast


async def turn() -> None:
    """One of the loop."""
    await asyncio.sleep(0)


async def test_all_take_a_step_before_any_takes_the_next() -> None:
    abreast, taken = Abreast(), list[str]()

    async def call(name: str) -> None:
        with abreast:
            # As calls do that others have come to while they waited.
            await turn()
            await abreast.line_up()
            for step in range(3):
                taken.append(f"{name}{step}")
                await abreast.step()

    await asyncio.gather(*map(call, "abc"))
    assert taken == ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2"]
    assert abreast.calls == 0


async def test_who_comes_later_waits_until_those_before_take_no_more_steps() -> None:
    abreast, taken = Abreast(), list[str]()

    async def call(name: str, turns: int) -> None:
        with abreast:
            for _ in range(turns):
                await turn()
            await abreast.line_up()
            for step in range(4):
                taken.append(f"{name}{step}")
                await abreast.step()

    # The last two come in different turns, and go together.
    await asyncio.gather(call("a", 1), call("b", 1), call("c", 3), call("d", 5))
    assert taken[:8] == ["a0", "b0", "a1", "b1", "a2", "b2", "a3", "b3"]
    assert taken[8:] == ["c0", "d0", "c1", "d1", "c2", "d2", "c3", "d3"]


async def test_who_waits_for_something_else_holds_up_nobody() -> None:
    abreast, gone = Abreast(), list[str]()
    answer = asyncio.Event()

    async def waiting() -> None:
        with abreast:
            await turn()
            await abreast.line_up()
            await abreast.step()
            await answer.wait()

    async def later() -> None:
        with abreast:
            await abreast.line_up()
            gone.append("later")

    others = [asyncio.create_task(waiting()) for _ in range(2)]
    for _ in range(8):
        await turn()
    async with asyncio.timeout(5):
        await later()
    assert gone == ["later"]
    answer.set()
    await asyncio.gather(*others)


async def test_who_never_ceases_to_take_steps_holds_up_the_line_for_some_turns_only() -> None:
    abreast, steps = Abreast(), 0

    async def restless() -> None:
        nonlocal steps
        with abreast:
            await turn()
            await abreast.line_up()
            while True:
                steps += 1
                await abreast.step()

    async def later() -> int:
        with abreast:
            before = steps
            await abreast.line_up()
            return steps - before

    others = [asyncio.create_task(restless()) for _ in range(2)]
    for _ in range(4):
        await turn()
    # Two, who still go in company afterwards, so that the restless ones can be cancelled.
    async with asyncio.timeout(5):
        waited = await asyncio.gather(later(), later())
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    # Both took a step in each of 16 turns.
    assert all(2 * 15 <= each <= 2 * 18 for each in waited)
    assert abreast.calls == 0


async def test_a_call_that_is_alone_goes_on_at_once() -> None:
    abreast, others = Abreast(), list[str]()
    asyncio.get_running_loop().call_soon(others.append, "ran")
    with abreast:
        await abreast.line_up()
        await abreast.step()
        assert not others


async def test_a_call_that_goes_alone_takes_no_turns_for_those_that_wait() -> None:
    abreast, others = Abreast(), list[str]()
    answer = asyncio.Event()

    async def waiting() -> None:
        with abreast:
            await answer.wait()

    other = asyncio.create_task(waiting())
    await turn()
    with abreast:
        await abreast.line_up()
        asyncio.get_running_loop().call_soon(others.append, "ran")
        for _ in range(3):
            await abreast.step()
        assert not others
    answer.set()
    await other


async def test_a_call_that_fails_or_is_cancelled_leaves_the_line_and_takes_no_more_steps() -> None:
    abreast, gone = Abreast(), list[str]()

    async def call(name: str) -> None:
        with abreast:
            await turn()
            await abreast.line_up()
            gone.append(name)
            await abreast.step()
            if name == "failing":
                raise AssertionError

    left, failing, other = (asyncio.create_task(call(name)) for name in ("left", "failing", "other"))
    await turn()
    await turn()
    assert abreast.calls == 3
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    with pytest.raises(AssertionError):
        await failing
    await other
    assert gone == ["failing", "other"]
    assert abreast.calls == 0
