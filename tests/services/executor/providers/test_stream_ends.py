"""How streamed answers end, and do not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from catalog.view import ProviderKind
from completions.chat import Message, Role
from kit.egress import Egress, EgressPolicy
from services.executor.domain import Delta, FinishReason, ProviderAnswer, ProviderRequest, Reason, Started, Usage
from services.executor.providers import exchange
from services.executor.providers.openai import OpenAi
from tests.services.executor.providers.wires import RETRY_STATUSES, TRACING, asked, streamed, version


@pytest.fixture
async def adapter() -> AsyncIterator[OpenAi]:
    async with Egress(EgressPolicy(allow_private=True)) as egress:
        yield OpenAi(egress, TRACING, RETRY_STATUSES, max_response_bytes=50_000, max_stream_bytes=100_000)


def request_of(adapter: OpenAi, upstream: Any) -> ProviderRequest:
    return asked(adapter, ProviderKind.OPENAI_COMPATIBLE, upstream.base_url, version())


async def said_by(adapter: OpenAi, upstream: Any, step: Any, **silences: float) -> list[Any]:
    upstream.then(step)
    return await streamed(adapter, request_of(adapter, upstream), **silences)


async def test_what_follows_the_mark_of_the_end_is_nobody_s(adapter: OpenAi, upstream: Any) -> None:
    whole = b"".join(b"data: %s\n\n" % json.dumps(each).encode() for each in upstream.paris[:-1]) + upstream.done
    for tail in (b"data: {oops\n\n", b'data: {"error":{"message":"late"}}\n\n', b"x" * 60_000, b"data: {half"):
        *pieces, answer = await said_by(adapter, upstream, upstream.streams([whole + tail]))
        assert pieces[1:] == [Delta("Par"), Delta("is.")]
        assert answer.message.content == "Paris."


@dataclass
class Silence:
    """A finished answer, then no end: what may come is sent, then signs of life or nothing."""

    events: list[Any]
    tail: bytes = b""
    breaks: bool = False
    pause: float = 0
    """Seconds between events."""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for each in [b"data: %s\n\n" % json.dumps(event).encode() for event in self.events]:
            writer.write(b"%x\r\n%b\r\n" % (len(each), each))
            await writer.drain()
            await asyncio.sleep(self.pause)
        if self.breaks:
            writer.close()
            return
        left = asyncio.create_task(reader.read())
        while not left.done():
            if self.tail:
                writer.write(b"%x\r\n%b\r\n" % (len(self.tail), self.tail))
            await asyncio.wait([left], timeout=0.02)


@pytest.mark.parametrize("tail", [b"", b": still here\n\n", b'data: {"choices":[]}\n\n', b"data: {half"])
@pytest.mark.parametrize("silence", [1, 60])
async def test_an_answer_that_was_finished_is_whole_after_a_little_silence(
    adapter: OpenAi, upstream: Any, monkeypatch: pytest.MonkeyPatch, tail: bytes, silence: float
) -> None:
    monkeypatch.setattr(exchange, "_LAST_WORDS_SECONDS", 0.2)
    upstream.then(Silence(list(upstream.paris[:-1]), tail))
    async with asyncio.timeout(4):
        pieces = adapter.stream(request_of(adapter, upstream), total_seconds=60, first_seconds=60, idle_seconds=silence)
        *said, answer = [piece async for piece in pieces]

    assert said == [Started("served-model"), Delta("Par"), Delta("is.")]
    assert answer == ProviderAnswer(
        Message(Role.ASSISTANT, "Paris."), FinishReason.STOP, Usage(24, 8), "served-model", 200
    )


async def test_the_last_words_may_come_with_the_reason_to_stop(
    adapter: OpenAi, upstream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_LAST_WORDS_SECONDS", 0.2)
    upstream.then(Silence([upstream.chunk("Paris.", finish_reason="stop")], b": still here\n\n"))
    async with asyncio.timeout(4):
        pieces = adapter.stream(request_of(adapter, upstream), total_seconds=60, first_seconds=60, idle_seconds=60)
        assert [type(piece) async for piece in pieces] == [Started, Delta, ProviderAnswer]


async def test_a_server_that_tells_a_reason_to_stop_with_every_word_is_heard_to_the_end(
    adapter: OpenAi, upstream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_LAST_WORDS_SECONDS", 1)
    words = Silence([upstream.chunk(each, finish_reason="stop") for each in "Paris."], pause=0.25)
    *_, answer = await said_by(adapter, upstream, words)
    assert answer.message.content == "Paris."


async def test_an_answer_that_was_finished_is_whole_before_the_time_is_up(adapter: OpenAi, upstream: Any) -> None:
    upstream.then(Silence(list(upstream.paris[:4])))
    pieces = adapter.stream(request_of(adapter, upstream), total_seconds=1, first_seconds=1, idle_seconds=1)
    *_, answer = [piece async for piece in pieces]
    assert isinstance(answer, ProviderAnswer)


async def test_half_of_the_time_that_is_left_is_kept_for_what_comes_after(adapter: OpenAi, upstream: Any) -> None:
    upstream.then(Silence(list(upstream.paris[:4])))
    async with asyncio.timeout(2.25):
        pieces = adapter.stream(request_of(adapter, upstream), total_seconds=3, first_seconds=3, idle_seconds=3)
        *_, answer = [piece async for piece in pieces]
    assert isinstance(answer, ProviderAnswer)


async def test_an_answer_of_nothing_that_was_finished_is_whole_too(adapter: OpenAi, upstream: Any) -> None:
    upstream.then(Silence([upstream.chunk(finish_reason="stop")]))
    pieces = adapter.stream(request_of(adapter, upstream), total_seconds=1, first_seconds=1, idle_seconds=1)
    assert [type(piece) async for piece in pieces] == [Started, ProviderAnswer]


async def test_an_answer_that_was_finished_is_whole_though_its_connection_breaks(
    adapter: OpenAi, upstream: Any
) -> None:
    *_, answer = await said_by(adapter, upstream, Silence(list(upstream.paris[:4]), breaks=True))
    assert isinstance(answer, ProviderAnswer)


async def test_an_empty_finish_reason_is_no_end(adapter: OpenAi, upstream: Any) -> None:
    event = {"choices": [{"index": 0, "delta": {"content": "Par"}, "finish_reason": ""}]}
    *_, failure = await said_by(adapter, upstream, Silence([event]), idle=0.2)
    assert failure.reason is Reason.TIMEOUT
