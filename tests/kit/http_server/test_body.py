"""What comes behind a head."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import struct
import tracemalloc

import pytest

from kit.errors import Invalid
from kit.http_server.answer import Answer, Reply
from kit.http_server.body import Body
from kit.http_server.reader import Reader
from kit.http_server.request import Request
from tests.kit.http_server.serving import GET, behind, chunked, post, serving, until, yes


async def test_a_large_body_is_held_back_while_nobody_reads_it() -> None:
    gate = asyncio.Event()

    async def handler(request: Request) -> Reply:
        await gate.wait()
        return Answer(200, {}, b"%d" % len(await request.body(16 << 20, 10)))

    async with serving(handler) as server:
        raw = await server.connect()
        raw.say(post(b"x" * (8 << 20)))
        [open_one] = server.connections.open
        await until(lambda: open_one._is_held)
        assert open_one._reader.newest.total_bytes < 2 << 20
        gate.set()
        assert (await raw.answer())[1] == b"%d" % (8 << 20)
        raw.say(GET)
        assert (await raw.answer())[1] == b"0"
        raw.writer.close()


def test_a_body_in_many_pieces_takes_little_more_than_its_bytes() -> None:
    body, whole = Body(lambda _: None), b"".join(b"%02d" % (number % 100) for number in range(50_000))
    tracemalloc.start()
    try:
        for start in range(0, len(whole), 2):
            body.feed(whole[start : start + 2])
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    # What a bytearray keeps for more to come, and the pieces that are kept as they came.
    assert taken < 1.25 * len(whole) + 30_000
    body.end()
    assert body.taken() == whole


async def test_a_body_that_is_read_in_many_pieces_takes_little_more_than_its_bytes() -> None:
    read: list[bytes] = []

    async def handler(request: Request) -> Reply:
        read.append(await request.body(1 << 20, 10))
        return Answer(200, {}, b"yes")

    whole = [b"%02d" % (number % 100) for number in range(5000)]
    async with serving(handler) as server:
        raw = await server.connect()
        [open_one] = server.connections.open
        open_one.data_received(chunked()[:-5])
        await asyncio.sleep(0)
        tracemalloc.start()
        try:
            for piece in whole:
                open_one.data_received(b"2\r\n%s\r\n" % piece)
                # Until it is read.
                while open_one._reader.newest._chunks:
                    await asyncio.sleep(0)
            taken = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert taken < 100_000
        open_one.data_received(b"0\r\n\r\n")
        assert (await raw.answer())[1] == b"yes"
        raw.writer.close()
    assert read == [b"".join(whole)]
    assert type(read[0]) is bytes


async def test_a_body_that_nobody_reads_is_not_taken_for_a_request() -> None:
    async def handler(request: Request) -> Reply:
        return Answer(200, {}, request.target.encode())

    async with serving(handler) as server:
        raw = await server.connect()
        raw.say(post(GET, b"/1")[:-3])
        assert (await raw.answer())[1] == b"/1"
        raw.say(b"\n\r\n" + post(b"", b"/2"))
        assert (await raw.answer())[1] == b"/2"
        raw.writer.close()


async def test_a_body_that_breaks_on_its_way_is_told_at_once() -> None:
    async with serving() as server:
        raw = await server.connect()
        raw.say(chunked(b"hello")[:-5])
        [open_one] = server.connections.open
        await until(lambda: open_one._reader.newest.total_bytes)
        raw.say(b"zz\r\n")
        # No listener is around it here, which would make an answer of what is raised.
        assert await raw.rest() == b""
        raw.writer.close()


async def test_whoever_goes_on_behind_a_broken_body_still_reads_why_it_is_refused() -> None:
    async def handler(request: Request) -> Reply:
        try:
            await request.body(16 << 20, 10)
        except Invalid as broken:
            return Answer(400, {}, broken.reason.encode())
        raise AssertionError

    async with serving(handler) as server:
        raw = await server.connect()
        raw.say(chunked()[:-5])
        [open_one] = server.connections.open
        await until(lambda: open_one._is_busy)
        raw.say(b"zz\r\n" + b"x" * (4 << 20))
        said = await raw.rest()
        assert said.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert said.endswith(b"BODY_MALFORMED")
        raw.writer.close()


async def test_whoever_goes_on_behind_a_body_that_was_held_back_and_broke_reads_why_it_is_refused() -> None:
    gate = asyncio.Event()
    async with serving(behind(gate, yes)) as server:
        raw = await server.connect()
        [open_one] = server.connections.open
        open_one.data_received(GET + chunked(b"x" * (700 << 10))[:-5])
        assert open_one._is_held
        open_one.data_received(b"zz\r\n")
        gate.set()
        # As a caller who reads nothing before it has sent all.
        raw.writer.transport.set_write_buffer_limits(0)
        raw.say(b"x" * (16 << 20))
        await raw.writer.drain()
        said = await raw.rest()
        assert said.count(b"HTTP/1.1 200 OK\r\n") == said.count(b"HTTP/1.1 400 Bad Request\r\n") == 1
        raw.writer.close()


async def test_a_caller_who_leaves_while_its_broken_body_is_answered_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun, gate = asyncio.Event(), asyncio.Event()

    async def handler(request: Request) -> Reply:
        begun.set()
        await gate.wait()
        raise ConnectionError

    async with serving(handler) as server:
        raw = await server.connect()
        [open_one] = server.connections.open
        open_one.data_received(chunked(b"hello")[:-5])
        await begun.wait()
        open_one.data_received(b"zz\r\n")
        raw.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.writer.transport.abort()
        # In the same turn, so that it is not known yet.
        gate.set()
        await until(lambda: not server.connections.open)
        gc.collect()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_behind_a_large_body_that_nobody_reads_the_next_request_is_answered() -> None:
    gate = asyncio.Event()

    async def handler(request: Request) -> Reply:
        if request.method == "POST":
            await gate.wait()
        return Answer(200, {}, request.method.encode())

    async with serving(handler) as server:
        raw = await server.connect()
        [open_one] = server.connections.open
        open_one.data_received(post(b"x" * (700 << 10)))
        gate.set()
        raw.say(GET)
        assert [(await raw.answer())[1] for _ in range(2)] == [b"POST", b"GET"]
        raw.writer.close()


def test_a_body_that_looks_like_heads_costs_no_more() -> None:
    reader = Reader(lambda _: None, max_header_bytes=8 << 10)
    size = 4 << 20
    reader.feed(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size, 32)
    calls = 0

    class Counting:
        def feed_data(self, data: bytes | memoryview) -> None:
            nonlocal calls
            calls += 1
            assert parser is not None
            parser.feed_data(data)

    parser = reader._parser
    reader._parser = Counting()  # type: ignore[assignment]
    for _ in range(16):
        reader.feed(b"\r\n\r\n" * (1 << 16), 31)
    assert reader.newest.is_whole
    assert reader.newest.total_bytes == size
    assert calls <= 16 * (1 << 16) // 31 + 16
