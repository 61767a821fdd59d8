"""An instant OpenAI-compatible upstream, in a process of its own, as fast as Python allows.

`python -m bench.upstream --port 0` prints one JSON line with its address and pid, then answers
`POST …/chat/completions` with one fixed completion until it is terminated, or streams one if the body says
`"stream": true`; `GET /stats` tells how many requests came and how each was answered. It is no HTTP server: it reads
just enough of HTTP/1.1 (keep-alive, pipelining, bodies of a length or in chunks) for clients that behave.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, cast

import uvloop

_COMPLETION: Final = json.dumps(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "bench-model",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "The capital of France is Paris."},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 24, "completion_tokens": 8, "total_tokens": 32},
    }
).encode()
_FAILURE: Final = b'{"error":{"message":"asked to fail","type":"bench"}}'
_HEAD_END: Final = b"\r\n\r\n"
_STREAM: Final = re.compile(rb'"stream"\s*:\s*true')
_WANTS_USAGE: Final = re.compile(rb'"include_usage"\s*:\s*true')
_STREAM_HEAD: Final = (
    b"HTTP/1.1 200 -\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How calls are answered."""

    latency_seconds: float = 0.0
    fail_every: int = 0
    """Every n-th call fails; 0: none."""
    status: int = 200
    """What calls are answered with; what is not 200 is an error, and makes all of them fail."""
    fail_status: int = 503
    """What a call that is made to fail is answered with."""
    chunks: int = 100
    """How many pieces of text a stream has; the first comes after `latency_seconds`."""
    chunk_interval_seconds: float = 0.0
    """Between two of them."""


@dataclass(slots=True)
class Stats:
    """What was answered so far."""

    calls: int = 0
    statuses: Counter[int] = field(default_factory=Counter)


class Upstream(asyncio.Protocol):
    """One connection."""

    def __init__(self, behaviour: Behaviour, stats: Stats) -> None:
        self._behaviour = behaviour
        self._stats = stats
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._last: asyncio.Task[None] | None = None
        """Writes the newest answer that is not written at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """A client left; what it still waited for is dropped."""
        self._transport = None
        if self._last is not None:
            self._last.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._buffer = self._buffer + data if self._buffer else data
        while (head_end := self._buffer.find(_HEAD_END)) >= 0:
            head = self._buffer[:head_end]
            end = self._end_of_body(head.lower(), head_end + 4)
            if end < 0:
                return
            body, self._buffer = self._buffer[head_end + 4 : end], self._buffer[end:]
            self._answer(head, body)

    def _end_of_body(self, head: bytes, start: int) -> int:
        """Where the request ends in the buffer; -1 if it is not all there."""
        at = head.find(b"\r\ncontent-length:")
        if at >= 0:
            line_end = head.find(b"\r\n", at + 2)
            end = start + int(head[at + 17 : line_end if line_end >= 0 else len(head)])
            return end if len(self._buffer) >= end else -1
        if b"\r\ntransfer-encoding: chunked" in head:
            last = self._buffer.find(b"0\r\n\r\n", start)
            return last + 5 if last >= 0 else -1
        return start

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET /stats"):
            statuses = {str(status): count for status, count in sorted(self._stats.statuses.items())}
            self._write(_response(200, json.dumps({"calls": self._stats.calls, "statuses": statuses}).encode()))
        elif head.startswith(b"POST ") and head.split(b" ", 2)[1].endswith(b"/chat/completions"):
            self._complete(body)
        else:
            self._write(_response(404, b'{"error":{"message":"there is only /chat/completions and /stats"}}'))

    def _complete(self, body: bytes) -> None:
        stats, behaviour = self._stats, self._behaviour
        stats.calls += 1
        status = behaviour.status
        if behaviour.fail_every and stats.calls % behaviour.fail_every == 0:
            status = behaviour.fail_status
        stats.statuses[status] += 1
        response = _OK if status == 200 else _response(status, _FAILURE)
        if status == 200 and _STREAM.search(body):
            self._last = asyncio.ensure_future(self._stream(bool(_WANTS_USAGE.search(body)), self._last))
        elif behaviour.latency_seconds or (self._last is not None and not self._last.done()):
            self._last = asyncio.ensure_future(self._write_later(response, self._last))
        else:
            self._write(response)

    async def _write_later(self, response: bytes, previous: asyncio.Task[None] | None) -> None:
        await asyncio.sleep(self._behaviour.latency_seconds)
        if previous is not None:
            # Pipelined requests are answered in their order.
            await previous
        self._write(response)

    async def _stream(self, wants_usage: bool, previous: asyncio.Task[None] | None) -> None:
        behaviour, clock = self._behaviour, asyncio.get_running_loop().time
        if previous is not None:
            await previous
        if behaviour.latency_seconds:
            await asyncio.sleep(behaviour.latency_seconds)
        began, before = clock(), _STREAM_HEAD + _event({"role": "assistant", "content": ""})
        for number in range(behaviour.chunks):
            if number and behaviour.chunk_interval_seconds:
                # By the clock, so that what a wait takes too long does not add up.
                await asyncio.sleep(max(0.0, began + number * behaviour.chunk_interval_seconds - clock()))
            self._write(before + _event({"content": f"piece {number} "}))
            before = b""
        usage = {"prompt_tokens": 24, "completion_tokens": behaviour.chunks, "total_tokens": 24 + behaviour.chunks}
        self._write(
            b"".join(
                (
                    before,
                    _event({}, finish_reason="stop"),
                    _chunk({"choices": [], "usage": usage}) if wants_usage else b"",
                    _http_chunk(b"data: [DONE]\n\n"),
                    b"0\r\n\r\n",
                )
            )
        )

    def _write(self, response: bytes) -> None:
        if self._transport is not None:
            self._transport.write(response)


def _response(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d -\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        status,
        len(body),
        body,
    )


_OK: Final = _response(200, _COMPLETION)
_CHUNK_HEAD: Final = {
    "id": "chatcmpl-bench",
    "object": "chat.completion.chunk",
    "created": 1_700_000_000,
    "model": "bench-model",
}


def _event(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    return _chunk({"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]})


def _chunk(fields: dict[str, object]) -> bytes:
    return _http_chunk(b"data: %b\n\n" % json.dumps(_CHUNK_HEAD | fields).encode())


def _http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def serve(behaviour: Behaviour, port: int) -> None:
    """Serve on loopback until SIGTERM or SIGINT."""
    loop, stats, stop = asyncio.get_running_loop(), Stats(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(lambda: Upstream(behaviour, stats), "127.0.0.1", port, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"address": f"127.0.0.1:{port}", "pid": os.getpid()}), flush=True)
    await stop.wait()
    server.close()


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.upstream", description="An instant OpenAI-compatible upstream."
    )
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0 (the default) picks a free one")
    parser.add_argument("--latency-ms", type=float, default=0, help="wait before each answer")
    parser.add_argument(
        "--fail-every", type=int, default=0, metavar="N", help="answer every n-th call with --fail-status"
    )
    parser.add_argument("--fail-status", type=int, default=503, help="for --fail-every (default 503)")
    parser.add_argument("--status", type=int, default=200, help="answer every call with this status")
    parser.add_argument("--chunks", type=int, default=100, help="pieces of text in a stream (default 100)")
    parser.add_argument("--chunk-interval-ms", type=float, default=0, help="between two of them")
    options = parser.parse_args()
    behaviour = Behaviour(
        latency_seconds=options.latency_ms / 1000,
        fail_every=options.fail_every,
        status=options.status,
        fail_status=options.fail_status,
        chunks=options.chunks,
        chunk_interval_seconds=options.chunk_interval_ms / 1000,
    )
    uvloop.run(serve(behaviour, options.port))


if __name__ == "__main__":
    main()
