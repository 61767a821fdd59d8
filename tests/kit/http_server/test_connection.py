"""How connections end, and what ends with them."""

from __future__ import annotations

import asyncio
import gc

import pytest

from kit.http_server.answer import Reply, Stream
from kit.http_server.connection import Connection
from kit.http_server.request import Request
from tests.kit.http_server.serving import GET, behind, echo, post, serving, until


@pytest.mark.parametrize("said", [GET, post(b"hello")[:-1]])
async def test_a_caller_who_leaves_ends_the_work_for_it(said: bytes) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def handler(request: Request) -> Reply:
        begun.set()
        try:
            await request.body(100, 60)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.set()
            raise
        raise AssertionError

    async with serving(handler) as server:
        raw = await server.connect()
        raw.say(said)
        await begun.wait()
        raw.writer.close()
        await asyncio.wait_for(ended.wait(), 10)
        await until(lambda: not server.connections.open)


async def test_a_caller_who_leaves_a_stream_that_waits_for_it_ends_the_work() -> None:
    left: list[BaseException] = []

    async def handler(request: Request) -> Reply:
        stream = Stream({})
        await request.begin(stream)
        try:
            while True:
                await stream.write(b"x" * 100_000)
        except BaseException as error:
            left.append(error)
            raise

    async with serving(handler) as server:
        raw = await server.connect(receive_bytes=1 << 10)
        raw.say(GET)
        await raw.reader.readuntil(b"\r\n\r\n")
        [open_one] = server.connections.open
        await until(lambda: open_one.is_writing_paused)
        raw.writer.transport.abort()
        await until(lambda: left)
        await until(lambda: not server.connections.open)


async def test_a_bug_ends_the_connection_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Request) -> Reply:
        raise RuntimeError("bug")

    async with serving(handler) as server:
        raw = await server.connect()
        raw.say(GET)
        assert await raw.rest() == b""
        raw.writer.close()
    assert [record.getMessage() for record in caplog.records] == ["a request is not answered"]


async def test_connections_without_a_request_are_closed_in_time_and_those_with_one_are_not() -> None:
    gate = asyncio.Event()
    async with serving(behind(gate, echo), keep_alive_seconds=0.05) as server:
        silent, slow, busy = [await server.connect() for _ in range(3)]
        slow.say(GET[:-5])
        busy.say(GET)
        assert [await silent.rest(), await slow.rest()] == [b"", b""]
        gate.set()
        assert (await busy.answer())[1] == b""
        assert await busy.rest() == b""
        for raw in (silent, slow, busy):
            raw.writer.close()


async def test_a_connection_keeps_one_timer_for_all_its_requests() -> None:
    async with serving() as server:
        raw = await server.connect()
        [open_one] = server.connections.open
        timer = open_one._alarm
        assert timer is not None
        for _ in range(3):
            raw.say(GET)
            await raw.answer()
        assert open_one._alarm is timer
        # It fires too early, and waits for what is left.
        open_one._look_at_the_time()
        assert open_one._alarm is not None
        assert open_one._alarm.when() > asyncio.get_running_loop().time() + 30
        timer.cancel()
        raw.writer.close()


async def test_a_stop_closes_the_idle_and_lets_a_body_come_to_its_end() -> None:
    async with serving() as server:
        idle, busy = await server.connect(), await server.connect()
        busy.say(post(b"hello")[:-1])
        await until(lambda: any(each._is_busy for each in server.connections.open))
        server.connections.is_stopping = True
        server.connections.close_idle()
        assert await idle.rest() == b""
        busy.say(b"o" + GET)
        head, body = await busy.answer()
        assert body == b"hello"
        assert "\r\nConnection: close\r\n" in head
        assert await busy.rest() == b""
        idle.writer.close()
        busy.writer.close()


async def test_what_does_not_end_by_itself_is_ended() -> None:
    begun = asyncio.Event()

    async def handler(request: Request) -> Reply:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(handler) as server:
        raw = await server.connect()
        raw.say(GET)
        await begun.wait()
        await server.connections.close(0.01)
        assert await raw.rest() == b""
        raw.writer.close()


@pytest.mark.parametrize("said", [post(b"hello"), post(b"hello")[:-1]])
async def test_a_connection_that_is_gone_leaves_nothing_behind(said: bytes, request: pytest.FixtureRequest) -> None:
    # What only the garbage collector takes would stay for long.
    gc.collect()
    gc.disable()
    request.addfinalizer(gc.enable)
    async with serving() as server:
        raw = await server.connect()
        raw.say(said)
        await until(lambda: [each for each in server.connections.open if each._reader.newest.total_bytes])
        raw.writer.close()
        await until(lambda: not server.connections.open)
        shared = server.connections
        # Its task ends in the next turns.
        await until(lambda: not [each for each in gc.get_referrers(shared) if isinstance(each, Connection)])
