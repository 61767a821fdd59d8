"""Callers who do not read what they asked for."""

from __future__ import annotations

import asyncio

import pytest

from kit.http_server.answer import Answer, Reply, Stream
from kit.http_server.connection import Connection
from kit.http_server.request import Request
from tests.kit.http_server.serving import GET, Raw, Server, behind, serving, until, yes

MUCH = 32 << 20
"""More than the kernel holds."""


async def much(request: Request) -> Reply:
    return Answer(200, {}, bytes(MUCH))


async def unread(server: Server, *, is_paused: bool = True) -> tuple[Raw, Connection]:
    """A caller who asks for much, and where its answer waits.

    :param is_paused: whether the answer is too much to be written at once
    """
    raw = await server.connect(receive_bytes=1 << 10)
    [open_one] = server.connections.open
    transport = open_one.transport
    assert transport is not None
    if not is_paused:
        transport.set_write_buffer_limits(high=2 * MUCH)
    raw.say(GET)
    # Until it waits for good: what the kernel holds is full, and so is what the reader holds.
    await until(lambda: transport.get_write_buffer_size() and raw.reader._paused)  # type: ignore[attr-defined]
    size = -1
    while size != (size := transport.get_write_buffer_size()):
        for _ in range(10):
            await asyncio.sleep(0)
    assert open_one.is_writing_paused is is_paused
    return raw, open_one


async def test_a_stream_whose_caller_stops_reading_is_given_up() -> None:
    ended: list[BaseException] = []

    async def handler(request: Request) -> Reply:
        stream = Stream({})
        try:
            await request.begin(stream)
            while True:
                await stream.write(bytes(100_000))
        except BaseException as error:
            ended.append(error)
            raise

    async with serving(handler, stall_seconds=0.05) as server:
        raw = await server.connect(receive_bytes=1 << 10)
        raw.say(GET)
        await until(lambda: ended)
        # Not cancelled: it may tell this from a caller who has left, and has a turn to end in.
        assert isinstance(ended[0], ConnectionAbortedError)
        await until(lambda: not server.connections.open)
        raw.writer.close()


@pytest.mark.parametrize("header", [b"", b"Connection: close\r\n"])
async def test_a_whole_answer_that_nobody_reads_is_given_up(header: bytes) -> None:
    async with serving(much, stall_seconds=0.05) as server:
        raw = await server.connect(receive_bytes=1 << 10)
        [open_one] = server.connections.open
        raw.say(GET[:-2] + header + b"\r\n")
        await until(lambda: open_one.task)
        await until(lambda: not server.connections.open)
        assert open_one.task is None
        raw.writer.close()


async def test_whoever_reads_slowly_is_not_given_up() -> None:
    async with serving(much) as server:
        raw, open_one = await unread(server)
        transport, unsent = open_one.transport, open_one._unsent
        assert transport is not None
        while transport.get_write_buffer_size() >= unsent:
            await raw.reader.read(1 << 20)
        assert open_one.is_writing_paused
        open_one._look_at_unsent()
        assert not transport.is_closing()
        assert open_one._watch is not None
        assert open_one._watch.when() > asyncio.get_running_loop().time() + 30
        # And nothing since.
        open_one._look_at_unsent()
        assert transport.is_closing()
        await until(lambda: not server.connections.open)
        raw.writer.close()


async def test_whoever_has_caught_up_is_not_watched() -> None:
    async with serving(much) as server:
        raw, open_one = await unread(server)
        await raw.answer()
        assert not open_one.is_writing_paused
        open_one._look_at_unsent()
        assert open_one._watch is None
        raw.say(GET)
        assert len((await raw.answer())[1]) == MUCH
        raw.writer.close()


async def test_what_is_written_and_read_has_no_watch() -> None:
    async with serving() as server:
        raw = await server.connect()
        [open_one] = server.connections.open
        for said in (GET, GET[:-2] + b"Connection: close\r\n\r\n"):
            raw.say(said)
            await raw.answer()
            assert open_one._watch is None
        await until(lambda: not server.connections.open)
        assert open_one._watch is None
        raw.writer.close()


async def test_a_connection_that_is_closed_is_not_kept_for_a_caller_who_does_not_read() -> None:
    async with serving(much, last_stall_seconds=0.05) as server:
        raw, open_one = await unread(server, is_paused=False)
        await until(lambda: not open_one._is_busy)
        assert open_one._watch is None
        open_one.close()
        await until(lambda: not server.connections.open)
        raw.writer.close()


async def test_a_caller_who_leaves_what_it_asked_for_unread_is_not_waited_for() -> None:
    async with serving(much, last_stall_seconds=0.05) as server:
        raw, _ = await unread(server, is_paused=False)
        raw.writer.write_eof()
        await until(lambda: not server.connections.open)
        raw.writer.close()


async def test_closing_all_ends_what_nobody_reads() -> None:
    async with serving(much) as server:
        raw, _ = await unread(server)
        await asyncio.wait_for(server.connections.close(0.01), 10)
        assert not server.connections.open
        raw.writer.close()


async def test_closing_all_waits_for_what_is_being_read() -> None:
    async with serving(much) as server:
        raw, open_one = await unread(server, is_paused=False)
        await until(lambda: not open_one._is_busy)
        closing = asyncio.create_task(server.connections.close(10))
        assert len((await raw.answer())[1]) == MUCH
        await asyncio.wait_for(closing, 5)
        raw.writer.close()


async def test_closing_all_leaves_requests_time_to_end() -> None:
    gate = asyncio.Event()
    async with serving(behind(gate, yes)) as server:
        raw = await server.connect()
        raw.say(GET)
        [open_one] = server.connections.open
        await until(lambda: open_one.task)
        closing = asyncio.create_task(server.connections.close(10))
        await until(lambda: server.connections.is_closing)
        gate.set()
        assert (await raw.answer())[1] == b"yes"
        await asyncio.wait_for(closing, 5)
        raw.writer.close()


async def test_a_connection_that_comes_when_all_are_closed_is_closed() -> None:
    async with serving() as server:
        server.connections.close_idle()
        raw = await server.connect()
        assert await raw.rest() == b""
        raw.writer.close()
