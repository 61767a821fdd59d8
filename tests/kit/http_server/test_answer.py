"""What goes."""

from __future__ import annotations

import asyncio

import pytest

from kit.http_server.answer import Answer, Reply, Stream
from kit.http_server.request import Request
from tests.kit.http_server.serving import GET, serving, until


async def test_old_callers_are_answered_in_their_own_version() -> None:
    async def handler(request: Request) -> Reply:
        if request.target == "/whole":
            return Answer(200, {}, b"yes")
        stream = Stream({})
        await request.begin(stream, b"one")
        await stream.write(b"two")
        return stream

    async with serving(handler) as server:
        raw = await server.connect()
        raw.say(b"GET /whole HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        head, body = await raw.answer()
        assert head.startswith("HTTP/1.0 200 OK\r\n")
        assert "Connection: keep-alive\r\n" in head
        assert body == b"yes"
        raw.say(b"GET /stream HTTP/1.0\r\n\r\n")
        said = await raw.rest()
        assert said.startswith(b"HTTP/1.0 200 OK\r\n")
        assert b"chunked" not in said
        # No length and no chunks: its end is the connection's.
        assert said.endswith(b"\r\n\r\nonetwo")
        raw.writer.close()


async def test_head_gets_the_heads_alone() -> None:
    async def handler(request: Request) -> Reply:
        if request.target == "/whole":
            return Answer(200, {}, b"yes")
        stream = Stream({})
        await request.begin(stream, b"one")
        await stream.write(b"two")
        stream.end(b"three")
        return stream

    async with serving(handler) as server:
        raw = await server.connect()
        for path in (b"/whole", b"/stream"):
            raw.say(b"HEAD %s HTTP/1.1\r\nHost: h\r\n\r\n" % path)
        raw.say(b"HEAD /whole HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        heads = (await raw.rest()).split(b"\r\n\r\n")
        assert heads.pop() == b""
        assert [head.count(b"HTTP/1.1 200 OK") for head in heads] == [1, 1, 1]
        assert [b"Content-Length: 3" in head for head in heads] == [True, False, True]
        raw.writer.close()


async def test_a_stream_goes_out_in_chunks_and_empty_pieces_are_no_end() -> None:
    async def handler(request: Request) -> Reply:
        stream = Stream({"Content-Type": "text/plain"})
        await request.begin(stream)
        for piece in (b"a" * 16, b"", b"b"):
            await stream.write(piece)
        return stream

    async with serving(handler) as server:
        raw = await server.connect()
        raw.say(GET)
        said = await asyncio.wait_for(raw.reader.readuntil(b"0\r\n\r\n"), 10)
        head, _, body = said.partition(b"\r\n\r\n")
        assert b"\r\nTransfer-Encoding: chunked\r\n" in head
        assert body == b"10\r\n" + b"a" * 16 + b"\r\n1\r\nb\r\n0\r\n\r\n"
        raw.say(GET)
        assert (await asyncio.wait_for(raw.reader.readuntil(b"0\r\n\r\n"), 10)).endswith(body)
        raw.writer.close()


async def test_a_slow_reader_of_a_stream_holds_its_writer_back() -> None:
    written, count, piece = [0], 4000, b"x" * 10_000

    async def handler(request: Request) -> Reply:
        stream = Stream({})
        await request.begin(stream)
        for _ in range(count):
            await stream.write(piece)
            written[0] += 1
        return stream

    async with serving(handler) as server:
        raw = await server.connect(receive_bytes=1 << 10)
        raw.say(GET)
        [open_one] = server.connections.open
        # Until it waits for good: what the kernel holds is full, and so is what the reader holds.
        await until(lambda: open_one.is_writing_paused and raw.reader._paused)  # type: ignore[attr-defined]
        assert 0 < written[0] < count
        assert open_one.transport is not None
        assert open_one.transport.get_write_buffer_size() <= (64 << 10) + 2 * len(piece)
        said, size = b"", 0
        while not said.endswith(b"0\r\n\r\n"):
            said = await raw.reader.read(1 << 16)
            size += len(said)
        assert size > count * len(piece)
        raw.writer.close()


@pytest.mark.parametrize("value", ["a\r\nX-Own: b", "a\nX-Own: b", "a\rb", "a\x00b", "\x7f"])
async def test_a_header_cannot_bring_another(value: str) -> None:
    for kind in (lambda: Answer(200, {"X": value}, b""), lambda: Stream({"X": value}), lambda: Stream({value: "x"})):
        with pytest.raises(ValueError, match="no place there"):
            kind()


async def test_headers_may_say_what_does_not_print() -> None:
    async def handler(request: Request) -> Reply:
        return Answer(200, {"X": "a\tb", "Y": "ü\u00a0\u2028"}, b"")

    async with serving(handler) as server:
        raw = await server.connect()
        raw.say(GET)
        head, _ = await raw.answer()
        assert "X: a\tb\r\nY: ü\u00a0\u2028\r\n" in head
        raw.writer.close()
