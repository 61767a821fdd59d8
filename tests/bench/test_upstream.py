from __future__ import annotations

import asyncio
import json
from typing import Any

from bench.answers import AnswerReader, StreamReader
from bench.upstream import Behaviour

STREAMED = {"stream": True, "messages": []}


def asking(body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    return b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data)


async def answer_of(address: str, request: bytes) -> bytes:
    """The body of one answer."""
    host, _, port = address.partition(":")
    reading, writing = await asyncio.open_connection(host, int(port))
    writing.write(request)
    reader, body = AnswerReader(), b""
    while not reader.is_complete:
        body += reader.feed(await reading.read(1 << 16))
    writing.close()
    assert reader.status == 200
    return body


async def test_a_stream_has_as_many_pieces_as_was_said_and_an_end(served: Any) -> None:
    address, stats = await served(Behaviour(chunks=7))

    reader = StreamReader()
    reader.feed(await answer_of(address, asking(STREAMED)))

    reader.check(7)
    assert "".join(reader.pieces).startswith("piece 0 piece 1 ")
    assert stats.statuses == {200: 1}


async def test_the_pieces_of_a_stream_are_as_far_apart_as_was_said(served: Any) -> None:
    address, _ = await served(Behaviour(chunks=5, chunk_interval_seconds=0.02))
    clock = asyncio.get_running_loop().time

    began = clock()
    await answer_of(address, asking(STREAMED))

    assert clock() - began >= 4 * 0.02 - 0.002


async def test_a_stream_tells_its_usage_only_to_those_who_ask(served: Any) -> None:
    address, _ = await served(Behaviour(chunks=3))

    without = await answer_of(address, asking(STREAMED))
    with_usage = await answer_of(address, asking(STREAMED | {"stream_options": {"include_usage": True}}))

    assert b'"usage"' not in without
    assert b'"completion_tokens": 3' in with_usage


async def test_what_is_asked_behind_a_stream_is_answered_behind_it(served: Any) -> None:
    address, stats = await served(Behaviour(chunks=3, chunk_interval_seconds=0.001))
    host, _, port = address.partition(":")
    reading, writing = await asyncio.open_connection(host, int(port))

    writing.write(asking(STREAMED) + asking({"messages": []}))
    received = b""
    while b'"object": "chat.completion",' not in received:
        received += await reading.read(1 << 16)
    writing.close()

    assert received.index(b"[DONE]") < received.index(b'"object": "chat.completion",')
    assert stats.calls == 2


async def test_a_stream_ends_with_the_client_who_leaves(served: Any, caplog: Any) -> None:
    address, _ = await served(Behaviour(chunks=2, chunk_interval_seconds=3600))
    host, _, port = address.partition(":")
    reading, writing = await asyncio.open_connection(host, int(port))
    writing.write(asking(STREAMED))
    await reading.readuntil(b"piece 0")
    streams = [task for task in asyncio.all_tasks() if task.get_coro().__qualname__.endswith("_stream")]  # type: ignore[union-attr]

    writing.close()
    await asyncio.wait(streams, timeout=10)

    assert len(streams) == 1
    assert streams[0].cancelled()
