"""Servers on loopback, as good or as bad as a test wants them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import uvloop
from aiohttp import web

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What a transport does on a pause, a close and an end differs between them; services run on uvloop."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@asynccontextmanager
async def _raw_server(
    handler: Handler, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await handler(reader, writer)
        writer.close()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()
        running.discard(task)

    server = await asyncio.start_server(serve, host, port, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tuple(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await server.wait_closed()


@asynccontextmanager
async def _script(*parts: bytes, ending: str = "close", proceed: asyncio.Event | None = None) -> AsyncIterator[int]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for number, part in enumerate(parts):
            if number and proceed is not None:
                await proceed.wait()
            writer.write(part)
            await writer.drain()
        if ending == "hold":
            await reader.read()
        if ending == "reset":
            made = writer.get_extra_info("socket")
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async with _raw_server(handle) as port:
        yield port


@asynccontextmanager
async def _http_server(handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    runner = web.ServerRunner(web.Server(handler), handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class Refusing:
    """Refuses each request before it has read its body."""

    def __init__(self) -> None:
        self.connections = 0
        self.may_read = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
        await self.may_read.wait()


@pytest.fixture
def refusing() -> Refusing:
    return Refusing()


@pytest.fixture
def raw_server() -> Callable[..., AbstractAsyncContextManager[int]]:
    """`async with raw_server(handler, host=…, port=…, tls=…) as port`: TCP; each connection runs the handler once."""
    return _raw_server


@pytest.fixture
def script() -> Callable[..., AbstractAsyncContextManager[int]]:
    """`async with script(*parts, ending=…, proceed=…) as port`: one answer per connection, whatever was asked.

    `proceed` is awaited before each part but the first. Ending: `close`, `reset`, or `hold` until the client leaves.
    """
    return _script


@pytest.fixture
def http_server() -> Callable[..., AbstractAsyncContextManager[str]]:
    """`async with http_server(handler) as url`: aiohttp's server with one handler for every request."""
    return _http_server
