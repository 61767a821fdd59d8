"""Long work leaves the loop to others half of the time, and owners take turns."""

from __future__ import annotations

import asyncio
import time

import pytest

from kit.turns import SLICE_SECONDS, Turns


async def work(turns: Turns, owner: str, steps: int, done: list[str], *, seconds: float = SLICE_SECONDS) -> None:
    async with turns.of(owner) as turn:
        for _ in range(steps):
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                pass
            done.append(owner)
            await turn.rest()


async def test_one_slice_at_a_time_and_owners_take_turns() -> None:
    turns, done = Turns(), list[str]()
    await asyncio.gather(*(work(turns, owner, 4, done) for owner in ("ada", "bob", "eve")))
    # The first has asked for its second slice before the others ask for their first.
    assert done == ["ada", *["ada", "bob", "eve"] * 3, "bob", "eve"]


async def test_one_owners_works_follow_one_another_so_that_many_gain_nothing() -> None:
    turns, done = Turns(), list[str]()
    many = [work(turns, "many", 2, done) for _ in range(10)]
    await asyncio.gather(*many, work(turns, "few", 2, done))
    assert "few" not in done[4:]


async def test_behind_each_slice_others_have_as_long() -> None:
    turns, done = Turns(), list[str]()
    begun = time.monotonic()
    working = [asyncio.create_task(work(turns, f"{n}", 5, done)) for n in range(4)]
    await asyncio.gather(*working)
    assert time.monotonic() - begun >= 2 * 4 * 5 * SLICE_SECONDS - SLICE_SECONDS
    assert len(done) == 20


async def test_short_work_is_done_in_one_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kit.turns.SLICE_SECONDS", 60)
    turns, done = Turns(), list[str]()
    async with turns.of("ada") as turn:
        other = asyncio.create_task(work(turns, "bob", 1, done, seconds=0))
        for _ in range(100):
            await turn.rest()
            await asyncio.sleep(0)
        done.append("ada")
    await other
    assert done == ["ada", "bob"]


@pytest.mark.parametrize("waits_for", ["its first slice", "its next slice", "the same owner's"])
async def test_who_gives_up_waiting_leaves_the_way_to_the_next(waits_for: str) -> None:
    turns, done = Turns(), list[str]()
    owner = "ada" if waits_for == "the same owner's" else "bob"
    other = asyncio.create_task(work(turns, "ada", 3, done))
    leaver = asyncio.create_task(work(turns, owner, 3, done))
    await asyncio.sleep(0)
    if waits_for == "its next slice":
        while "bob" not in done:
            await asyncio.sleep(0)
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    await other
    async with asyncio.timeout(5):
        await work(turns, owner, 1, done)
    assert done.count("ada") >= 3


async def test_work_that_fails_gives_its_slice_back() -> None:
    turns, done = Turns(), list[str]()
    with pytest.raises(ZeroDivisionError):
        async with turns.of("ada"):
            raise ZeroDivisionError
    async with asyncio.timeout(5):
        await work(turns, "bob", 1, done)


async def test_behind_a_slice_in_which_the_machine_slept_nobody_waits_as_long() -> None:
    turns, done = Turns(), list[str]()
    await work(turns, "ada", 1, done, seconds=0.3)
    begun = time.monotonic()
    await work(turns, "bob", 1, done, seconds=0)
    assert time.monotonic() - begun < 0.15
