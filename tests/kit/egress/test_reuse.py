"""What one exchange leaves behind on a connection, and what a connection may bring before its first."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from kit.egress import Egress, EgressPolicy, EgressResponse, Timeouts, client
from kit.egress.wire import Wire
from kit.errors import Unavailable

LOOPBACK = EgressPolicy(allow_private=True)
GENEROUS = Timeouts(total_seconds=20, connect_seconds=20, first_byte_seconds=20)
OK = b"HTTP/1.1 200 OK\r\n"
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"

RawServer = Callable[..., AbstractAsyncContextManager[int]]


async def get(egress: Egress, port: int, *, timeout: Timeouts = GENEROUS, method: str = "GET") -> EgressResponse:
    url = f"http://127.0.0.1:{port}/"
    return await egress.request(method, url, headers={}, timeout=timeout, max_response_bytes=1 << 20)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def in_use(egress: Egress) -> int:
    assert egress._pool is not None
    return egress._pool._in_use


async def test_a_body_that_was_held_back_holds_up_nobody_behind_it(raw_server: RawServer) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"Content-Length: 100000\r\n\r\n" + bytes(100_000))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"Content-Length: 2\r\n\r\nhi")

    async with raw_server(serve) as port, Egress(LOOPBACK) as egress:
        url = f"http://127.0.0.1:{port}/"
        async with egress.stream("GET", url, headers={}, timeout=GENEROUS, max_response_bytes=1 << 20) as answer:
            await until(lambda: answer._is_whole)
            assert len(await answer.read()) == 100_000
        assert (await get(egress, port, timeout=Timeouts(5, 5, 5))).body == b"hi"


async def test_a_server_that_speaks_first_takes_no_place_for_ever(raw_server: RawServer) -> None:
    refusal = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    connections = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(refusal)
        if connections % 2:
            await reader.read(1)

    async with raw_server(refuse) as port, Egress(LOOPBACK, max_connections=2) as egress:
        for _ in range(10):
            try:
                assert (await get(egress, port)).status == 503
            except Unavailable as failure:
                assert failure.reason == "EGRESS_CONNECTION_FAILED"  # noqa: PT017  either may come first
        await until(lambda: not in_use(egress))


async def test_a_call_that_is_cancelled_as_its_connection_ends_is_cancelled(
    raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = 0

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await reader.readuntil(b"\r\n\r\n")
        requests += 1
        writer.write(EMPTY)
        await reader.readuntil(b"\r\n\r\n")
        requests += 1

    async with raw_server(answer_once) as port, Egress(LOOPBACK) as egress:
        await get(egress, port)
        second = asyncio.create_task(get(egress, port))
        lost = Wire.connection_lost

        def lost_and_cancelled(wire: Wire, error: Exception | None) -> None:
            lost(wire, error)
            second.cancel()

        monkeypatch.setattr(Wire, "connection_lost", lost_and_cancelled)
        with pytest.raises(asyncio.CancelledError):
            await second
        monkeypatch.undo()
        assert requests == 2


async def test_a_kept_connection_that_was_waited_for_may_turn_out_to_be_closed(raw_server: RawServer) -> None:
    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(EMPTY)
        await reader.readuntil(b"\r\n\r\n")

    async with raw_server(answer_once) as port, Egress(LOOPBACK, max_connections=1) as egress:
        answers = await asyncio.wait_for(asyncio.gather(*(get(egress, port) for _ in range(6))), 10)

    assert [answer.status for answer in answers] == [204] * 6


async def test_how_long_a_kept_connection_was_waited_for_does_not_matter(
    raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_STALE_SECONDS", 0.3)
    requests = 0
    may_answer = asyncio.Event()

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await reader.readuntil(b"\r\n\r\n")
        requests += 1
        await may_answer.wait()
        writer.write(EMPTY)
        await reader.readuntil(b"\r\n\r\n")

    async with raw_server(answer_once) as port, Egress(LOOPBACK, max_connections=1) as egress:
        calls = [asyncio.create_task(get(egress, port)) for _ in range(2)]
        await until(lambda: requests == 1)
        now = asyncio.get_running_loop().time
        late = now() + client._STALE_SECONDS
        await until(lambda: now() > late)
        may_answer.set()
        answers = await asyncio.gather(*calls)

    assert [answer.status for answer in answers] == [204] * 2


async def test_a_request_whose_answer_has_begun_is_not_sent_again(raw_server: RawServer) -> None:
    requests = 0

    async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await reader.readuntil(b"\r\n\r\n")
        requests += 1
        writer.write(EMPTY)
        await reader.readuntil(b"\r\n\r\n")
        requests += 1
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 ")

    async with raw_server(begin) as port, Egress(LOOPBACK) as egress:
        await get(egress, port)
        with pytest.raises(Unavailable):
            await get(egress, port)

    assert requests == 2


@pytest.mark.parametrize(("first", "idle", "fails"), [(5.0, 0.1, True), (0.15, 5.0, False)])
async def test_silence_in_a_whole_answer_is_bounded_by_its_own_limit(
    raw_server: RawServer, first: float, idle: float, fails: bool
) -> None:
    async def pause(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"Content-Length: 2\r\n\r\na")
        await asyncio.sleep(0.4)
        writer.write(b"b")

    async with raw_server(pause) as port, Egress(LOOPBACK) as egress:
        if fails:
            with pytest.raises(Unavailable) as failure:
                await get(egress, port, timeout=Timeouts(10, 5, first, idle))
            assert failure.value.metadata["phase"] == "read"
        else:
            assert (await get(egress, port, timeout=Timeouts(10, 5, first, idle))).body == b"ab"


async def test_hosts_take_turns_at_the_last_places(raw_server: RawServer) -> None:
    busy = True

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.005)
            writer.write(EMPTY)

    async def crowd(egress: Egress, port: int) -> None:
        while busy:
            await get(egress, port)

    async with raw_server(slow) as one, raw_server(slow) as other, Egress(LOOPBACK, max_connections=2) as egress:
        crowded = [asyncio.create_task(crowd(egress, one)) for _ in range(6)]
        await until(lambda: in_use(egress) == 2)
        for _ in range(3):
            await get(egress, other, timeout=Timeouts(5, 2, 5))
        busy = False
        await asyncio.gather(*crowded)


async def test_who_gives_up_waiting_leaves_nothing(raw_server: RawServer) -> None:
    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw_server(stall) as port, Egress(LOOPBACK, max_connections=1) as egress:
        stalled = asyncio.create_task(get(egress, port))
        await until(lambda: in_use(egress) == 1)
        outcomes = await asyncio.gather(
            *(get(egress, port, timeout=Timeouts(5, 0.02, 5)) for _ in range(50)), return_exceptions=True
        )
        assert all(isinstance(each, Unavailable) for each in outcomes)
        assert egress._pool is not None
        assert not egress._pool._crowded
        assert [len(place.waiting) for place in egress._pool._places.values()] == [0]
        stalled.cancel()
        await asyncio.wait([stalled])


async def test_leaving_while_a_name_is_looked_up_is_no_cancellation() -> None:
    class Silent:
        async def addresses(self, host: str, port: int) -> Sequence[str]:
            never: asyncio.Future[Sequence[str]] = asyncio.get_running_loop().create_future()
            return await never

    async with Egress(EgressPolicy(), resolver=Silent()) as egress:
        asked = asyncio.create_task(
            egress.request("GET", "https://h.example/", headers={}, timeout=GENEROUS, max_response_bytes=1)
        )
        await asyncio.sleep(0.01)
    with pytest.raises(Unavailable):
        await asked


@asynccontextmanager
async def answering(raw_server: RawServer, said: bytes) -> AsyncIterator[tuple[Egress, int]]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        await writer.drain()

    async with raw_server(serve) as port, Egress(LOOPBACK) as egress:
        yield egress, port


async def test_nothing_piles_up_behind_a_packed_body(raw_server: RawServer) -> None:
    said = OK + b"Content-Encoding: deflate\r\n\r\n" + zlib.compress(b"hi")

    async with answering(raw_server, said + bytes(1000)) as (egress, port):
        assert (await get(egress, port)).body == b"hi"
    async with answering(raw_server, said + bytes(2 << 20)) as (egress, port):
        with pytest.raises(Unavailable) as failure:
            await get(egress, port)
    assert failure.value.reason == "EGRESS_RESPONSE_TOO_LARGE"


async def test_zeros_may_fill_up_a_packed_body(raw_server: RawServer) -> None:
    said = OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"hi") + bytes(8)

    async with answering(raw_server, said) as (egress, port):
        assert (await get(egress, port)).body == b"hi"


@pytest.mark.parametrize(("method", "head"), [("GET", EMPTY), ("HEAD", OK + b"Content-Length: 5\r\n\r\n")])
async def test_how_a_body_is_packed_matters_only_if_there_is_one(
    raw_server: RawServer, method: str, head: bytes
) -> None:
    async with answering(raw_server, head[:-2] + b"Content-Encoding: br\r\n\r\n") as (egress, port):
        assert (await get(egress, port, method=method)).body == b""


async def test_a_cut_body_is_no_whole_one_in_however_many_lines_its_coding_is_told(raw_server: RawServer) -> None:
    said = OK + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"

    async with answering(raw_server, said) as (egress, port):
        with pytest.raises(Unavailable):
            await get(egress, port)


@pytest.mark.parametrize("framing", [b"Transfer-Encoding : chunked\r\n\r\n5\r\n", b"Content-Length  : 5\r\n\r\n"])
async def test_a_cut_body_is_no_whole_one_though_there_is_a_space_before_the_colon(
    raw_server: RawServer, framing: bytes
) -> None:
    async with answering(raw_server, OK + framing + b"ab") as (egress, port):
        with pytest.raises(Unavailable) as failure:
            await get(egress, port)
    assert failure.value.metadata["cause"] == "DISCONNECTED"


async def test_small_chunks_are_put_together(raw_server: RawServer) -> None:
    pieces = b"".join(b"2\r\n%02d\r\n" % (number % 100) for number in range(50_000))
    said = OK + b"Transfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n"

    async with answering(raw_server, said) as (egress, port):
        body = (await get(egress, port)).body

    assert body == b"".join(b"%02d" % (number % 100) for number in range(50_000))
    assert type(body) is bytes


async def test_a_reader_whose_answer_is_closed_is_told(raw_server: RawServer) -> None:
    async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"Content-Length: 5\r\n\r\na")
        await reader.read()

    async with raw_server(begin) as port, Egress(LOOPBACK) as egress:
        url = f"http://127.0.0.1:{port}/"
        async with egress.stream("GET", url, headers={}, timeout=GENEROUS, max_response_bytes=9) as answer:
            assert await anext(answer) == b"a"
            reading = asyncio.create_task(anext(answer))
            await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await asyncio.wait_for(reading, 5)


async def test_what_is_there_of_a_packed_body_need_not_be_ready(raw_server: RawServer) -> None:
    packed = gzip.compress(b"hello")

    async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed[:10])
        await reader.read()

    async with raw_server(begin) as port, Egress(LOOPBACK) as egress:
        url = f"http://127.0.0.1:{port}/"
        async with egress.stream("GET", url, headers={}, timeout=GENEROUS, max_response_bytes=9) as answer:
            await until(lambda: bool(answer._chunks))
            assert not answer.is_ready
