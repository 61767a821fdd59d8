"""A provider that lists models as its script says, on loopback."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Step = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]


def http(status: int, body: bytes | Any, *headers: str) -> bytes:
    """An answer; what is no bytes is told as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = (f"HTTP/1.1 {status} X", f"Content-Length: {len(content)}", *headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def openai(*names: str) -> bytes:
    """OpenAI's list."""
    return http(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in names]})


@dataclass
class Offering:
    """Answers step by step, and with the last step from then on."""

    script: deque[Step] = field(default_factory=lambda: deque([openai("small", "large")]))
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Path and headers, lower case."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Closed, it keeps answers back."""
    port: int = 0

    def __post_init__(self) -> None:
        self.gate.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def then(self, *steps: Step) -> None:
        """From now on."""
        self.script = deque(steps)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                fields = [line.split(": ", 1) for line in head[1:] if line]
                self.asked.append((head[0].split(" ")[1], {name.lower(): value for name, value in fields}))
                await self.gate.wait()
                step = self.script.popleft() if len(self.script) > 1 else self.script[0]
                if isinstance(step, bytes):
                    writer.write(step)
                    await writer.drain()
                else:
                    await step(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def offering() -> AsyncIterator[Offering]:
    """One that runs."""
    provider = Offering()
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
    provider.port = server.sockets[0].getsockname()[1]
    try:
        yield provider
    finally:
        provider.gate.set()
        server.close()
