from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from kit.errors import CannotStart, Unavailable
from kit.events.broker import Broker, broker
from kit.events.stream import STREAM, StreamOptions
from kit.interceptors import Chain
from kit.runtime import ProcessOptions, Runtime
from kit.server import Server, ServerOptions
from kit.telemetry import Tracing
from stack.nats import Nats


def runtime() -> Runtime:
    tracing = Tracing(sample_ratio=0, resource={}, exporter=None)
    server = Server(Chain(tracing, ()), ServerOptions("127.0.0.1:0", 100, 300, 0, shares_port=False))
    return Runtime(ProcessOptions("ins_test", (), {}, None, None), server, tracing)


async def test_a_process_starts_while_nats_is_down_and_connects_when_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Nats(tmp_path / "nats")
    monkeypatch.setenv("TURNOUT_NATS_URL", server.url)

    async with runtime() as process:
        opened = await process.shared(broker)
        with pytest.raises(Unavailable) as failure:
            opened.connection()
        assert failure.value.reason == "BROKER_UNREACHABLE"
        try:
            await asyncio.to_thread(server.start)
            await asyncio.wait_for(opened.connected(), 10)
        finally:
            await asyncio.to_thread(server.stop)


async def test_a_broken_connection_is_replaced_and_nothing_reaches_the_loops_handler(
    nats: Nats, broker: Broker, until: Any
) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    for _ in range(3):
        connection = broker.connection()
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(connection.wait(waiting, seconds=20))
        await asyncio.to_thread(nats.kill)
        with pytest.raises(Unavailable):
            await task
        await asyncio.to_thread(nats.start)
        assert await asyncio.wait_for(broker.connected(), 10) is not connection

    assert complaints == []


async def test_a_broker_that_hangs_up_on_us_is_reached_again(broker: Broker, until: Any) -> None:
    first = broker.connection()
    # A protocol violation: the server answers -ERR and closes, after which the library by itself gives up for ever.
    await first.publish("turnout.events.v1.X.y", b"x" * (1 << 20), headers={"a": "b"})

    await until(lambda: first.is_closed)
    assert await asyncio.wait_for(broker.connected(), 10) is not first


async def test_credentials_in_the_address_are_never_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, until: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    server = Nats(tmp_path / "nats")
    url = server.url.replace("nats://", "nats://somebody:hunter2@")
    opened = Broker(url, name="test", stream_options=StreamOptions(max_bytes=1 << 20))
    task = asyncio.create_task(opened.run())
    try:
        await until(lambda: "NATS cannot be reached" in caplog.text)
        await asyncio.to_thread(server.start)
        await asyncio.wait_for(opened.connected(), 10)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.to_thread(server.stop)

    assert "hunter2" not in caplog.text
    assert all("hunter2" not in str(record.__dict__) for record in caplog.records)


@pytest.mark.parametrize("url", [",", "localhost", "http://127.0.0.1:4222", "nats://127.0.0.1:4222,", "nats://h:99999"])
async def test_an_address_that_is_none_stops_the_start_and_names_the_setting(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("TURNOUT_NATS_URL", url)

    async with runtime() as process:
        with pytest.raises(CannotStart, match="TURNOUT_NATS_URL"):
            await process.shared(broker)


async def test_a_stream_that_an_operator_changed_is_left_alone(broker: Broker) -> None:
    connection = broker.connection()
    await broker.ensure_stream(connection)
    config = (await connection.manager.stream_info(STREAM)).config
    await connection.manager.update_stream(config, max_bytes=32 << 20)

    await broker.ensure_stream(connection)

    assert (await connection.manager.stream_info(STREAM)).config.max_bytes == 32 << 20


async def test_a_stream_that_does_not_fit_says_which_setting_to_change(nats: Nats, until: Any) -> None:
    opened = Broker(nats.url, name="test", stream_options=StreamOptions(max_bytes=1 << 60))
    task = asyncio.create_task(opened.run())
    try:
        connection = await asyncio.wait_for(opened.connected(), 10)
        with pytest.raises(Unavailable, match="TURNOUT_EVENTS_STREAM_MAX_BYTES"):
            await opened.ensure_stream(connection)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_client_that_closes_without_telling_anybody_is_replaced(
    broker: Broker, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Seen when a server dies while a batch is being sent: the client is closed and calls nobody back.
    silent = broker.connection()
    monkeypatch.setattr(type(silent), "is_alive", property(lambda self: self is not silent))

    await until(lambda: broker.is_connected and broker.connection() is not silent)
