"""Requests against good servers: what is sent, what comes back, what is kept between calls."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from aiohttp import web

from kit.egress import Egress, EgressPolicy, EgressResponse, Timeouts, client
from kit.errors import Invalid, Unavailable

LOOPBACK = EgressPolicy(allow_private=True)
GENEROUS = Timeouts(total_seconds=20, connect_seconds=20, first_byte_seconds=20)

HttpServer = Callable[..., AbstractAsyncContextManager[str]]
RawServer = Callable[..., AbstractAsyncContextManager[int]]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
BIG = b"x" * ((1 << 20) + 1)
"""A body that is sent piece by piece."""


async def post(
    egress: Egress, url: str, *, headers: Mapping[str, str] | None = None, timeout: Timeouts = GENEROUS
) -> EgressResponse:
    return await egress.request(
        "POST", url, headers=headers or {}, body=b"{}", timeout=timeout, max_response_bytes=1 << 20
    )


async def test_a_request_carries_method_path_headers_and_body_and_brings_back_the_answer(
    http_server: HttpServer,
) -> None:
    async def echo(request: web.BaseRequest) -> web.Response:
        shown = {"X-Method": request.method, "X-Path": request.path_qs, "X-Type": request.headers["Content-Type"]}
        return web.Response(status=503, body=await request.read(), headers=shown)

    async with http_server(echo) as url, Egress(LOOPBACK) as egress:
        answer = await egress.request(
            "PATCH",
            f"{url}/v1/chat%2Fx?api-version=1",
            headers={"Content-Type": "application/json"},
            body=b'{"a": 1}',
            timeout=GENEROUS,
            max_response_bytes=8,
        )

    assert (answer.status, answer.body) == (503, b'{"a": 1}')
    assert answer.headers["x-method"] == "PATCH"
    assert answer.headers["X-PATH"] == "/v1/chat%2Fx?api-version=1"
    assert answer.headers["X-Type"] == "application/json"


async def test_a_body_of_several_mebibytes_goes_both_ways(raw_server: RawServer) -> None:
    body = bytes(range(256)) * (3 << 12)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        received = await reader.readexactly(len(body))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(received) + received)
        await writer.drain()

    async with raw_server(echo) as port, Egress(LOOPBACK) as egress:
        url = f"http://127.0.0.1:{port}/"
        answer = await egress.request("PUT", url, headers={}, body=body, timeout=GENEROUS, max_response_bytes=len(body))

    assert answer.body == body


async def test_redirects_are_not_followed_and_cookies_are_not_kept(http_server: HttpServer) -> None:
    seen: list[tuple[str, str | None]] = []

    async def redirect(request: web.BaseRequest) -> web.Response:
        seen.append((request.path, request.headers.get("Cookie")))
        return web.Response(status=307, headers={"Location": "/elsewhere", "Set-Cookie": "a=b"})

    async with http_server(redirect) as url, Egress(LOOPBACK) as egress:
        first = await post(egress, f"{url}/here")
        await post(egress, f"{url}/here")

    assert (first.status, first.headers["Location"]) == (307, "/elsewhere")
    assert seen == [("/here", None), ("/here", None)]


async def test_a_proxy_and_credentials_in_the_environment_are_ignored(
    http_server: HttpServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[str | None] = []

    async def proxy(request: web.BaseRequest) -> web.Response:
        return web.Response(status=502)

    async def answer(request: web.BaseRequest) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.Response()

    (tmp_path / "netrc").write_text("machine 127.0.0.1 login user password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with http_server(proxy) as proxy_url, http_server(answer) as url:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy_url)
        async with Egress(LOOPBACK) as egress:
            assert (await post(egress, url)).status == 200

    assert seen == [None]


async def test_a_compressed_answer_is_not_asked_for_but_understood(http_server: HttpServer) -> None:
    asked: list[str | None] = []

    async def compressed(request: web.BaseRequest) -> web.Response:
        asked.append(request.headers.get("Accept-Encoding"))
        return web.Response(body=gzip.compress(b"hello"), headers={"Content-Encoding": "gzip"})

    async with http_server(compressed) as url, Egress(LOOPBACK) as egress:
        assert (await post(egress, url)).body == b"hello"

    assert asked == ["identity"]


async def test_connections_are_kept_and_bounded_per_host(http_server: HttpServer) -> None:
    peers: set[object] = set()
    inside, most = 0, 0
    both = asyncio.Event()

    async def count(request: web.BaseRequest) -> web.Response:
        nonlocal inside, most
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        inside += 1
        most = max(most, inside)
        if inside == 2:
            both.set()
        async with asyncio.timeout(20):
            await both.wait()
        for _ in range(10):
            await asyncio.sleep(0)
        inside -= 1
        return web.Response()

    async with http_server(count) as url, Egress(LOOPBACK, max_connections_per_host=2) as egress:
        answers = await asyncio.gather(*(post(egress, url) for _ in range(20)))

    assert [answer.status for answer in answers] == [200] * 20
    assert most == len(peers) == 2


async def test_connections_are_bounded_in_total(raw_server: RawServer) -> None:
    arrived = asyncio.Event()

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await reader.read()

    async with raw_server(stall) as first, raw_server(stall) as second, Egress(LOOPBACK, max_connections=1) as egress:
        stalled = asyncio.create_task(post(egress, f"http://127.0.0.1:{first}/"))
        await asyncio.wait_for(arrived.wait(), 5)
        with pytest.raises(Unavailable) as failure:
            await post(egress, f"http://127.0.0.1:{second}/", timeout=Timeouts(5, 0.05, 5))
        stalled.cancel()
        await asyncio.wait([stalled])

    assert (failure.value.reason, failure.value.metadata["phase"]) == ("EGRESS_TIMEOUT", "connect")


async def test_a_cancelled_call_frees_its_connection_for_the_next(raw_server: RawServer) -> None:
    arrived = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"/stall" in await reader.readuntil(b"\r\n\r\n"):
            arrived.set()
            await reader.read()
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with raw_server(handle) as port, Egress(LOOPBACK, max_connections_per_host=1) as egress:
        stalled = asyncio.create_task(post(egress, f"http://127.0.0.1:{port}/stall"))
        await asyncio.wait_for(arrived.wait(), 5)
        waiting = asyncio.create_task(post(egress, f"http://127.0.0.1:{port}/"))
        stalled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stalled
        answer = await asyncio.wait_for(waiting, 5)

    assert answer.status == 204


async def test_a_post_on_a_connection_that_dies_is_not_sent_twice(raw_server: RawServer) -> None:
    requests: list[bytes] = []

    async def drop_second(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append((await reader.readuntil(b"\r\n\r\n"))[:4])
        await reader.readexactly(2)
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        requests.append((await reader.readuntil(b"\r\n\r\n"))[:4])

    async with raw_server(drop_second) as port, Egress(LOOPBACK) as egress:
        await post(egress, f"http://127.0.0.1:{port}/")
        with pytest.raises(Unavailable) as failure:
            await post(egress, f"http://127.0.0.1:{port}/")

    assert failure.value.reason == "EGRESS_CONNECTION_FAILED"
    assert requests == [b"POST", b"POST"]


def _ends_after(answers: int, requests: list[bytes]) -> Handler:
    """A server that answers so many requests on a connection, and ends it at the next."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number in range(answers + 1):
            await reader.readuntil(b"\r\n\r\n")
            requests.append(await reader.readexactly(len(BIG)))
            if number < answers:
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    return handle


async def _post_repeatable(egress: Egress, port: int) -> EgressResponse:
    return await egress.request(
        "POST",
        f"http://127.0.0.1:{port}/",
        headers={},
        body=BIG,
        timeout=GENEROUS,
        max_response_bytes=1 << 20,
        is_repeatable=True,
    )


async def test_a_post_that_may_be_repeated_is_sent_once_more_when_a_kept_connection_ends(raw_server: RawServer) -> None:
    requests: list[bytes] = []

    async with raw_server(_ends_after(1, requests)) as port, Egress(LOOPBACK) as egress:
        answers = [await _post_repeatable(egress, port) for _ in range(3)]

    assert [answer.status for answer in answers] == [204] * 3
    assert requests == [BIG] * 5, "the second and the third came twice, and whole"


async def test_a_post_that_may_be_repeated_is_not_when_its_own_connection_ends(raw_server: RawServer) -> None:
    requests: list[bytes] = []

    async with raw_server(_ends_after(0, requests)) as port, Egress(LOOPBACK) as egress:
        with pytest.raises(Unavailable) as failure:
            await _post_repeatable(egress, port)

    assert (failure.value.reason, len(requests)) == ("EGRESS_CONNECTION_FAILED", 1)


async def test_a_post_that_the_server_worked_on_is_not_sent_again(
    raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Any time is too long; uvloop's clock counts milliseconds, and an end may take less.
    monkeypatch.setattr(client, "_STALE_SECONDS", -1.0)
    requests: list[bytes] = []

    async with raw_server(_ends_after(1, requests)) as port, Egress(LOOPBACK) as egress:
        await _post_repeatable(egress, port)
        with pytest.raises(Unavailable):
            await _post_repeatable(egress, port)

    assert len(requests) == 2


@pytest.mark.parametrize(
    "name", ["Content-Length", "transfer-encoding", "Connection", "Expect", "TE", "Trailer", "Upgrade", "Keep-Alive"]
)
async def test_headers_that_frame_the_message_are_not_the_callers_to_set(name: str) -> None:
    async with Egress(LOOPBACK) as egress:
        with pytest.raises(Invalid) as failure:
            await post(egress, "http://127.0.0.1:1/", headers={name: "10"})

    assert failure.value.reason == "EGRESS_REQUEST_INVALID"
    assert failure.value.violations[0].field == "headers"


@pytest.mark.parametrize("header", [("X-A", "b\r\nHost: evil"), ("X-A\r\nHost", "b"), ("X-A", "b\0")])
async def test_a_header_cannot_smuggle_another_one(http_server: HttpServer, header: tuple[str, str]) -> None:
    reached = False

    async def answer(request: web.BaseRequest) -> web.Response:
        nonlocal reached
        reached = True
        return web.Response()

    async with http_server(answer) as url, Egress(LOOPBACK) as egress:
        with pytest.raises(Invalid) as failure:
            await post(egress, url, headers=dict([header]))

    assert failure.value.reason == "EGRESS_REQUEST_INVALID"
    assert not reached


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_no_timeout_is_endless(seconds: float) -> None:
    for place in range(4):
        values = [1.0, 1.0, 1.0, 1.0]
        values[place] = seconds
        with pytest.raises(ValueError, match="time-out"):
            Timeouts(*values)


async def test_outside_its_context_egress_calls_nobody() -> None:
    egress = Egress(LOOPBACK)
    with pytest.raises(RuntimeError, match="outside its context"):
        await post(egress, "http://127.0.0.1:1/")
    async with egress:
        pass
    with pytest.raises(RuntimeError, match="outside its context"):
        await post(egress, "http://127.0.0.1:1/")
