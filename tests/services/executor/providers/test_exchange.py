"""What adapters of every contract have in common."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from catalog.view import ProviderKind
from completions.chat import Message, Role, ToolCall
from completions.version import Parameters
from kit.egress import Egress, EgressPolicy, EgressResponse
from services.executor.domain import Delta, FinishReason, ProviderAnswer, ProviderFailure, Reason, Started
from services.executor.providers.answers import Malformed
from services.executor.providers.anthropic import Anthropic
from services.executor.providers.exchange import Exchange
from services.executor.providers.failures import Told
from services.executor.providers.ollama import Ollama
from services.executor.providers.openai import OpenAi
from tests.services.executor.providers.wires import (
    CITY_FORMAT,
    CREDENTIAL,
    QUESTION,
    RETRY_STATUSES,
    TRACING,
    WEATHER,
    anthropic_block,
    anthropic_end,
    anthropic_start,
    asked,
    event,
    offline,
    root,
    streamed,
    version,
)

ADAPTERS: list[tuple[type[Exchange], ProviderKind]] = [
    (OpenAi, ProviderKind.OPENAI),
    (OpenAi, ProviderKind.OPENAI_COMPATIBLE),
    (Anthropic, ProviderKind.ANTHROPIC),
    (Ollama, ProviderKind.OLLAMA),
]
each_adapter = pytest.mark.parametrize(("made", "kind"), ADAPTERS)
CONVERSATION = (
    Message(Role.SYSTEM, "Be brief."),
    Message(Role.USER, "Wéather in Paris?"),
    Message(Role.ASSISTANT, tool_calls=(ToolCall("call_1", "weather", '{"city":"Paris"}'),)),
    Message(Role.TOOL, "12 °C", tool_call_id="call_1"),
)
VERSION = version(
    "claude-sonnet-4-5",
    parameters=Parameters(temperature=0.5, max_output_tokens=64, extra={"service_tier": "auto"}),
    tools=[WEATHER],
    response_format=CITY_FORMAT,
)


@pytest.fixture
async def egress() -> AsyncIterator[Egress]:
    async with Egress(EgressPolicy(allow_private=True)) as egress:
        yield egress


@each_adapter
@pytest.mark.parametrize("is_streamed", [False, True])
async def test_what_is_told_of_a_request_is_what_is_sent_byte_for_byte(
    egress: Egress, made: type[Exchange], kind: ProviderKind, is_streamed: bool
) -> None:
    received: list[tuple[str, str, bytes]] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
        method, path, _ = head.split(" ", 2)
        received.append((method, path, await reader.readexactly(length)))
        writer.write(b"HTTP/1.1 404 x\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    adapter = made(egress, TRACING, RETRY_STATUSES, max_response_bytes=10_000, max_stream_bytes=10_000)
    request = asked(adapter, kind, base_url + "/", VERSION, messages=CONVERSATION)
    method, url, body = adapter.request_of(request, streamed=is_streamed)
    if is_streamed:
        outcomes = await streamed(adapter, request)
    else:
        outcomes = [await adapter.complete(request, 5)]
    server.close()

    assert [type(each) for each in outcomes] == [ProviderFailure]
    assert received == [(method, url.removeprefix(base_url), body)]
    assert CREDENTIAL.encode() not in body
    told = json.loads(body)
    assert (told.get("stream", False), told["service_tier"]) == (is_streamed, "auto")


@each_adapter
async def test_a_request_says_for_itself_what_may_be_repeated(
    egress: Egress, upstream: Any, made: type[Exchange], kind: ProviderKind
) -> None:
    adapter = made(egress, TRACING, RETRY_STATUSES, max_response_bytes=10_000, max_stream_bytes=10_000)
    for status, statuses, is_retryable in ((503, (), True), (503, {429}, False), (418, {418}, True)):
        upstream.then(upstream.http(status, {}))
        request = asked(adapter, kind, upstream.base_url, VERSION, retry_statuses=frozenset(statuses))
        failure = await adapter.complete(request, 5)
        assert isinstance(failure, ProviderFailure)
        assert failure.is_retryable is is_retryable


async def test_a_prompt_that_does_not_fit_is_told_in_the_middle_of_a_stream_too(egress: Egress, upstream: Any) -> None:
    adapter = OpenAi(egress, TRACING, RETRY_STATUSES, max_response_bytes=10_000, max_stream_bytes=10_000)
    error = {"error": {"message": "This model's maximum context length is 4096 tokens.", "code": 400}}
    request = asked(adapter, ProviderKind.OPENAI, upstream.base_url, VERSION)
    for step in (upstream.streams([error]), upstream.http(200, error)):
        upstream.then(step)
        [failure] = await streamed(adapter, request)
        assert isinstance(failure, ProviderFailure)
        assert (failure.reason, failure.is_retryable) == (Reason.CONTEXT_LENGTH_EXCEEDED, False)


async def test_a_refusal_of_openai_is_filtered_content(egress: Egress, upstream: Any) -> None:
    adapter = OpenAi(egress, TRACING, RETRY_STATUSES, max_response_bytes=10_000, max_stream_bytes=10_000)
    request = asked(adapter, ProviderKind.OPENAI, upstream.base_url, VERSION)
    message = {"role": "assistant", "content": None, "refusal": "I'm sorry."}
    whole = upstream.completion(choices=[{"index": 0, "message": message, "finish_reason": "stop"}])
    pieces = [upstream.chunk(refusal="I'm "), upstream.chunk(refusal="sorry."), upstream.chunk(finish_reason="stop")]
    for step in (upstream.http(200, whole), upstream.streams([*pieces, upstream.done])):
        upstream.then(step)
        *_, answer = [
            piece async for piece in adapter.stream(request, total_seconds=5, first_seconds=5, idle_seconds=5)
        ]
        assert isinstance(answer, ProviderAnswer)
        assert (answer.message.content, answer.finish_reason) == ("I'm sorry.", FinishReason.CONTENT_FILTER)


async def test_signs_of_life_are_no_answer(egress: Egress, upstream: Any) -> None:
    adapter = Anthropic(egress, TRACING, RETRY_STATUSES, max_response_bytes=10_000, max_stream_bytes=10_000)
    request = asked(adapter, ProviderKind.ANTHROPIC, root(upstream), VERSION)
    upstream.then(upstream.streams([anthropic_start(), event("ping")], stalls=True))

    [failure] = await streamed(adapter, request, first=0.2, idle=60)

    assert (failure.reason, failure.http_status, failure.is_retryable) == (Reason.TIMEOUT, 200, True)
    assert failure.message == "no answer began within 0.2 s"


@pytest.mark.parametrize("status", [200, 503])
async def test_a_whole_answer_to_the_wish_for_a_stream_must_be_there_when_its_first_piece_must(
    egress: Egress, upstream: Any, status: int
) -> None:
    adapter = OpenAi(egress, TRACING, RETRY_STATUSES, max_response_bytes=10_000, max_stream_bytes=10_000)
    request = asked(adapter, ProviderKind.OPENAI, upstream.base_url, VERSION)

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 %d x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{" % status)
        await reader.read()

    upstream.then(slow)
    async with asyncio.timeout(4):
        # Bytes that come keep the connection from being idle, and say nothing.
        pieces = adapter.stream(request, total_seconds=60, first_seconds=0.2, idle_seconds=60)
        [failure] = [piece async for piece in pieces]

    assert isinstance(failure, ProviderFailure)
    assert (failure.reason, failure.http_status, failure.is_retryable) == (Reason.TIMEOUT, status, True)
    assert failure.message == "no answer began within 0.2 s"


async def test_no_more_of_a_whole_answer_is_taken_than_one_may_have(egress: Egress, upstream: Any) -> None:
    adapter = OpenAi(egress, TRACING, RETRY_STATUSES, max_response_bytes=100_000, max_stream_bytes=64 << 20)
    request = asked(adapter, ProviderKind.OPENAI, upstream.base_url, VERSION)
    sent = 0

    async def without_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 60000000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(600):
                writer.write(b" " * 100_000)
                await writer.drain()
                sent += 100_000

    upstream.then(without_end)
    [failure] = await streamed(adapter, request)

    assert isinstance(failure, ProviderFailure)
    assert failure.message == "the provider's answer has a piece of more than 100000 bytes"
    # What the kernel's buffers took counts as sent.
    assert sent < 30_000_000


async def test_a_media_type_is_the_same_in_capitals(egress: Egress, upstream: Any) -> None:
    adapter = OpenAi(egress, TRACING, RETRY_STATUSES, max_response_bytes=10_000, max_stream_bytes=10_000)
    request = asked(adapter, ProviderKind.OPENAI, upstream.base_url, VERSION)
    events = b"".join(b"data: %s\n\n" % json.dumps(each).encode() for each in upstream.paris[:-1]) + upstream.done
    upstream.then(upstream.http(200, events, content_type="Text/Event-Stream; charset=utf-8"))
    assert [type(each) for each in await streamed(adapter, request)] == [Started, Delta, Delta, ProviderAnswer]


async def test_a_stream_whose_last_packet_comes_late_does_not_cost_its_connection(upstream: Any) -> None:
    answered = asyncio.Event()

    async def in_two(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        events = b"".join(b"data: %s\n\n" % json.dumps(each).encode() for each in upstream.paris[:-1]) + upstream.done
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        writer.write(head + b"%x\r\n%b\r\n" % (len(events), events))
        await answered.wait()
        writer.write(b"0\r\n\r\n")

    # A second call waits until the first has given its connection back.
    async with Egress(EgressPolicy(allow_private=True), max_connections=1) as egress:
        adapter = OpenAi(egress, TRACING, RETRY_STATUSES, max_response_bytes=10_000, max_stream_bytes=10_000)
        request = asked(adapter, ProviderKind.OPENAI, upstream.base_url, VERSION)
        for _ in range(3):
            answered.clear()
            upstream.then(in_two)
            assert isinstance((await streamed(adapter, request))[-1], ProviderAnswer)
            answered.set()
        assert isinstance(await adapter.complete(request, 5), ProviderAnswer)

    assert (upstream.connections, len(upstream.received)) == (1, 4)


@pytest.mark.parametrize("first", [0.2, 5])
async def test_an_answer_that_stops_coming_times_out(egress: Egress, upstream: Any, first: float) -> None:
    adapter = OpenAi(egress, TRACING, RETRY_STATUSES, max_response_bytes=10_000, max_stream_bytes=10_000)
    request = asked(adapter, ProviderKind.OPENAI, upstream.base_url, VERSION)
    upstream.then(upstream.streams(upstream.paris[:2], stalls=True))

    *begun, failure = await streamed(adapter, request, first=first, idle=0.2)

    assert [type(each) for each in begun] == [Started, Delta]
    assert (failure.reason, failure.is_retryable) == (Reason.TIMEOUT, True)


async def test_a_model_may_think_longer_before_it_speaks_than_while_it_does(egress: Egress, upstream: Any) -> None:
    adapter = Anthropic(egress, TRACING, RETRY_STATUSES, max_response_bytes=10_000, max_stream_bytes=10_000)
    request = asked(adapter, ProviderKind.ANTHROPIC, root(upstream), VERSION)
    words = anthropic_block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": "Paris."})
    whole = b"".join([*words, *anthropic_end()])

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        started = anthropic_start()
        head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
        writer.write(f"{head}content-length: {len(started + whole)}\r\n\r\n".encode() + started)
        await writer.drain()
        await asyncio.sleep(0.4)
        writer.write(whole)

    upstream.then(slow)
    *_, answer = await streamed(adapter, request, first=5, idle=0.2)

    assert isinstance(answer, ProviderAnswer)


async def test_openai_s_own_client_sends_what_the_adapter_sends(upstream: Any) -> None:
    adapter = offline(OpenAi)
    of = version("gpt-4.1", parameters=Parameters(temperature=0.5, max_output_tokens=64), tools=[WEATHER])
    request = asked(adapter, ProviderKind.OPENAI, upstream.base_url, of, messages=CONVERSATION)
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
    messages: Any = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Wéather in Paris?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "12 °C", "tool_call_id": "call_1"},
    ]
    tools: Any = [WEATHER]
    async with openai.AsyncOpenAI(api_key=CREDENTIAL, base_url=upstream.base_url, max_retries=0) as client:
        await client.chat.completions.create(
            model="gpt-4.1", messages=messages, temperature=0.5, max_completion_tokens=64, tools=tools
        )
    [received] = upstream.received
    method, url, body = adapter.request_of(request, streamed=False)
    assert (method, url, json.loads(body)) == ("POST", upstream.base_url + "/chat/completions", received.body)
    headers = {name.lower(): value for name, value in adapter.headers(request, "application/json").items()}
    assert headers.items() <= received.headers.items()


def test_what_these_tests_answer_has_the_shape_that_openai_s_own_client_expects(upstream: Any) -> None:
    whole = upstream.completion(created=1, usage={"prompt_tokens": 24, "completion_tokens": 8, "total_tokens": 32})
    assert ChatCompletion.model_validate(whole, strict=True).choices[0].message.content == "Paris."
    piece = upstream.chunk("Par") | {"created": 1}
    assert ChatCompletionChunk.model_validate(piece, strict=True).choices[0].delta.content == "Par"


WORDS = [
    "choices", "message", "delta", "content", "content_block", "tool_calls", "function", "name", "arguments", "input",
    "usage", "error", "model", "index", "type", "id", "text", "thinking", "partial_json", "done", "done_reason",
    "stop_reason", "prompt_eval_count", "input_tokens", "output_tokens", "cache_read_input_tokens",
]  # fmt: skip
KINDS = [
    "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "error",
    "text_delta", "input_json_delta", "tool_use", "text", "thinking", "thinking_delta",
]  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**63) | st.floats(allow_nan=False) | st.sampled_from([*KINDS, ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5),
    max_leaves=8,
)
events = st.dictionaries(st.sampled_from(WORDS), json_values, max_size=6) | st.builds(
    lambda kind, index, block: {"type": kind, "index": index, "content_block": block, "delta": block, "message": block},
    st.sampled_from(KINDS),
    st.integers(0, 1) | st.none(),
    st.fixed_dictionaries({"type": st.sampled_from(KINDS)}, optional={"name": st.just("f"), "input": json_values}),
)


DATES = [
    "Mon, 01 Jan 99999999999 00:00:00 GMT",
    "Mon, 01 Jan 2020 00:00:00 +99999999999999",
    "1 Jan 2020 9999999999:00",
]
date_words = st.sampled_from(
    ["Mon,", "01", "Jan", "2020", "9" * 20, "00:00:00", "24:61:61", "+99999999", "-0000", "GMT"]
)
headers = st.fixed_dictionaries(
    {},
    optional={
        "Content-Type": st.sampled_from(["application/json", "text/html", "; charset=x", "\xff"]),
        "Retry-After": st.sampled_from([*DATES, "-1", "1e9", "1.5", "\xb2", "9" * 400])
        | st.lists(date_words, max_size=6).map(" ".join)
        | st.text(st.characters(max_codepoint=255), max_size=12),
    },
)


@each_adapter
@settings(max_examples=100)
@given(body=events, status=st.just(200) | st.integers(200, 599), headers=headers)
@example(body={}, status=503, headers={"Retry-After": DATES[0]})
@example(body={}, status=429, headers={"Retry-After": DATES[1]})
@example(body={}, status=503, headers={"Retry-After": DATES[2]})
def test_whatever_comes_it_is_an_answer_or_a_failure(
    made: type[Exchange], kind: ProviderKind, body: Any, status: int, headers: dict[str, str]
) -> None:
    adapter = offline(made)
    request = asked(adapter, kind, "http://127.0.0.1:1", VERSION, messages=QUESTION)
    bodies = (body, {"content": [body], "message": body, "choices": [{"message": body}], "usage": body})
    for each in bodies:
        response = EgressResponse(status, CIMultiDictProxy(CIMultiDict(headers)), json.dumps(each).encode())
        outcome = adapter.outcome(response, request)
        assert isinstance(outcome, (ProviderAnswer, ProviderFailure))
        if isinstance(outcome, ProviderFailure):
            assert len(outcome.message) < 300
            assert outcome.retry_after_seconds is None or outcome.retry_after_seconds >= 0


@each_adapter
def test_arguments_that_are_nested_without_end_are_a_failure(made: type[Exchange], kind: ProviderKind) -> None:
    adapter = offline(made)
    request = asked(adapter, kind, "http://127.0.0.1:1", VERSION, messages=QUESTION)
    deep = b'{"a":' * 1000 + b"1" + b"}" * 1000
    function = b'{"type":"tool_use","id":"c","name":"f","input":%s,"function":{"name":"f","arguments":%s}}' % (
        deep,
        deep,
    )
    message = b'{"tool_calls":[%s]}' % function
    body = b'{"content":[%s],"message":%s,"choices":[{"message":%s}]}' % (function, message, message)
    outcome = adapter.outcome(EgressResponse(200, CIMultiDictProxy(CIMultiDict()), body), request)
    assert isinstance(outcome, ProviderFailure)
    assert outcome.reason is Reason.MALFORMED_RESPONSE

    begun = b'{"type":"content_block_start","index":0,"content_block":%s,' % function
    with pytest.raises(Malformed, match="too deeply"):
        adapter.assembly(request).take(begun + b'"message":%s,"choices":[{"delta":%s}]}' % (message, message))


@each_adapter
@settings(max_examples=50)
@given(said=st.lists(events, max_size=4))
def test_whatever_is_streamed_it_is_an_answer_or_a_failure(
    made: type[Exchange], kind: ProviderKind, said: list[Any]
) -> None:
    adapter = offline(made)
    assembly = adapter.assembly(asked(adapter, kind, "http://127.0.0.1:1", VERSION, messages=QUESTION))
    try:
        for each in said:
            assembly.take(json.dumps(each).encode())
        answer = assembly.end(200)
    except (Malformed, Told):
        return
    assert isinstance(answer, ProviderAnswer)


@pytest.mark.parametrize("first", [0.2, 5])
async def test_signs_of_life_between_pieces_are_no_pieces(egress: Egress, upstream: Any, first: float) -> None:
    adapter = OpenAi(egress, TRACING, RETRY_STATUSES, max_response_bytes=10_000, max_stream_bytes=1_000_000)
    request = asked(adapter, ProviderKind.OPENAI, upstream.base_url, version())

    async def alive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        writer.write(b"data: %s\n\n" % json.dumps(upstream.chunk("Par")).encode())
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b": PROCESSING\n\n")
                await writer.drain()
                await asyncio.sleep(0.05)

    upstream.then(alive)
    async with asyncio.timeout(4):
        *begun, failure = await streamed(adapter, request, first=first, idle=0.2)

    assert [type(each) for each in begun] == [Started, Delta]
    assert (failure.reason, failure.message) == (Reason.TIMEOUT, "no answer went on within 0.2 s")
