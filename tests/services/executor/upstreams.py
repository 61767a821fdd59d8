"""A scripted provider."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any


def completion(content: str = "Paris.", **fields: Any) -> dict[str, Any]:
    """An answer in OpenAI's shape."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "served-model",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 24, "completion_tokens": 8, "total_tokens": 32},
    } | fields


def http(status: int, body: object, headers: Iterable[str] = (), content_type: str = "application/json") -> bytes:
    """An HTTP answer as it goes over the wire; a body that is not bytes is written as JSON."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} x", f"content-length: {len(payload)}", *headers]
    if content_type:
        lines.append(f"content-type: {content_type}")
    return "\r\n".join([*lines, "", ""]).encode() + payload


def chunk(content: str | None = None, **fields: Any) -> dict[str, Any]:
    """A piece of a streamed answer in OpenAI's shape; `finish_reason` goes to the choice, the rest to the delta or, as
    `usage`, `model` and `error`, to the whole."""
    outer = {name: fields.pop(name) for name in ("usage", "model", "error", "choices") if name in fields}
    finish = fields.pop("finish_reason", None)
    delta = fields if content is None else {"content": content, **fields}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "model": "served-model",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    } | outer


@dataclass
class Streams:
    """A streamed answer: events as they are sent, then the end of the connection or, if `stalls`, silence."""

    events: list[Any]
    stalls: bool = False
    sent: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for event in self.events:
            data = event if isinstance(event, bytes) else b"data: " + json.dumps(event).encode() + b"\n\n"
            writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            await writer.drain()
        self.sent.set()
        if self.stalls:
            await reader.read()
            self.left.set()
        else:
            writer.write(b"0\r\n\r\n")


DONE = b"data: [DONE]\n\n"
PARIS = (
    chunk("", role="assistant"),
    chunk("Par"),
    chunk("is."),
    chunk(finish_reason="stop"),
    chunk(choices=[], usage={"prompt_tokens": 24, "completion_tokens": 8}),
    DONE,
)


@dataclass(frozen=True)
class Received:
    """A request that the upstream got."""

    path: str
    headers: dict[str, str]
    body: Any


Step = bytes | Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Upstream:
    """A provider that does what its script says, step by step, and answers well when the script is at its end."""

    port: int = 0
    script: deque[Step] = field(default_factory=deque)
    received: list[Received] = field(default_factory=list)
    left: int = 0
    """How many callers left in the middle of a stall."""
    connections: int = 0

    completion = staticmethod(completion)
    chunk = staticmethod(chunk)
    streams = Streams
    paris = PARIS
    done = DONE
    http = staticmethod(http)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def then(self, *steps: Step) -> None:
        self.script.extend(steps)

    async def stall(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Says nothing until the caller leaves."""
        await reader.read()
        self.left += 1

    @staticmethod
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Breaks the connection without a word."""
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()

    @staticmethod
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Sends half an answer, then breaks off."""
        whole = http(200, completion())
        writer.write(whole[: len(whole) - 40])
        await writer.drain()
        writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                fields = [line.split(": ", 1) for line in head[1:] if line]
                headers = {name.lower(): value for name, value in fields}
                body = await reader.readexactly(int(headers["content-length"]))
                self.received.append(Received(head[0].split(" ")[1], headers, json.loads(body)))
                step = self.script.popleft() if self.script else http(200, completion())
                if isinstance(step, bytes):
                    writer.write(step)
                    await writer.drain()
                else:
                    await step(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
