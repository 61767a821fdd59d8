"""What comes over a connection, in whatever pieces and however odd."""

from __future__ import annotations

import asyncio
import gzip
import random
import zlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.egress import Egress, EgressPolicy, EgressResponse, Timeouts
from kit.egress.answer import EgressStream
from kit.egress.inflation import Inflater
from kit.egress.wire import Wire
from kit.errors import Unavailable

LOOPBACK = EgressPolicy(allow_private=True)
GENEROUS = Timeouts(total_seconds=20, connect_seconds=20, first_byte_seconds=20)
OK = b"HTTP/1.1 200 OK\r\n"
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"

RawServer = Callable[..., AbstractAsyncContextManager[int]]

ANSWERS = {
    "length": OK + b"Content-Length: 5\r\nX-Empty:\r\nX-Two: a\r\nX-Two: b\r\n\r\nabcde",
    "chunks": OK
    + b"Transfer-Encoding: chunked\r\n\r\n2;note=x\r\nab\r\n1\r\nc\r\n2\r\nde\r\n0\r\nX-Trailer: y\r\n\r\n",
    "interim": b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n"
    + OK
    + b"Content-Length: 5\r\n\r\nabcde",
    "end of connection": OK + b"\r\nabcde",
    "old": b"HTTP/1.0 200 OK\r\n\r\nabcde",
    "spaces": OK + b"Content-Length  : 5\r\n\r\nabcde",
    "bare line ends": b"HTTP/1.1 200\nContent-Length: 5\n\nabcde",
    "gzip": OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"abc") + gzip.compress(b"de"),
    "many members": OK + b"Content-Encoding: x-gzip\r\n\r\n" + gzip.compress(b"") * 2000 + gzip.compress(b"abcde"),
    "zlib": OK + b"Content-Encoding: deflate\r\n\r\n" + zlib.compress(b"abcde"),
    "deflate": OK + b"Content-Encoding: deflate\r\n\r\n" + zlib.compress(b"abcde", wbits=-15),
    "no encoding": OK + b"Content-Encoding: utf-8\r\n\r\nabcde",
}


class Transport(asyncio.Transport):
    """Takes what is written, to nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def read_in(parts: list[bytes], *, is_wanted_whole: bool) -> tuple[int, dict[str, str], bytes]:
    """An answer that comes in these parts, and then the connection ends."""
    wire = Wire(lambda _: None, lambda _: None)
    wire.connection_made(Transport())
    answer = EgressStream(wire, asyncio.get_running_loop(), "http://h:80", max_bytes=100_000)
    wire.send(b"GET / HTTP/1.1\r\n\r\n", answer)
    for part in parts:
        wire.data_received(part)
    wire.connection_lost(None)
    await answer.begun(is_wanted_whole=is_wanted_whole)
    return answer.status, dict(answer.headers), await answer.read()


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("is_wanted_whole", [True, False])
def test_an_answer_is_the_same_however_it_is_cut(name: str, is_wanted_whole: bool) -> None:
    raw = ANSWERS[name]

    async def read(parts: list[bytes]) -> tuple[int, dict[str, str], bytes]:
        return await read_in(parts, is_wanted_whole=is_wanted_whole)

    @given(st.lists(st.integers(1, len(raw) - 1), unique=True).map(sorted))
    def check(cuts: list[int]) -> None:
        parts = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
        assert runner.run(read(parts)) == whole

    with asyncio.Runner() as runner:
        whole = runner.run(read([raw]))
        assert (whole[0], whole[2]) == (200, b"abcde")
        check()


async def test_an_empty_header_is_one() -> None:
    _, headers, _ = await read_in([ANSWERS["length"]], is_wanted_whole=True)

    assert headers["X-Empty"] == ""


async def test_spaces_before_a_colon_belong_to_no_name() -> None:
    _, headers, _ = await read_in([ANSWERS["spaces"]], is_wanted_whole=True)

    assert headers == {"Content-Length": "5"}


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=8))
def test_whatever_bytes_come_there_is_an_answer_or_a_failure(parts: list[bytes]) -> None:
    async def read() -> None:
        for beginning in (b"", OK, OK + b"Transfer-Encoding: chunked\r\n\r\n"):
            try:
                await read_in([beginning, *parts] if beginning else parts, is_wanted_whole=False)
            except Unavailable as failure:
                assert failure.reason.startswith("EGRESS_")  # noqa: PT017  either may happen

    asyncio.run(asyncio.wait_for(read(), 5))


@pytest.mark.parametrize(
    "endless",
    [b"X: y\r\n", b"X", b"HTTP/1.1 103 Early Hints\r\n\r\n"],
    ids=["headers", "a header", "interim answers"],
)
async def test_a_head_without_an_end_is_given_up(raw_server: RawServer, endless: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"" if endless.startswith(b"HTTP") else OK)
        while True:
            writer.write(endless * 100)
            await writer.drain()

    async with raw_server(serve) as port, Egress(LOOPBACK) as egress:
        with pytest.raises(Unavailable) as failure:
            await get(egress, port)

    assert failure.value.reason == "EGRESS_MALFORMED_RESPONSE"


@pytest.mark.parametrize("framing", [b"5;" + b"x" * 100, b"0\r\n" + b"X: y\r\n"], ids=["extension", "trailers"])
async def test_a_body_that_is_nothing_but_framing_is_given_up(raw_server: RawServer, framing: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"Transfer-Encoding: chunked\r\n\r\n" + framing)
        while True:
            writer.write(b"y" * 1000)
            await writer.drain()

    async with raw_server(serve) as port, Egress(LOOPBACK) as egress:
        with pytest.raises(Unavailable) as failure:
            await get(egress, port)

    assert failure.value.reason == "EGRESS_MALFORMED_RESPONSE"


async def test_an_answer_to_head_has_no_body_whatever_it_says(raw_server: RawServer) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"Content-Length: 5\r\n\r\n")
        await reader.read()

    async with raw_server(serve) as port, Egress(LOOPBACK) as egress:
        answer = await get(egress, port, method="HEAD")

    assert (answer.status, answer.headers["Content-Length"], answer.body) == (200, "5", b"")


@pytest.mark.parametrize(
    "surplus",
    [OK + b"Content-Length: 4\r\n\r\nevil", b"surplus", b"\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"],
)
@pytest.mark.parametrize("is_late", [False, True])
async def test_what_nobody_asked_for_answers_nobody(raw_server: RawServer, surplus: bytes, is_late: bool) -> None:
    """A server that answers twice would answer the next request with what belongs to this one."""
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if is_late:
            writer.write(EMPTY)
            await asyncio.sleep(0)
            writer.write(surplus)
        else:
            writer.write(EMPTY + surplus)
        # It is hung up on, instead of being asked again.
        assert await reader.read() == b""
        ended.set()

    async with raw_server(serve) as port, Egress(LOOPBACK) as egress:
        assert (await get(egress, port)).status == 204
        await asyncio.wait_for(ended.wait(), 5)
        assert (await get(egress, port)).status == 204


@pytest.mark.parametrize("has_ended", [True, False])
async def test_what_is_held_back_has_no_end_unless_the_server_said_so(has_ended: bool) -> None:
    body = bytes(100_000)
    wire = Wire(lambda _: None, lambda _: None)
    wire.connection_made(Transport())
    answer = EgressStream(wire, asyncio.get_running_loop(), "http://h:80", max_bytes=len(body))
    wire.send(b"GET / HTTP/1.1\r\n\r\n", answer)
    wire.data_received(ANSWERS["old"][:-5] + body)
    assert answer.is_paused
    if has_ended:
        wire.eof_received()
    wire.connection_lost(None)

    await answer.begun(is_wanted_whole=False)
    if has_ended:
        assert await answer.read() == body
    else:
        with pytest.raises(Unavailable):
            await answer.read()


@pytest.mark.parametrize("is_at_once", [True, False])
async def test_a_server_that_says_much_before_it_is_asked_is_hung_up_on(is_at_once: bool) -> None:
    """With the end of TLS's handshake it may come before the connection is told that it is open."""
    wire, transport = Wire(lambda _: None, lambda _: None), Transport()

    if is_at_once:
        wire.data_received(bytes(100_000))
    wire.secured(transport, Transport())
    if not is_at_once:
        wire.data_received(bytes(100_000))

    assert (wire.is_open, transport.is_closed) == (False, True)


@pytest.mark.parametrize("cut", [1, 30, 200])
async def test_a_connection_whose_server_spoke_first_serves_one_request(cut: int) -> None:
    """Each answer behind the early one would be told to the request before the one that it belongs to."""
    freed: list[Wire] = []
    lost: list[Wire] = []
    early = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\n\r\nearly"
    wire, transport = Wire(freed.append, lost.append), Transport()
    wire.connection_made(transport)
    wire.data_received(early[:cut])
    answer = EgressStream(wire, asyncio.get_running_loop(), "http://h:80", max_bytes=100)

    wire.send(b"GET / HTTP/1.1\r\n\r\n", answer)
    wire.data_received(early[cut:])
    await answer.begun(is_wanted_whole=True)

    assert (answer.status, await answer.read()) == (503, b"early")
    assert (freed, lost, transport.is_closed) == ([], [wire], True)


@given(st.integers(0, 200_000), st.booleans(), st.integers(1, 1 << 17))
def test_a_body_of_any_size_is_unpacked_whole(size: int, is_random: bool, cut: int) -> None:
    body = random.Random(size).randbytes(size) if is_random else bytes(size)
    packed = gzip.compress(body)
    inflater, unpacked = Inflater(is_gzip=True), b""

    for start in range(0, len(packed), cut):
        inflater.feed(packed[start : start + cut])
        while piece := inflater.next():
            unpacked += piece
    inflater.end()

    assert unpacked == body


async def test_a_packed_body_that_is_cut_off_is_malformed(script: RawServer) -> None:
    packed = gzip.compress(b"abcde" * 10)[:-9]
    head = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)

    async with script(head + packed) as port, Egress(LOOPBACK) as egress:
        with pytest.raises(Unavailable) as failure:
            await get(egress, port)

    assert failure.value.reason == "EGRESS_MALFORMED_RESPONSE"


async def test_a_broken_packed_body_leaves_the_next_call_on_its_connection_alone(raw_server: RawServer) -> None:
    """Whether a body can be unpacked is found out when its connection may already serve somebody else."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc")
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"Content-Length: 5\r\n\r\nab")
        may_end.set()
        await broken.wait()
        writer.write(b"cde")

    may_end, broken = asyncio.Event(), asyncio.Event()
    async with raw_server(serve) as port, Egress(LOOPBACK) as egress:
        url = f"http://127.0.0.1:{port}/"
        async with egress.stream("GET", url, headers={}, timeout=GENEROUS, max_response_bytes=100) as first:
            second = asyncio.create_task(get(egress, port))
            await asyncio.wait_for(may_end.wait(), 5)
            with pytest.raises(Unavailable, match="not HTTP"):
                await first.read()
        broken.set()
        assert (await asyncio.wait_for(second, 5)).body == b"abcde"


async def get(egress: Egress, port: int, *, method: str = "GET") -> EgressResponse:
    return await egress.request(
        method, f"http://127.0.0.1:{port}/", headers={}, timeout=GENEROUS, max_response_bytes=100
    )
