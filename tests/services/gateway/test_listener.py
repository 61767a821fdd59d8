from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from kit.errors import CannotStart
from kit.http_server.answer import Reply, Stream
from services.gateway.listener import Handler, Route, Visit
from tests.kit.http_server.serving import until
from tests.services.gateway.conftest import MODEL
from tests.services.gateway.executors import response
from tests.services.gateway.listening import BODY, HEAD, Raw, connect, head, listener


async def test_a_body_past_the_limit_is_refused_before_it_is_read(start_room: Any, environment: Any) -> None:
    environment.setenv("TURNOUT_GATEWAY_MAX_BODY_BYTES", "2048")
    async with start_room() as room:
        raw = await connect(room)
        raw.writer.write(head(room, 1 << 40))
        status, reason, headers = await raw.refusal()
        assert (status, reason, headers["connection"]) == (413, "BODY_TOO_LARGE", "close")
        raw.writer.close()

        status, error = await room.refusal(messages=[{"role": "user", "content": "x" * 2048}])
        assert (status, error["code"], error["param"]) == (413, "body_too_large", None)
        assert "2048 bytes" in error["message"]
        assert (await room.post())[0] == 200


async def test_a_body_without_a_length_is_counted_as_it_comes(start_room: Any, environment: Any) -> None:
    environment.setenv("TURNOUT_GATEWAY_MAX_BODY_BYTES", "2048")
    async with start_room() as room:
        raw = await connect(room)
        chunked = HEAD + b"Transfer-Encoding: chunked\r\nAuthorization: Bearer %s\r\n\r\n" % room.key.encode()
        raw.writer.write(chunked + b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY))
        assert (await raw.answer())[0] == 200
        raw.writer.write(chunked + b"1000\r\n" + b"x" * 4096)
        assert (await raw.refusal())[:2] == (413, "BODY_TOO_LARGE")
        raw.writer.close()


async def test_a_body_that_comes_too_slowly_is_given_up(start_room: Any, environment: Any) -> None:
    environment.setenv("TURNOUT_GATEWAY_READ_TIMEOUT_SECONDS", "0.1")
    async with start_room() as room:
        raw = await connect(room)
        raw.writer.write(head(room, len(BODY)) + BODY[:5])
        status, reason, headers = await raw.refusal()
        assert (status, reason, headers["connection"]) == (408, "BODY_TOO_SLOW", "close")
        raw.writer.close()


async def test_headers_that_never_end_are_given_up_with_the_idle(start_room: Any, environment: Any) -> None:
    environment.setenv("TURNOUT_GATEWAY_KEEP_ALIVE_SECONDS", "0.1")
    async with start_room() as room:
        for said in (b"", HEAD, head(room, len(BODY)) + BODY):
            raw = await connect(room)
            raw.writer.write(said)
            if said.endswith(BODY):
                assert (await raw.answer())[0] == 200
            assert await raw.is_closed()
            raw.writer.close()


async def test_long_headers_and_many_of_them_are_refused(start_room: Any, environment: Any) -> None:
    environment.setenv("TURNOUT_GATEWAY_MAX_HEADER_BYTES", "1024")
    async with start_room() as room:
        for headers in ({"X-Long": "x" * 1025}, {f"X-{number}": "1" for number in range(200)}):
            async with room.http.get(f"{room.url}/v1/models", headers=headers) as answer:
                assert (answer.status, (await answer.json())["error"]["reason"]) == (431, "HEADERS_TOO_LARGE")
        raw = await connect(room)
        raw.writer.write(b"GET /v1/models?" + b"x" * 1025 + b" HTTP/1.1\r\nHost: h\r\n\r\n")
        said = await asyncio.wait_for(raw.reader.read(), 10)
        raw.writer.close()
        assert said.startswith(b"HTTP/1.1 431 ")
        assert b"connection: close" in said.lower()
        assert b"xxx" not in said
        assert b"bytearray" not in said


async def test_whoever_speaks_no_http_is_told_so_and_not_logged_as_an_error(
    local_room: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for said in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\nnonsense\r\n\r\n",
    ):
        raw = await connect(local_room)
        raw.writer.write(said)
        status, reason, headers = await raw.refusal()
        assert (status, reason, headers["connection"]) == (400, "HTTP_MALFORMED", "close")
        assert (headers["content-type"], headers["server"]) == ("application/json", "turnout")
        assert await raw.is_closed()
        raw.writer.close()
    raw = await connect(local_room)
    raw.writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert (await raw.refusal())[:2] == (400, "HTTP_MALFORMED")
    raw.writer.close()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_body_that_breaks_on_its_way_is_told_at_once(local_room: Any) -> None:
    raw = await connect(local_room)
    chunked = HEAD + b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\nAuthorization: Bearer %s\r\n\r\n"
    raw.writer.write(chunked % local_room.key.encode())
    assert (await raw.answer())[0] == 100
    raw.writer.write(b"zz\r\n")
    status, reason, headers = await raw.refusal()
    assert (status, reason, headers["connection"]) == (400, "BODY_MALFORMED", "close")
    assert await raw.is_closed()
    raw.writer.close()


async def test_compressed_bodies_are_refused(local_room: Any) -> None:
    headers = {"Authorization": f"Bearer {local_room.key}", "Content-Encoding": "gzip"}
    status, error = await local_room.refusal(b"\x1f\x8b", headers=headers)
    assert (status, error["reason"]) == (415, "CONTENT_ENCODING_UNSUPPORTED")


async def test_a_caller_who_asks_first_is_told_to_go_on(local_room: Any) -> None:
    raw = await connect(local_room)
    raw.writer.write(head(local_room, len(BODY), b"Expect: 100-continue"))
    assert (await raw.answer())[0] == 100
    raw.writer.write(BODY)
    assert (await raw.answer())[0] == 200
    raw.writer.close()


async def test_a_large_body_arrives_whole_and_so_does_a_large_answer(room: Any) -> None:
    content = "ü" * (1 << 20)
    room.executor.answer = response(content)
    body = orjson.dumps({"model": MODEL, "messages": [{"role": "user", "content": content}]})
    raw = await connect(room)
    raw.writer.write(head(room, len(body)) + body)
    status, _, said = await raw.answer()
    assert status == 200
    assert room.executor.requests[0].messages[0].content == content
    assert orjson.loads(said)["choices"][0]["message"]["content"] == content
    raw.writer.close()


async def test_pipelined_requests_are_answered_in_order(local_room: Any) -> None:
    raw = await connect(local_room)
    raw.writer.write((head(local_room, len(BODY)) + BODY) * 3 + b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
    answers = [await raw.answer() for _ in range(4)]
    assert [status for status, _, _ in answers] == [200] * 4
    assert answers[3][2] == b'{"status":"ok"}'
    raw.writer.close()


async def test_past_the_limit_of_requests_callers_are_told_to_come_back(start_room: Any, environment: Any) -> None:
    environment.setenv("TURNOUT_GATEWAY_MAX_CONCURRENT_REQUESTS", "2")
    async with start_room() as room:
        room.executor.answer = gate = asyncio.Event()
        running = [asyncio.create_task(room.post()) for _ in range(2)]
        await until(lambda: len(room.executor.requests) == 2)
        status, headers, body = await room.post()
        assert (status, headers["retry-after"]) == (503, "1")
        assert body["error"]["reason"] == "TOO_MANY_REQUESTS_AT_ONCE"
        async with room.http.get(f"{room.url}/healthz") as answer:
            assert answer.status == 200
        gate.set()
        assert [status for status, _, _ in await asyncio.gather(*running)] == [200, 200]
        assert (await room.post())[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/", 404, None),
        ("POST", "/chat/completions", 404, None),
        ("GET", "/v1/models/", 404, None),
        ("POST", "/v1/responses", 404, None),
        ("GET", "/v1/chat/completions", 405, "POST"),
        ("DELETE", "/v1/models/turnout/deployment/assistant", 405, "GET, HEAD"),
        ("POST", "/v1/models", 405, "GET, HEAD"),
        ("POST", "/healthz", 405, "GET, HEAD"),
    ],
)
async def test_wrong_addresses_and_methods_are_answered_in_the_apis_shape(
    local_room: Any, method: str, path: str, status: int, allow: str | None
) -> None:
    async with local_room.http.request(method, local_room.url + path) as answer:
        assert (answer.status, answer.headers.get("allow")) == (status, allow)
        error = (await answer.json())["error"]
    assert error["reason"] == ("METHOD_NOT_ALLOWED" if allow else "URL_NOT_FOUND")
    # A base URL may be right and the endpoint one of OpenAI's that is not here.
    assert ("POST /v1/chat/completions, GET /v1/models, GET" in error["message"]) is (status == 404)


async def test_a_query_does_not_change_the_address(local_room: Any) -> None:
    headers = {"Authorization": f"Bearer {local_room.key}"}
    async with local_room.http.get(f"{local_room.url}/v1/models?limit=1", headers=headers) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"http://x/v1/models", 200),
        (b"HTTPS://x:8080/v1/models?limit=1", 200),
        (b"http://x/v1/models/" + MODEL.encode(), 200),
        (b"http://x/healthz", 200),
        (b"http://x", 404),
        (b"http://x?/v1/models", 404),
        (b"ftp://x/v1/models", 404),
    ],
)
async def test_an_address_may_be_whole_as_for_a_proxy(local_room: Any, target: bytes, status: int) -> None:
    raw = await connect(local_room)
    raw.writer.write(
        b"GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n" % (target, local_room.key.encode())
    )
    assert (await raw.answer())[0] == status
    raw.writer.close()


async def test_probes_need_no_key_and_head_is_enough(local_room: Any) -> None:
    for method in ("GET", "HEAD"):
        for path in ("/healthz", "/readyz"):
            async with local_room.http.request(method, local_room.url + path) as answer:
                assert answer.status == 200


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[Raw]:
    """A connection to a listener that has this handler under `/`."""
    server = listener(0, Route("/", {"GET": handler}))
    await server.start()
    raw = Raw(*await asyncio.open_connection("127.0.0.1", server.port))
    try:
        yield raw
    finally:
        raw.writer.close()
        await server.drain()


async def test_a_bug_is_logged_with_its_trace_and_tells_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(visit: Visit) -> Reply:
        raise RuntimeError("a secret")

    async with serving(handler) as raw:
        raw.writer.write(b"GET / HTTP/1.1\r\nHost: h\r\ntraceparent: 00-%s-%s-00\r\n\r\n" % (b"a" * 32, b"b" * 16))
        status, headers, body = await raw.answer()
    assert (status, headers["x-should-retry"]) == (500, "false")
    assert orjson.loads(body)["error"]["message"] == f"internal error; trace {'a' * 32}"
    logged = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert logged == ["a request fails with a bug"]


async def test_a_bug_in_the_middle_of_a_stream_never_looks_like_its_end() -> None:
    async def handler(visit: Visit) -> Reply:
        response = Stream({})
        await visit.begin(response)
        await response.write(b"half")
        raise RuntimeError("bug")

    async with serving(handler) as raw:
        raw.writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        said = await asyncio.wait_for(raw.reader.read(), 10)
    assert said.count(b"HTTP/1.1") == 1
    assert said.endswith(b"half\r\n")


async def test_a_caller_who_does_not_read_gives_its_place_back() -> None:
    async def handler(visit: Visit) -> Reply:
        response = Stream({})
        await visit.begin(response)
        while True:
            await response.write(bytes(100_000))

    server = listener(0, Route("/", {"GET": handler}))
    server._connections.stall_seconds = 0.05
    await server.start()
    raw = Raw(*await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 10))
    raw.writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    await until(lambda: server._active)
    await until(lambda: not server._active)
    raw.writer.close()
    await server.drain()


async def test_a_taken_port_stops_the_start_with_the_settings_name(local_room: Any) -> None:
    with pytest.raises(CannotStart, match="TURNOUT_GATEWAY_LISTEN_ADDRESS"):
        await listener(local_room.listener.port).start()


async def test_workers_share_a_port() -> None:
    first = listener(0, shares_port=True)
    await first.start()
    second = listener(first.port, shares_port=True)
    await second.start()
    assert second.port == first.port
    await first.drain()
    await second.drain()
