"""Answers read while they arrive."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import socket
import struct
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from kit.egress import Egress, EgressPolicy, EgressStream, Timeouts
from kit.errors import Unavailable

LOOPBACK = EgressPolicy(allow_private=True)
GENEROUS = Timeouts(total_seconds=20, connect_seconds=20, first_byte_seconds=20)
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n"

RawServer = Callable[..., AbstractAsyncContextManager[int]]


def stream(
    egress: Egress, port: int, *, timeout: Timeouts = GENEROUS, limit: int = 1 << 20
) -> AbstractAsyncContextManager[EgressStream]:
    return egress.stream("POST", f"http://127.0.0.1:{port}/", headers={}, timeout=timeout, max_response_bytes=limit)


async def test_chunks_are_handed_out_as_they_arrive(script: RawServer) -> None:
    proceed = asyncio.Event()

    async with script(CHUNKED, b"3\r\nxyz\r\n0\r\n\r\n", proceed=proceed) as port, Egress(LOOPBACK) as egress:
        async with stream(egress, port) as answer:
            first = await anext(answer)
            proceed.set()
            rest = [chunk async for chunk in answer]

    assert (answer.status, first, rest) == (200, b"abcde", [b"xyz"])
    assert answer.headers["transfer-encoding"] == "chunked"


async def test_what_is_left_can_be_read_at_once(script: RawServer) -> None:
    proceed = asyncio.Event()

    async with script(CHUNKED, b"3\r\nxyz\r\n0\r\n\r\n", proceed=proceed) as port, Egress(LOOPBACK) as egress:
        async with stream(egress, port) as answer:
            proceed.set()
            assert await answer.read() == b"abcdexyz"
            assert await answer.read() == b""


async def test_an_answer_as_large_as_the_limit_is_read(script: RawServer) -> None:
    async with script(HEAD + b"Content-Length: 5\r\n\r\nabcde") as port, Egress(LOOPBACK) as egress:
        async with stream(egress, port, limit=5) as answer:
            assert await answer.read() == b"abcde"


async def test_leaving_early_closes_the_connection_and_lets_the_callers_error_through(raw_server: RawServer) -> None:
    left = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CHUNKED)
        await reader.read()
        left.set()

    async def leave(egress: Egress, port: int) -> None:
        async with stream(egress, port) as answer:
            await anext(answer)
            raise TimeoutError("the caller's own")

    async with raw_server(endless) as port, Egress(LOOPBACK) as egress:
        with pytest.raises(TimeoutError, match="the caller's own"):
            await leave(egress, port)
        await asyncio.wait_for(left.wait(), 5)


async def test_a_cancelled_reader_closes_the_connection(raw_server: RawServer) -> None:
    reading, left = asyncio.Event(), asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CHUNKED)
        await reader.read()
        left.set()

    async with raw_server(endless) as port, Egress(LOOPBACK) as egress:

        async def read() -> None:
            async with stream(egress, port) as answer:
                async for _ in answer:
                    reading.set()

        task = asyncio.create_task(read())
        await asyncio.wait_for(reading.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(left.wait(), 5)


async def test_an_answer_over_the_limit_closes_the_connection_before_the_context_is_left(
    raw_server: RawServer,
) -> None:
    left = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CHUNKED)
        await reader.read()
        left.set()

    async with raw_server(endless) as port, Egress(LOOPBACK) as egress:
        async with stream(egress, port, limit=4) as answer:
            with pytest.raises(Unavailable) as failure:
                await anext(answer)
            await asyncio.wait_for(left.wait(), 5)

    assert failure.value.reason == "EGRESS_RESPONSE_TOO_LARGE"


async def test_a_decompression_bomb_is_unpacked_piece_by_piece_up_to_the_limit(script: RawServer) -> None:
    bomb = gzip.compress(bytes(64 << 20))
    head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    sizes: list[int] = []

    async def unpack(answer: EgressStream) -> None:
        async for chunk in answer:
            sizes.append(len(chunk))  # noqa: PERF401  a comprehension would lose them to the failure

    async with script(head + bomb) as port, Egress(LOOPBACK) as egress:
        async with stream(egress, port, limit=4 << 20) as answer:
            with pytest.raises(Unavailable) as failure:
                await unpack(answer)

    assert failure.value.reason == "EGRESS_RESPONSE_TOO_LARGE"
    assert 3 << 20 < sum(sizes) <= 4 << 20
    assert max(sizes) <= 1 << 20


@pytest.mark.parametrize("is_read", [True, False], ids=["read to its end", "finished before"])
async def test_a_stream_gives_its_connection_back_when_its_end_comes(raw_server: RawServer, is_read: bool) -> None:
    connections = 0
    may_end = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(CHUNKED)
            await may_end.wait()
            may_end.clear()
            writer.write(b"0\r\n\r\n")

    # The only connection there may be: each request waits for it.
    async with raw_server(handle) as port, Egress(LOOPBACK, max_connections=1) as egress:
        for _ in range(3):
            async with stream(egress, port) as answer:
                if is_read:
                    may_end.set()
                    assert await answer.read() == b"abcde"
                else:
                    assert await anext(answer) == b"abcde"
                    answer.finish()
            if not is_read:
                may_end.set()

    assert connections == 1


@pytest.mark.parametrize("rest", [b"", b"100000\r\n" + bytes(1 << 20)], ids=["silence", "more and more"])
async def test_a_stream_that_is_finished_and_does_not_end_is_closed(raw_server: RawServer, rest: bytes) -> None:
    left = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CHUNKED + rest)
        # Until the other side closes it, in whatever way.
        with contextlib.suppress(ConnectionError):
            await reader.read()
        left.set()

    async with raw_server(handle) as port, Egress(LOOPBACK) as egress:
        async with stream(egress, port) as answer:
            await anext(answer)
            answer.finish()
        assert not left.is_set()
        await asyncio.wait_for(left.wait(), 5)


async def test_a_kept_connection_that_is_reset_later_is_nobodys_error(
    raw_server: RawServer, caplog: pytest.LogCaptureFixture
) -> None:
    connections = 0
    opened, reset = asyncio.Event(), asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CHUNKED)
        await opened.wait()
        writer.write(b"0\r\n\r\n")
        await reset.wait()
        made = writer.get_extra_info("socket")
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def read(egress: Egress, port: int) -> bytes:
        async with stream(egress, port) as answer:
            opened.set()
            return await answer.read()

    async with raw_server(handle) as port, Egress(LOOPBACK) as egress:
        await read(egress, port)
        reset.set()
        async with asyncio.timeout(5):
            while connections == 1:
                # A call that meets the dying connection fails; the first to find it dead makes another.
                with contextlib.suppress(Unavailable):
                    await read(egress, port)
    gc.collect()

    assert not caplog.records


async def test_a_pause_in_the_body_may_be_longer_than_the_wait_for_its_first_byte(raw_server: RawServer) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CHUNKED)
        await asyncio.sleep(0.8)  # the pause itself is what is tested
        writer.write(b"0\r\n\r\n")

    async with raw_server(handle) as port, Egress(LOOPBACK) as egress:
        async with stream(egress, port, timeout=Timeouts(10, 5, 0.5, idle_seconds=5)) as answer:
            assert await answer.read() == b"abcde"


@pytest.mark.parametrize("is_compressed", [False, True])
async def test_a_slow_reader_is_not_taken_for_a_silent_server(script: RawServer, is_compressed: bool) -> None:
    """Compressed, the first packet is more than is buffered: reading is paused before the answer is handed out."""
    body = bytes(8 << 20)
    sent = gzip.compress(body) if is_compressed else body
    head = HEAD + (b"Content-Encoding: gzip\r\n" if is_compressed else b"")
    head += b"Content-Length: %d\r\n\r\n" % len(sent)

    async with script(head + sent, ending="hold") as port, Egress(LOOPBACK) as egress:
        async with stream(egress, port, timeout=Timeouts(20, 5, 5, idle_seconds=0.2), limit=len(body)) as answer:
            await asyncio.sleep(0.5)  # the reader's own pause is what is tested
            assert await answer.read() == body


async def test_what_came_before_a_connection_broke_is_handed_out_first(script: RawServer) -> None:
    async with script(CHUNKED, b"3\r\nxyz\r\n") as port, Egress(LOOPBACK) as egress:
        async with stream(egress, port) as answer:
            # Both have happened before anybody reads: the last chunk and the break.
            async with asyncio.timeout(5):
                while answer._wire is not None:
                    await asyncio.sleep(0)
            assert b"".join([await anext(answer)]) == b"abcdexyz"
            with pytest.raises(Unavailable):
                await anext(answer)
