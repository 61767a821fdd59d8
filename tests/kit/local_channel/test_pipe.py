"""What a pipe promises: order, a bound, and that nobody waits for ever."""

from __future__ import annotations

import asyncio

import grpc
from hypothesis import given
from hypothesis import strategies as st

from kit.local_channel.pipe import CAPACITY, CAPACITY_BYTES, Pipe


@given(st.lists(st.integers(0, 3), max_size=200))
async def test_any_interleaving_keeps_order_and_bound(pauses: list[int]) -> None:
    pipe = Pipe(asyncio.get_running_loop())
    written: list[int] = []
    read: list[object] = []
    furthest = 0

    async def write() -> None:
        nonlocal furthest
        for number, pause in enumerate(pauses):
            assert await pipe.put(number)
            written.append(number)
            furthest = max(furthest, len(written) - len(read))
            for _ in range(pause % 2):
                await asyncio.sleep(0)
        pipe.end()

    async def consume() -> None:
        for pause in [*pauses, 0]:
            item = await pipe.get()
            if item is not grpc.aio.EOF:
                read.append(item)
            for _ in range(pause // 2):
                await asyncio.sleep(0)

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(write())
        group.create_task(consume())
    assert read == written
    # One more than fits may be under way: what a reader has taken but not yet looked at.
    assert furthest <= CAPACITY + 1


async def test_a_writer_waits_while_the_pipe_is_full() -> None:
    pipe = Pipe(asyncio.get_running_loop())
    for number in range(CAPACITY):
        assert await pipe.put(number)
    writing = asyncio.ensure_future(pipe.put("one more"))
    await asyncio.sleep(0)
    assert not writing.done()
    assert await pipe.get() == 0
    assert await asyncio.wait_for(writing, 5)


@given(st.lists(st.integers(0, CAPACITY_BYTES * 2), max_size=40))
async def test_a_writer_is_ahead_by_a_bound_of_bytes_and_one_message(sizes: list[int]) -> None:
    pipe = Pipe(asyncio.get_running_loop())

    async def write() -> None:
        for size in sizes:
            assert await pipe.put(size, size)
        pipe.end()

    writing = asyncio.ensure_future(write())
    read = 0
    while True:
        # Let the writer write whatever it may.
        for _ in range(CAPACITY * 2):
            await asyncio.sleep(0)
        ahead = [size for _, size in pipe._items]
        assert sum(ahead[:-1]) < CAPACITY_BYTES
        assert pipe.is_full or read + len(ahead) == len(sizes)
        if (size := await asyncio.wait_for(pipe.get(), 5)) is grpc.aio.EOF:
            break
        assert size == sizes[read]
        read += 1
    await writing
    assert read == len(sizes)


async def test_tearing_drops_everything_and_lets_all_go() -> None:
    pipe = Pipe(asyncio.get_running_loop())
    for number in range(CAPACITY):
        await pipe.put(number)
    writers = [asyncio.ensure_future(pipe.put("never")) for _ in range(3)]
    await asyncio.sleep(0)
    pipe.tear()
    assert await asyncio.wait_for(asyncio.gather(*writers), 5) == [False, False, False]
    assert pipe.is_empty
    assert await pipe.get() is grpc.aio.EOF


async def test_ending_lets_the_reader_empty_the_pipe() -> None:
    pipe = Pipe(asyncio.get_running_loop())
    await pipe.put("last")
    pipe.end()
    assert await pipe.get() == "last"
    assert await pipe.get() is grpc.aio.EOF


async def test_a_reader_that_is_cancelled_loses_nothing() -> None:
    pipe = Pipe(asyncio.get_running_loop())
    leaves, stays = asyncio.ensure_future(pipe.get()), asyncio.ensure_future(pipe.get())
    await asyncio.sleep(0)
    await pipe.put("only")
    leaves.cancel()
    assert await asyncio.wait_for(stays, 5) == "only"
