"""A listener, and callers who say what a test says, byte by byte."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from kit.telemetry import Tracing
from services.gateway.listener import Listener, ListenerOptions, Route
from tests.services.gateway.conftest import MESSAGES, MODEL

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n"
BODY = orjson.dumps({"model": MODEL, "messages": MESSAGES})


class Raw:
    """A connection that says what a test says, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """One whole answer that gives its length."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)
        line, *lines = head.decode().split("\r\n")[:-2]
        headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in lines)}
        return int(line.split()[1]), headers, await self.reader.readexactly(int(headers.get("content-length", 0)))

    async def refusal(self) -> tuple[int, str, dict[str, str]]:
        status, headers, body = await self.answer()
        return status, orjson.loads(body)["error"]["reason"], headers

    async def is_closed(self) -> bool:
        return await asyncio.wait_for(self.reader.read(), 10) == b""


async def connect(room: Any) -> Raw:
    return Raw(*await asyncio.open_connection("127.0.0.1", room.listener.port, limit=8 << 20))


def head(room: Any, length: int, *more: bytes) -> bytes:
    lines = [b"Authorization: Bearer %s" % room.key.encode(), b"Content-Length: %d" % length, *more]
    return HEAD + b"\r\n".join(lines) + b"\r\n\r\n"


def listener(port: int, *routes: Route, shares_port: bool = False, drain_seconds: float = 0) -> Listener:
    options = ListenerOptions(f"127.0.0.1:{port}", shares_port, 1 << 20, 8 << 10, 10, 1, 1, drain_seconds)
    return Listener(routes, Tracing(sample_ratio=0, resource={}, exporter=None), options)
