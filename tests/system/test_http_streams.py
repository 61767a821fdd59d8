"""What a caller who leaves a stream leaves behind, from end to end: nothing that still runs, and one record."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import psutil
import pytest
from openai import AsyncOpenAI

from stack.services import Installation
from tests.system.clients import Clients, eventually
from turnout.events.v1 import request_pb2

PIECES = 2000
STOP_SECONDS = 2.0


@dataclass
class EndlessLlm:
    """A provider that streams to whoever stays."""

    base_url: str = ""
    text: str = "piece "
    interval_seconds: float = 0.02
    sent: int = 0
    left: list[int] = field(default_factory=list)
    """How many pieces were written to each caller who closed the connection."""
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A connection that ends without a request, or with one that is none, is closed too.
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ValueError):
            try:
                await self.answer(reader, writer)
            finally:
                writer.close()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        writing = asyncio.create_task(self._write(writer))
        try:
            # A caller who stays says nothing more.
            if await reader.read() == b"" and not writing.done():
                self.left.append(self.sent)
                self.closed.set()
        except ConnectionError:
            self.left.append(self.sent)
            self.closed.set()
        finally:
            writing.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await writing
            # Nobody reads what it could not send.
            writer.transport.abort()

    async def _write(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        for _ in range(PIECES):
            chunk = {
                "id": "c",
                "object": "chat.completion.chunk",
                "created": 1,
                "model": "m",
                "choices": [{"index": 0, "delta": {"content": self.text}, "finish_reason": None}],
            }
            writer.write(b"data: %b\n\n" % orjson.dumps(chunk))
            await writer.drain()
            self.sent += 1
            await asyncio.sleep(self.interval_seconds)
        writer.close()


@pytest.fixture
async def endless_llm() -> AsyncIterator[EndlessLlm]:
    llm = EndlessLlm()
    server = await asyncio.start_server(llm.serve, "127.0.0.1", 0)
    llm.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server:
        yield llm


async def test_a_caller_who_leaves_a_stream_ends_the_call_to_the_provider(
    installation: Installation, shop: Clients, instant_llm: str, endless_llm: EndlessLlm
) -> None:
    await shop.create_provider("instant", instant_llm)
    await shop.create_provider("endless", endless_llm.base_url)
    await shop.create_deployment("endless", "endless")
    # Written last: whoever sees it sees the other one.
    await shop.create_deployment("ready", "instant")
    client = AsyncOpenAI(base_url=f"http://{installation.http_address}/v1", api_key=shop.key, max_retries=0)

    async def known() -> None:
        assert "turnout/deployment/ready" in [model.id async for model in client.models.list()]

    async with client:
        await eventually(known)
        await eventually(lambda: shop.run("ready"))
        stream = await client.chat.completions.create(
            model="turnout/deployment/endless", messages=[{"role": "user", "content": "go on"}], stream=True
        )
        chunks = aiter(stream)
        [request_id] = {(await anext(chunks)).id for _ in range(5)}
        assert endless_llm.left == []
        await stream.close()
        await asyncio.wait_for(endless_llm.closed.wait(), STOP_SECONDS)

    [pieces] = endless_llm.left
    assert 4 <= pieces < PIECES / 2

    async def recorded() -> None:
        logs = [log.request for log in await shop.all_logs("endless")]
        assert [log.request_id for log in logs] == [request_id]
        assert (logs[0].status, logs[0].reason) == (request_pb2.REQUEST_STATUS_CANCELLED, "CALLER_LEFT")
        total = (await shop.totals("endless")).total
        assert (total.requests, total.cancelled, total.ok, total.errors, total.lost) == (1, 1, 0, 0, 0)

    await eventually(recorded)


def queued_bytes(*addresses: str) -> int:
    """What the kernel holds at present of what was sent over these connections: how much it may is the machine's."""
    ports = {f"{urlsplit(address if '//' in address else '//' + address).port:04X}" for address in addresses}
    total = 0
    for name in ("tcp", "tcp6"):
        for line in Path("/proc/net", name).read_text().splitlines()[1:]:
            _, local, remote, _, queues, *_ = line.split()
            if {local.rpartition(":")[2], remote.rpartition(":")[2]} & ports:
                total += sum(int(queue, 16) for queue in queues.split(":"))
    return total


READERS = 5
LARGE = 1_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_reader_who_does_not_read_holds_the_provider_back(
    installation: Installation, shop: Clients, instant_llm: str, endless_llm: EndlessLlm
) -> None:
    endless_llm.text, endless_llm.interval_seconds = "x" * LARGE, 0.0
    await shop.create_provider("instant", instant_llm)
    await shop.create_provider("endless", endless_llm.base_url)
    await shop.create_deployment("endless", "endless")
    # Written last: whoever sees it sees the other one.
    await shop.create_deployment("ready", "instant")
    await eventually(lambda: shop.run("ready"))
    serving = psutil.Process(installation.process("gateway").pid)
    before = serving.memory_info().rss
    body = orjson.dumps(
        {"model": "turnout/deployment/endless", "messages": [{"role": "user", "content": "go on"}], "stream": True}
    )
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {shop.key}\r\n"
    host, _, port = installation.http_address.rpartition(":")
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(READERS):
            made = socket.socket()
            # What the kernel keeps for a reader is not ours.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            made.connect((host, int(port)))
            stack.callback(made.close)
            made.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        sent = -1
        # Until the provider has not been able to send anything for a second.
        while sent != endless_llm.sent or sent < READERS:
            sent = endless_llm.sent
            await asyncio.sleep(1)
        grown = serving.memory_info().rss - before
        queued = queued_bytes(endless_llm.base_url, shop.addresses["executor"], installation.http_address)

    # 3 MB in one process here and 6 in two; 18 when messages alone were bounded.
    assert sent / READERS - queued / READERS / LARGE < 12
    assert grown / READERS < 32e6

    async def left() -> None:
        assert len(endless_llm.left) == READERS

    await eventually(left)
