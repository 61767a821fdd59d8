"""A server without a listener around it, and callers who say what a test says.

Tests on it run on asyncio's loop, and on uvloop, which is the one that serves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from kit.http_server.answer import Answer, Reply
from kit.http_server.connections import Connections
from kit.http_server.reader import Unreadable
from kit.http_server.request import Request

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
Handler = Callable[[Request], Awaitable[Reply]]


def post(body: bytes, path: bytes = b"/") -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s" % (path, len(body), body)


def chunked(*pieces: bytes) -> bytes:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (*pieces, b""))
    return b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks


async def echo(request: Request) -> Reply:
    """What was asked."""
    body = await request.body(1 << 20, 10)
    return Answer(200, {"X-Asked": f"{request.method} {request.target}"}, body)


async def yes(request: Request) -> Reply:
    """Whatever was asked."""
    return Answer(200, {}, b"yes")


def behind(gate: asyncio.Event, answer: Handler) -> Handler:
    """Answers so, once the gate is open."""

    async def wait(request: Request) -> Reply:
        await gate.wait()
        return await answer(request)

    return wait


class Server:
    """Serves on a free port."""

    def __init__(self, answer: Handler, **seconds: float) -> None:
        def refuse(problem: Unreadable) -> Answer:
            return Answer(400, {}, b"no")

        self.connections = Connections(answer, refuse, max_header_bytes=8 << 10, **seconds)
        self.port = 0

    async def connect(self, *, receive_bytes: int = 0) -> Raw:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=receive_bytes or 1 << 20)
        return Raw(reader, writer)


class Raw:
    """A connection that says what a test says."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> tuple[str, bytes]:
        """Head and body of an answer that gives its length."""
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)).decode()
        length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
        return head, await asyncio.wait_for(self.reader.readexactly(length), 10)

    async def rest(self) -> bytes:
        """All until the connection ends."""
        return await asyncio.wait_for(self.reader.read(), 10)


@asynccontextmanager
async def serving(
    answer: Handler = echo, *, keep_alive_seconds: float = 60, stall_seconds: float = 60, last_stall_seconds: float = 60
) -> AsyncIterator[Server]:
    server = Server(
        answer,
        keep_alive_seconds=keep_alive_seconds,
        stall_seconds=stall_seconds,
        last_stall_seconds=last_stall_seconds,
    )
    sockets = await asyncio.get_running_loop().create_server(server.connections.make, "127.0.0.1", 0)
    server.port = sockets.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        sockets.close()
        await server.connections.close(0.05)


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)
