"""What comes, byte by byte."""

from __future__ import annotations

import asyncio
import logging

import pytest

from kit.http_server import connection
from kit.http_server.answer import Answer, Reply
from kit.http_server.request import Request
from tests.kit.http_server.serving import GET, behind, chunked, echo, post, serving, until, yes


@pytest.mark.parametrize("said", [post(b"hello"), chunked(b"he", b"llo")])
async def test_a_request_may_be_split_at_every_byte(said: bytes) -> None:
    async with serving() as server:
        raw = await server.connect()
        [open_one] = server.connections.open
        for split in range(1, len(said)):
            # Not over the socket, which may join what was written apart.
            open_one.data_received(said[:split])
            open_one.data_received(said[split:])
            assert (await raw.answer())[1] == b"hello"
        raw.writer.close()


async def test_a_request_may_come_byte_by_byte() -> None:
    async with serving() as server:
        raw = await server.connect()
        [open_one] = server.connections.open
        for said in (post(b"hello"), chunked(b"he", b"llo")):
            for byte in said:
                open_one.data_received(bytes((byte,)))
                await asyncio.sleep(0)
            assert (await raw.answer())[1] == b"hello"
        raw.writer.close()


async def test_two_requests_in_one_segment_are_answered_one_after_the_other() -> None:
    begun: list[str] = []
    gate = asyncio.Event()

    async def handler(request: Request) -> Reply:
        begun.append(request.target)
        await gate.wait()
        return await echo(request)

    async with serving(handler) as server:
        raw = await server.connect()
        raw.say(post(b"one", b"/1") + post(b"two", b"/2"))
        await until(lambda: begun)
        assert begun == ["/1"]
        gate.set()
        assert [(await raw.answer())[1] for _ in range(2)] == [b"one", b"two"]
        raw.writer.close()


async def test_of_many_requests_that_wait_few_are_kept_and_none_is_lost() -> None:
    gate = asyncio.Event()
    async with serving(behind(gate, echo)) as server:
        raw = await server.connect()
        count = 500
        for number in range(count):
            raw.say(post(b"%d" % number))
        [open_one] = server.connections.open
        await until(lambda: open_one._is_full)
        assert len(open_one._reader.requests) < connection._MAX_WAITING
        gate.set()
        assert [(await raw.answer())[1] for _ in range(count)] == [b"%d" % number for number in range(count)]
        raw.writer.close()


async def test_requests_that_wait_are_answered_after_many_whose_bodies_came_late() -> None:
    async with serving() as server:
        raw = await server.connect()
        [open_one] = server.connections.open
        for _ in range(2 * connection._MAX_WAITING):
            open_one.data_received(post(b"hello")[:-5])
            # Begun, and waiting for its body.
            await until(lambda: open_one._is_busy)
            await asyncio.sleep(0)
            open_one.data_received(b"hello")
            assert (await raw.answer())[1] == b"hello"
        open_one.data_received(GET * 3)
        for _ in range(3):
            assert (await raw.answer())[1] == b""
        raw.writer.close()


async def test_garbage_behind_a_request_ends_the_connection_behind_its_answer(caplog: pytest.LogCaptureFixture) -> None:
    gate = asyncio.Event()
    async with serving(behind(gate, yes)) as server:
        raw = await server.connect()
        raw.say(GET)
        [open_one] = server.connections.open
        await until(lambda: open_one._is_busy)
        raw.say(b"garbage\r\n\r\n" + GET)
        await until(lambda: open_one._reader.is_deaf)
        gate.set()
        said = await raw.rest()
        assert said.count(b"HTTP/1.1 ") == 2
        assert said.index(b"yes") < said.index(b"HTTP/1.1 400 Bad Request")
        assert said.endswith(b"\r\nConnection: close\r\n\r\nno")
        raw.writer.close()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_whoever_sends_far_too_much_still_reads_why_it_is_refused() -> None:
    async with serving() as server:
        raw = await server.connect()
        raw.say(GET[:-2] + b"X: " + b"x" * (4 << 20))
        said = await raw.rest()
        assert said.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert said.endswith(b"no")
        raw.writer.close()


@pytest.mark.parametrize("whole", [post(b"hello"), chunked(b"he", b"llo")])
async def test_a_body_behind_an_offer_of_another_protocol_is_its_own(whole: bytes) -> None:
    """Java's client and curl offer HTTP/2 with their first request, which may be a POST."""
    begin, end = whole.split(b"\r\n", 1)
    offer = begin + b"\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n" + end
    async with serving() as server:
        for cut in range(1, len(offer), 3):
            raw = await server.connect()
            raw.say(offer[:cut])
            await asyncio.sleep(0)
            raw.say(offer[cut:] + GET + offer)
            answers = [await raw.answer() for _ in range(3)]
            assert [body for _, body in answers] == [b"hello", b"", b"hello"]
            assert ["POST /" in head for head, _ in answers] == [True, False, True]
            raw.writer.close()


@pytest.mark.parametrize("hosts", [b"", b"Host: h\r\nHost: h\r\n"])
async def test_a_request_names_one_host(hosts: bytes) -> None:
    async with serving() as server:
        raw = await server.connect()
        raw.say(b"GET / HTTP/1.1\r\n" + hosts + b"\r\n")
        assert (await raw.rest()).startswith(b"HTTP/1.1 400 ")
        raw.writer.close()


@pytest.mark.parametrize("coding", [b"gzip", b"\xe9", b"chunked, gzip"])
async def test_a_body_that_cannot_be_framed_behind_an_offer_is_refused(coding: bytes) -> None:
    gate = asyncio.Event()
    async with serving(behind(gate, echo)) as server:
        raw = await server.connect()
        raw.say(GET)
        [open_one] = server.connections.open
        await until(lambda: open_one._is_busy)
        offer = b"Connection: upgrade\r\nUpgrade: x\r\nTransfer-Encoding: " + coding
        raw.say(b"POST / HTTP/1.1\r\nHost: h\r\n" + offer + b"\r\n\r\nhello")
        await until(lambda: open_one._reader.is_deaf)
        gate.set()
        said = await raw.rest()
        assert said.startswith(b"HTTP/1.1 200 ")
        assert said.count(b"HTTP/1.1 400 ") == 1
        raw.writer.close()


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"gzip\r\nTransfer-Encoding: chunked", b"chunked, chunked"])
async def test_a_body_in_a_coding_that_nobody_undoes_is_refused(coding: bytes) -> None:
    async with serving() as server:
        raw = await server.connect()
        raw.say(chunked(b"hello").replace(b": chunked", b": Chunked"))
        assert (await raw.answer())[1] == b"hello"
        raw.say(chunked(b"hello").replace(b": chunked", b": " + coding))
        assert (await raw.rest()).startswith(b"HTTP/1.1 400 ")
        raw.writer.close()


async def test_a_chunked_body_of_an_old_caller_is_the_last_of_its_connection() -> None:
    async with serving() as server:
        raw = await server.connect()
        chunks = chunked(b"hello").partition(b"\r\n\r\n")[2]
        old = b"POST / HTTP/1.0\r\nConnection: keep-alive\r\n"
        raw.say(old + b"Content-Length: 5\r\n\r\nhello" + old + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + GET)
        head, body = await raw.answer()
        assert "\r\nConnection: keep-alive\r\n" in head
        assert body == b"hello"
        head, body = await raw.answer()
        assert "keep-alive" not in head
        assert body == b"hello"
        assert await raw.rest() == b""
        raw.writer.close()


@pytest.mark.parametrize(("version", "is_told"), [(b"1.1", True), (b"1.0", False)])
async def test_only_who_knows_of_going_on_is_told_to(version: bytes, is_told: bool) -> None:
    async with serving() as server:
        raw = await server.connect()
        raw.say(b"POST / HTTP/%s\r\nHost: h\r\nConnection: close\r\nContent-Length: 5\r\n" % version)
        raw.say(b"Expect: 100-continue\r\n\r\n")
        [open_one] = server.connections.open
        # Its handler waits for the body, and has said all that it says before.
        await until(lambda: open_one._reader.newest._waiter)
        raw.say(b"hello")
        said = await raw.rest()
        assert said.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 " if is_told else b"HTTP/1.0 200 ")
        assert said.endswith(b"hello")
        raw.writer.close()


async def test_trailers_are_no_headers_of_the_next_request() -> None:
    async def handler(request: Request) -> Reply:
        await request.body(100, 10)
        return Answer(200, {}, b",".join(name.encode() for name in request.headers))

    async with serving(handler) as server:
        raw = await server.connect()
        raw.say(chunked(b"hello")[:-2] + b"Authorization: evil\r\n\r\n" + GET)
        assert [(await raw.answer())[1] for _ in range(2)] == [b"Host,Transfer-Encoding", b"Host"]
        raw.writer.close()


async def test_what_was_whole_before_garbage_came_is_answered() -> None:
    async with serving() as server:
        raw = await server.connect()
        raw.say(post(b"one") + post(b"two") + b"garbage\r\n\r\n")
        assert [(await raw.answer())[1] for _ in range(2)] == [b"one", b"two"]
        assert (await raw.rest()).startswith(b"HTTP/1.1 400 ")
        raw.writer.close()


async def test_of_many_requests_in_one_segment_few_are_parsed_at_a_time() -> None:
    gate = asyncio.Event()
    async with serving(behind(gate, echo)) as server:
        raw = await server.connect()
        [open_one] = server.connections.open
        open_one.data_received(GET * 5000 + post(b"last"))
        assert len(open_one._reader.requests) < connection._MAX_WAITING
        gate.set()
        for _ in range(5000):
            await raw.answer()
        assert (await raw.answer())[1] == b"last"
        raw.say(GET)
        await raw.answer()
        raw.writer.close()


@pytest.mark.parametrize("said", [GET[:-2] + b"X: ", chunked(b"hello")[:-2] + b"X: ", chunked()[:-5] + b"1;"])
async def test_what_never_ends_is_given_up_however_slowly_it_comes(said: bytes) -> None:
    async with serving() as server:
        raw = await server.connect()
        [open_one] = server.connections.open
        open_one.data_received(said)
        sent = 0
        while not open_one._reader.is_deaf:
            open_one.data_received(b"x" * 10)
            sent += 10
            assert sent < 20_000
        assert sent > 8000
        raw.writer.close()


async def test_a_header_that_is_no_utf_8_is_no_error() -> None:
    async def handler(request: Request) -> Reply:
        return Answer(200, {}, request.headers["User-Agent"].encode())

    async with serving(handler) as server:
        raw = await server.connect()
        raw.say(GET[:-2] + b"User-Agent: B\xe4r\r\n\r\n")
        assert (await raw.answer())[1] == "B\ufffdr".encode()
        raw.writer.close()


async def test_an_offer_of_another_protocol_is_answered_as_http() -> None:
    offer = b"GET /%d HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    async with serving() as server:
        raw = await server.connect()
        raw.say(offer % 1 + offer % 2 + GET)
        heads = [(await raw.answer())[0] for _ in range(3)]
        assert all(head.startswith("HTTP/1.1 200 OK\r\n") for head in heads)
        assert ["/1" in heads[0], "/2" in heads[1]] == [True, True]
        raw.writer.close()
