"""What such a gateway costs in Python if it is written as one is, on aiohttp.

aiohttp on both sides, one template, one weighted choice by hash, a start and an end appended to a file. No keys, no
checks of anything, no contracts, no events, no traces, no failures: it answers one good question well.

`python -m bench.bare --upstream 127.0.0.1:1234 --port 0 --log FILE` prints one JSON line with its address.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import math
import os
import signal
import zlib
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
import uvloop
from aiohttp import web
from jinja2 import Environment

from bench.surroundings import SYSTEM, WEIGHTS

_HEADERS: Final = {"content-type": "application/json", "authorization": "Bearer sk-bench"}


class Bare:
    """Answers chat completions by asking an upstream.

    :param log: a file descriptor to append to
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, log: int) -> None:
        self._session = session
        self._url = url
        self._log = log
        # As ours: a prompt is no page.
        self._template = Environment(autoescape=False).from_string(SYSTEM)
        self._count = 0

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """One completion."""
        asked: dict[str, Any] = orjson.loads(await request.read())
        self._count += 1
        key = f"request-{self._count}"
        self._append({"id": key, "status": "LOST", "model": asked["model"]})
        weight = max(WEIGHTS, key=lambda weight: score(key, weight))
        system = {"role": "system", "content": self._template.render(asked["input"])}
        body = {"model": "bench-model", "temperature": weight / 100, "messages": [system, *asked["messages"]]}
        if asked.get("stream"):
            return await self._stream(request, key, orjson.dumps(body | {"stream": True}))
        async with self._session.post(self._url, data=orjson.dumps(body), headers=_HEADERS) as response:
            answered: dict[str, Any] = orjson.loads(await response.read())
        self._append({"id": key, "status": "OK", "asked": asked, "answered": answered})
        answered["id"] = key
        return web.Response(body=orjson.dumps(answered), headers={"Content-Type": "application/json"})

    async def _stream(self, request: web.BaseRequest, key: str, body: bytes) -> web.StreamResponse:
        """Each piece is parsed, given our own id and written, as it comes."""
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        pieces, rest = [], b""
        async with self._session.post(self._url, data=body, headers=_HEADERS) as response:
            async for chunk in response.content.iter_any():
                *events, rest = (rest + chunk).split(b"\n\n")
                for event in events:
                    if not answer.prepared:
                        await answer.prepare(request)
                    if event == b"data: [DONE]":
                        await answer.write(event + b"\n\n")
                        continue
                    piece: dict[str, Any] = orjson.loads(event.removeprefix(b"data: "))
                    piece["id"] = key
                    pieces.append(piece)
                    await answer.write(b"data: " + orjson.dumps(piece) + b"\n\n")
        self._append({"id": key, "status": "OK", "answered": pieces})
        await answer.write_eof()
        return answer

    def _append(self, record: dict[str, Any]) -> None:
        data = orjson.dumps(record)
        os.write(self._log, b"%08x %08x " % (len(data), zlib.crc32(data)) + data)


def score(key: str, weight: float) -> float:
    """As `catalog.assignment` chooses."""
    digest = blake2b(f"bench\x1fassign\x1f{weight}\x1f{key}".encode()).digest()
    uniform = ((int.from_bytes(digest[:8]) >> 12) + 0.5) / (1 << 52)
    return -weight / math.log(uniform)


async def serve(upstream: str, port: int, log: Path) -> None:
    """Until it is terminated."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        bare = Bare(session, f"http://{upstream}/v1/chat/completions", descriptor)
        server = await loop.create_server(web.Server(bare.answer, access_log=None), "127.0.0.1", port)
        gc.collect()
        gc.freeze()
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        print(json.dumps({"address": address, "pid": os.getpid()}), flush=True)
        await stopped.wait()
        server.close()


def main() -> None:
    """Serve as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m bench.bare", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--upstream", required=True, help="host:port of what is asked")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path, required=True, help="what is appended to")
    options = parser.parse_args()
    uvloop.run(serve(options.upstream, options.port, options.log))


if __name__ == "__main__":
    main()
