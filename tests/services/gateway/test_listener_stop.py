from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from kit.http_server.answer import Answer, Reply, Stream
from services.gateway.listener import Handler, Listener, Route, Visit
from tests.kit.http_server.serving import until
from tests.services.gateway.conftest import MESSAGES, MODEL
from tests.services.gateway.executors import delta, ended, started
from tests.services.gateway.listening import Raw, connect, head, listener


async def test_a_stop_lets_what_runs_finish_and_takes_nothing_new(local_room: Any) -> None:
    gate = asyncio.Event()
    local_room.executor.script = [started(), delta("Par"), gate, delta("is."), ended()]
    idle = await connect(local_room)
    idle.writer.write(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (await idle.answer())[0] == 200
    async with local_room.client() as client:
        stream = aiter(await client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True))
        await anext(stream)

        local_room.listener.stop_accepting()

        idle.writer.write(b"GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n")
        status, reason, headers = await idle.refusal()
        assert (status, reason, headers["connection"]) == (503, "STOPPING", "close")
        with pytest.raises(ConnectionRefusedError):
            await connect(local_room)
        drained = asyncio.create_task(local_room.listener.drain())
        gate.set()
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "Paris."
        await asyncio.wait_for(drained, 10)
    idle.writer.close()


async def test_a_drain_that_takes_too_long_ends_what_is_left(start_room: Any, environment: Any) -> None:
    environment.setenv("TURNOUT_GATEWAY_DRAIN_SECONDS", "0")
    async with start_room() as room:
        room.executor.script = [started(), delta("Par"), asyncio.Event()]
        body = orjson.dumps({"model": MODEL, "messages": MESSAGES, "stream": True})
        raw = await connect(room)
        raw.writer.write(head(room, len(body)) + body)
        await asyncio.wait_for(raw.reader.readuntil(b'"Par"'), 10)

        await asyncio.wait_for(room.listener.drain(), 10)

        said = await asyncio.wait_for(raw.reader.read(), 10)
        assert b"[DONE]" not in said
        assert not said.endswith(b"0\r\n\r\n")
        raw.writer.close()
        await until(lambda: room.executor.left == 1)


MUCH = 32 << 20
"""More than the kernel holds."""


async def much(visit: Visit) -> Reply:
    return Answer(200, {}, bytes(MUCH))


async def much_in_pieces(visit: Visit) -> Reply:
    response = Stream({})
    await visit.begin(response)
    response.end(bytes(MUCH))
    return response


@asynccontextmanager
async def unread(server: Listener) -> AsyncIterator[Raw]:
    """Somebody who has not read an answer yet, on a listener that has nothing else to do."""
    await server.start()
    raw = Raw(*await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 10))
    raw.writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    await until(lambda: server._connections.unfinished() and not server._active)
    yield raw
    raw.writer.close()


@pytest.mark.parametrize("handler", [much, much_in_pieces])
async def test_a_stop_waits_for_answers_that_are_being_read(handler: Handler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.listener._LAST_WORDS_SECONDS", 0)
    server = listener(0, Route("/", {"GET": handler}), drain_seconds=10)
    async with unread(server) as raw:
        drained = asyncio.create_task(server.drain())
        await until(lambda: server._connections.is_closing)
        assert len(await asyncio.wait_for(raw.reader.read(), 10)) > MUCH
        await asyncio.wait_for(drained, 5)


async def test_a_stop_does_not_wait_longer_for_answers_that_nobody_reads(caplog: pytest.LogCaptureFixture) -> None:
    server = listener(0, Route("/", {"GET": much}))
    async with unread(server) as raw:
        await asyncio.wait_for(server.drain(), 5)
        assert not server._connections.open
        assert len(await asyncio.wait_for(raw.reader.read(), 10)) < MUCH
    [warned] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert warned.getMessage() == "requests are cut by the end of the drain"
    assert warned.__dict__["requests"] == 1


async def test_idle_connections_are_not_told_as_cut(caplog: pytest.LogCaptureFixture) -> None:
    server = listener(0)
    await server.start()
    raw = Raw(*await asyncio.open_connection("127.0.0.1", server.port))
    await until(lambda: server._connections.open)
    await server.drain()
    assert await raw.is_closed()
    raw.writer.close()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
