"""Which connections are open: kept, bounded, fair, and closed in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from kit.egress import Egress, EgressPolicy, EgressResponse, Timeouts
from kit.errors import Unavailable

LOOPBACK = EgressPolicy(allow_private=True)
GENEROUS = Timeouts(total_seconds=20, connect_seconds=20, first_byte_seconds=20)
BIG = bytes(16 << 20)
"""More than the kernel takes from a writer whom nobody reads."""

if TYPE_CHECKING:
    from tests.kit.egress.conftest import Refusing

RawServer = Callable[..., AbstractAsyncContextManager[int]]


@dataclass
class Server:
    """Answers each request with what was asked for, once it may."""

    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[str] = field(default_factory=list)
    connections: int = 0
    ended: int = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.asked.append(head.split(b" ")[1].decode())
                await self.may_answer.wait()
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        finally:
            self.ended += 1


async def get(egress: Egress, port: int, path: str = "/", timeout: Timeouts = GENEROUS) -> EgressResponse:
    url = f"http://127.0.0.1:{port}{path}"
    return await egress.request("GET", url, headers={}, timeout=timeout, max_response_bytes=100)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_who_waits_for_a_connection_gets_it_in_turn(raw_server: RawServer) -> None:
    server = Server()

    async with raw_server(server) as port, Egress(LOOPBACK, max_connections_per_host=1) as egress:
        calls = []
        for number in range(5):
            calls.append(asyncio.create_task(get(egress, port, f"/{number}")))
            await asyncio.sleep(0)
        await until(lambda: bool(server.asked))
        # Who gives up while waiting is passed over.
        calls[2].cancel()
        server.may_answer.set()
        await asyncio.wait(calls, timeout=5)

    assert server.asked == ["/0", "/1", "/3", "/4"]
    assert server.connections == 1


async def test_a_crowd_before_one_host_holds_up_no_other(raw_server: RawServer) -> None:
    slow, quick = Server(), Server()
    quick.may_answer.set()

    async with raw_server(slow) as first, raw_server(quick) as second:
        async with Egress(LOOPBACK, max_connections=2, max_connections_per_host=1) as egress:
            crowd = [asyncio.create_task(get(egress, first)) for _ in range(5)]
            await until(lambda: bool(slow.asked))
            for _ in range(3):
                assert (await asyncio.wait_for(get(egress, second), 5)).status == 204
            slow.may_answer.set()
            await asyncio.wait_for(asyncio.gather(*crowd), 5)

    assert (slow.connections, quick.connections) == (1, 1)


async def test_who_waits_for_the_total_is_let_in_by_any_host(raw_server: RawServer) -> None:
    one, other = Server(), Server()
    other.may_answer.set()

    async with raw_server(one) as first, raw_server(other) as second:
        async with Egress(LOOPBACK, max_connections=1) as egress:
            busy = asyncio.create_task(get(egress, first))
            await until(lambda: bool(one.asked))
            waiting = [asyncio.create_task(get(egress, second)) for _ in range(3)]
            await asyncio.sleep(0)
            assert not other.asked
            one.may_answer.set()
            await asyncio.wait_for(asyncio.gather(busy, *waiting), 5)

    assert (len(other.asked), other.connections) == (3, 1)


async def test_a_connection_that_is_let_in_and_cancelled_at_once_is_not_lost(raw_server: RawServer) -> None:
    server = Server()

    async with raw_server(server) as port, Egress(LOOPBACK, max_connections=1) as egress:
        for _ in range(20):
            server.may_answer.clear()
            busy = asyncio.create_task(get(egress, port, "/busy"))
            await until(lambda: server.asked[-1:] == ["/busy"])
            waiting = asyncio.create_task(get(egress, port, "/waiting"))
            await asyncio.sleep(0)
            server.may_answer.set()
            await busy
            # It was let in when the answer came, and has not run since.
            waiting.cancel()
            await asyncio.wait([waiting])
            assert (await asyncio.wait_for(get(egress, port), 5)).status == 204


async def test_a_call_that_is_cancelled_just_before_its_turn_is_cancelled(raw_server: RawServer) -> None:
    """Whoever leaves passes it over before it has run; then it is in no queue any more."""

    async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
        await reader.read()

    server = Server()
    server.may_answer.set()
    async with raw_server(begin) as stalling, raw_server(server) as port, Egress(LOOPBACK, max_connections=1) as egress:
        url = f"http://127.0.0.1:{stalling}/"
        for others in (0, 2):
            async with egress.stream("GET", url, headers={}, timeout=GENEROUS, max_response_bytes=2) as answer:
                calls = [asyncio.create_task(get(egress, port)) for _ in range(1 + others)]
                await asyncio.sleep(0)
                calls[0].cancel()
                answer.close()
            cancelled, *answered = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 5)
            assert isinstance(cancelled, asyncio.CancelledError)
            assert [type(each) for each in answered] == [EgressResponse] * others
        assert egress._pool is not None
        assert (egress._pool._in_use, egress._pool._crowded) == (0, {})


async def test_an_unused_connection_is_closed_after_a_while_and_a_used_one_kept(raw_server: RawServer) -> None:
    server = Server()
    server.may_answer.set()

    async with raw_server(server) as port, Egress(LOOPBACK, keepalive_seconds=0.2) as egress:
        await asyncio.gather(get(egress, port), get(egress, port))
        deadline = asyncio.get_running_loop().time() + 5
        while server.ended == 0 and asyncio.get_running_loop().time() < deadline:
            await get(egress, port)
            await asyncio.sleep(0.01)
        assert (server.connections, server.ended) == (2, 1)
        await until(lambda: server.ended == 2)
        await get(egress, port)

    assert server.connections == 3


async def test_a_kept_connection_that_the_server_ends_is_forgotten(raw_server: RawServer) -> None:
    connections = 0

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with raw_server(once) as port, Egress(LOOPBACK, max_connections=1) as egress:
        for _ in range(5):
            await egress.request(
                "POST", f"http://127.0.0.1:{port}/", headers={}, timeout=GENEROUS, max_response_bytes=100
            )
            await until(lambda: egress._pool is not None and not egress._pool._kept)

    assert connections == 5


async def test_a_server_that_refuses_what_it_has_not_read_gets_no_other_request_behind_it(
    raw_server: RawServer, refusing: Refusing
) -> None:
    async with raw_server(refusing) as port, Egress(LOOPBACK) as egress:
        for _ in range(2):
            answer = await egress.request(
                "POST", f"http://127.0.0.1:{port}/", headers={}, body=BIG, timeout=GENEROUS, max_response_bytes=100
            )
            assert answer.status == 413
        refusing.may_read.set()

    assert refusing.connections == 2


async def test_leaving_the_context_ends_calls_and_connections_at_once(raw_server: RawServer) -> None:
    server = Server()

    async with raw_server(server) as port:
        async with Egress(LOOPBACK, max_connections=2) as egress:
            calls = [asyncio.create_task(get(egress, port)) for _ in range(3)]
            await until(lambda: len(server.asked) == 2)
        outcomes = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 5)
        server.may_answer.set()
        await until(lambda: server.ended == 2)

    for outcome in outcomes:
        assert isinstance(outcome, Unavailable)
        assert outcome.reason == "EGRESS_CONNECTION_FAILED"
    assert server.connections == 2


async def test_a_call_that_is_cancelled_as_the_pool_closes_gives_back_nothing(
    raw_server: RawServer,
) -> None:
    server = Server()

    async with raw_server(server) as port:
        egress = Egress(LOOPBACK, max_connections=1)
        await egress.__aenter__()
        pool = egress._pool
        assert pool is not None
        busy, waiting = (asyncio.create_task(get(egress, port)) for _ in range(2))
        await until(lambda: bool(server.asked))
        closing = asyncio.create_task(egress.__aexit__(None, None, None))
        await asyncio.sleep(0)
        # It was told that nobody is let in any more, and has not run since.
        waiting.cancel()
        outcomes = await asyncio.gather(busy, waiting, closing, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [Unavailable, asyncio.CancelledError, type(None)]
    assert pool._in_use == 0


@pytest.mark.parametrize("limit", [1, 3])
async def test_many_calls_leave_no_connection_at_work(raw_server: RawServer, limit: int) -> None:
    """Answered, cancelled and timed out by turns."""
    server = Server()
    server.may_answer.set()

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw_server(server) as port, raw_server(stall) as stalling:
        async with Egress(LOOPBACK, max_connections=limit) as egress:
            calls: list[asyncio.Task[EgressResponse]] = []
            for number in range(60):
                if number % 3:
                    calls.append(asyncio.create_task(get(egress, port)))
                else:
                    calls.append(asyncio.create_task(get(egress, stalling, timeout=Timeouts(0.02, 20, 20))))
                if number % 5 == 0:
                    calls[number // 2].cancel()
                if number % 7 == 0:
                    await asyncio.sleep(0)
            outcomes = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 10)
            assert {type(outcome) for outcome in outcomes} == {EgressResponse, Unavailable, asyncio.CancelledError}
            assert egress._pool is not None
            assert (egress._pool._in_use, egress._pool._work) == (0, {})
