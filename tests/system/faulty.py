"""A provider that fails as its callers' words tell it to, in a process of its own: OpenAI's, Anthropic's and Ollama's
contract on one port, whole and in pieces.

`python -m tests.system.faulty` prints one JSON line with its address and pid and serves until it is terminated. What a
call gets is told by the model's name: `ok`, one of `FAULTS`, or several: `reset-head+status-503@0.3` fails three in ten
requests, with one or the other. Which ones is drawn from the call's name, `call-…` anywhere in its text, and from how
often that was asked already, so that a run can be repeated. `GET /log` tells, for each call, what its requests got;
`GET /stats` counts requests, connections and credentials.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import signal
import socket
import struct
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import uvloop

from tests.system.faulty_words import ANSWER, CONTRACTS, PIECES, Contract

STALL_SECONDS: Final = 3600.0
HUGE_BYTES: Final = 5 << 20
"""More than an executor takes."""
_CALL: Final = re.compile(rb"call-[\w-]+")


@dataclass(frozen=True, slots=True)
class Request:
    """One request, read."""

    contract: Contract
    model: str
    is_streamed: bool
    credential: str
    call: str


@dataclass(slots=True)
class Exchange:
    """A request, and whom to answer."""

    request: Request
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None, *, cut: int = 0) -> None:
        """An answer in one piece, without its last `cut` bytes."""
        lines = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        await self.write(f"HTTP/1.1 {status} -\r\n{head}\r\n".encode() + body[: len(body) - cut])

    async def answer(self, content: str = ANSWER, **fields: Any) -> None:
        """What a good provider says, in the form that was asked for."""
        if not self.request.is_streamed:
            await self.send(200, self.request.contract.whole(content, **fields))
            return
        await self.pieces(len(PIECES))
        await self.chunk(b"".join(self.request.contract.ending(**fields)))
        await self.write(b"0\r\n\r\n")

    async def pieces(self, number: int) -> None:
        """The head of a streamed answer and so many pieces of it."""
        contract = self.request.contract
        kind = f"content-type: {contract.stream_type}\r\ntransfer-encoding: chunked\r\n"
        await self.write(f"HTTP/1.1 200 -\r\n{kind}\r\n".encode())
        for event in contract.beginning():
            await self.chunk(event)
        for piece in PIECES[:number]:
            await self.chunk(contract.piece(piece))

    async def chunk(self, data: bytes) -> None:
        """One of a chunked body."""
        if data:
            await self.write(b"%x\r\n%b\r\n" % (len(data), data))

    async def write(self, data: bytes) -> None:
        """Send, as fast as it is taken."""
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Break the connection; what was written may be lost."""
        made = self.writer.get_extra_info("socket")
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        """End the connection behind what was written."""
        self.writer.close()

    async def stall(self) -> None:
        """Say nothing until the caller leaves."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.reader.read(), STALL_SECONDS)
        self.close()


Fault = Callable[[Exchange], Awaitable[None]]


async def _reset_head(exchange: Exchange) -> None:
    exchange.reset()


async def _close_head(exchange: Exchange) -> None:
    exchange.close()


async def _reset_body(exchange: Exchange) -> None:
    await exchange.send(200, exchange.request.contract.whole(ANSWER), cut=40)
    exchange.reset()


async def _half_body(exchange: Exchange) -> None:
    await exchange.send(200, exchange.request.contract.whole(ANSWER), cut=40)
    exchange.close()


async def _stall(exchange: Exchange) -> None:
    await exchange.stall()


async def _slow(exchange: Exchange) -> None:
    await asyncio.sleep(0.5)
    await exchange.answer()


async def _not_json(exchange: Exchange) -> None:
    await exchange.send(200, b'{"choices": [{"message": ')


async def _html(exchange: Exchange) -> None:
    await exchange.send(200, b"<html>Welcome</html>", {"content-type": "text/html"})


async def _huge(exchange: Exchange) -> None:
    # Its caller leaves before it is over.
    with contextlib.suppress(ConnectionError):
        await exchange.send(200, exchange.request.contract.whole("x" * HUGE_BYTES))
    exchange.close()


async def _context(exchange: Exchange) -> None:
    await exchange.send(400, exchange.request.contract.too_long)


async def _refusal(exchange: Exchange) -> None:
    await exchange.answer(is_refused=True)


async def _echo_key(exchange: Exchange) -> None:
    request = exchange.request
    words = f"Incorrect API key provided: {request.credential}. Bearer {request.credential} is not known."
    await exchange.send(401, request.contract.error(words), {"x-echo": request.credential})


async def _echo_moved(exchange: Exchange) -> None:
    credential = exchange.request.credential
    await exchange.send(302, b"", {"location": f"http://127.0.0.1/?key={credential}"})


async def _echo_type(exchange: Exchange) -> None:
    await exchange.send(200, b"no", {"content-type": f"text/plain; key={exchange.request.credential}"})


async def _broken_early(exchange: Exchange) -> None:
    await exchange.pieces(0)
    exchange.close()


async def _stalled_early(exchange: Exchange) -> None:
    await exchange.pieces(0)
    await exchange.stall()


async def _broken_late(exchange: Exchange) -> None:
    await exchange.pieces(2)
    exchange.close()


async def _reset_late(exchange: Exchange) -> None:
    await exchange.pieces(2)
    # What was sent is to arrive.
    await asyncio.sleep(0.3)
    exchange.reset()


async def _half_event_late(exchange: Exchange) -> None:
    await exchange.pieces(2)
    await exchange.chunk(exchange.request.contract.piece("never")[:20])
    exchange.close()


async def _stalled_late(exchange: Exchange) -> None:
    await exchange.pieces(2)
    await exchange.stall()


async def _garbage_late(exchange: Exchange) -> None:
    await exchange.pieces(2)
    await exchange.chunk(exchange.request.contract.framed(b"{]"))
    await exchange.stall()


async def _error_late(exchange: Exchange) -> None:
    await exchange.pieces(2)
    words = f"the key {exchange.request.credential} broke it"
    await exchange.chunk(exchange.request.contract.framed(exchange.request.contract.error(words)))
    await exchange.write(b"0\r\n\r\n")


async def _ended_late(exchange: Exchange) -> None:
    """A good end of HTTP, but not of the answer."""
    await exchange.pieces(2)
    await exchange.write(b"0\r\n\r\n")


def _status(status: int, **headers: str) -> Fault:
    async def answer(exchange: Exchange) -> None:
        words = exchange.request.contract.error("asked to fail")
        await exchange.send(status, words, {name.replace("_", "-"): value for name, value in headers.items()})

    return answer


FAULTS: Final[Mapping[str, Fault]] = {
    "reset-head": _reset_head,
    "close-head": _close_head,
    "reset-body": _reset_body,
    "half-body": _half_body,
    "stall": _stall,
    "slow": _slow,
    "not-json": _not_json,
    "html": _html,
    "huge": _huge,
    "context": _context,
    "refusal": _refusal,
    "echo-key": _echo_key,
    "echo-moved": _echo_moved,
    "echo-type": _echo_type,
    "broken-early": _broken_early,
    "stalled-early": _stalled_early,
    "broken-late": _broken_late,
    "reset-late": _reset_late,
    "half-event-late": _half_event_late,
    "stalled-late": _stalled_late,
    "garbage-late": _garbage_late,
    "error-late": _error_late,
    "ended-late": _ended_late,
    "after-429": _status(429, retry_after="1"),
    **{f"status-{status}": _status(status) for status in (400, 401, 404, 408, 422, 429, 500, 502, 503, 504, 529)},
}
GOOD: Final = frozenset(("ok", "slow", "refusal"))
"""What answers all the same."""


def drawn(model: str, call: str, asked: int) -> str:
    """What a request gets: `ok` or the name of a fault.

    :param asked: how often this call was asked before
    """
    names, _, share = model.partition("@")
    chance = random.Random(f"{model} {call} {asked}")  # drawn again by whoever repeats a run
    if chance.random() >= float(share or "1"):
        return "ok"
    return chance.choice(names.split("+"))


@dataclass(slots=True)
class Upstream:
    """The server and its books."""

    latency_seconds: float
    log: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    served: Counter[str] = field(default_factory=Counter)
    credentials: Counter[str] = field(default_factory=Counter)
    open: int = 0
    accepted: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.open += 1
        self.accepted += 1
        try:
            while not writer.is_closing():
                await self._answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        method, path, _ = first.split(" ", 2)
        if method == "GET":
            told: Any = self.log if path == "/log" else self._stats()
            data = json.dumps(told).encode()
            writer.write(b"HTTP/1.1 200 -\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data))
            writer.close()
            return
        contract = next(each for each in CONTRACTS.values() if path.endswith(each.path))
        asked = json.loads(body)
        name = _CALL.search(body)
        credential = headers.get("authorization", "").removeprefix("Bearer ") or headers.get("x-api-key", "")
        streamed = asked.get("stream", contract.streams_by_default)
        request = Request(contract, asked["model"], streamed, credential, name[0].decode() if name else "")
        fault = drawn(request.model, request.call, len(self.log[request.call]))
        # Before it is served: whoever got an answer finds it here.
        self.log[request.call].append(fault)
        self.served[fault] += 1
        self.credentials[credential] += 1
        exchange = Exchange(request, reader, writer)
        if self.latency_seconds:
            await asyncio.sleep(self.latency_seconds)
        await (exchange.answer() if fault == "ok" else FAULTS[fault](exchange))

    def _stats(self) -> dict[str, Any]:
        return {
            "calls": sum(self.served.values()),
            "served": self.served,
            "credentials": self.credentials,
            # Without the one that asks.
            "open": self.open - 1,
            "accepted": self.accepted,
        }


async def serve(latency_seconds: float) -> None:
    """Serve on loopback until SIGTERM or SIGINT."""
    loop, stop, upstream = asyncio.get_running_loop(), asyncio.Event(), Upstream(latency_seconds)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, backlog=4096, limit=1 << 22)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"address": f"127.0.0.1:{port}", "pid": os.getpid()}), flush=True)
    await stop.wait()


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.faulty", description="A provider that fails.")
    parser.add_argument("--latency-ms", type=float, default=0, help="wait before each answer, good or not")
    uvloop.run(serve(parser.parse_args().latency_ms / 1000))


if __name__ == "__main__":
    main()
