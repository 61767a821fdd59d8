"""The official clients read what our adapters read, and would send what our adapters send."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import ollama
import openai
import orjson
import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from ollama._types import ChatRequest
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import ConfigDict, TypeAdapter, with_config

from catalog.view import ProviderKind
from completions.chat import ImagePart, Message, Role, TextPart, ToolCall
from completions.version import Parameters, Version
from kit.egress import Egress, EgressPolicy
from services.executor.domain import ProviderAnswer
from services.executor.providers.anthropic import Anthropic
from services.executor.providers.exchange import Exchange
from services.executor.providers.ollama import Ollama
from services.executor.providers.openai import OpenAi
from tests.services.executor.providers.wires import (
    CITY_FORMAT,
    CLOCK,
    CREDENTIAL,
    QUESTION,
    RETRY_STATUSES,
    TRACING,
    WEATHER,
    Lines,
    anthropic_block,
    anthropic_end,
    anthropic_message,
    anthropic_start,
    asked,
    event,
    ollama_chat,
    ollama_piece,
    root,
    streamed,
    version,
)

ASK: Any = [{"role": "user", "content": "What is the capital of France?"}]
ADAPTERS: dict[ProviderKind, type[Exchange]] = {
    ProviderKind.ANTHROPIC: Anthropic,
    ProviderKind.OLLAMA: Ollama,
    ProviderKind.OPENAI_COMPATIBLE: OpenAi,
}
MODELS = {
    ProviderKind.ANTHROPIC: "claude-sonnet-5-5",
    ProviderKind.OLLAMA: "llama3.2",
    ProviderKind.OPENAI_COMPATIBLE: "test-model",
}
PICTURE = "data:image/png;base64,iVBORw0KGgo="
TALK = (
    Message(Role.SYSTEM, "Be brief."),
    Message(Role.USER, parts=(TextPart("What is this?"), ImagePart(PICTURE))),
    Message(Role.ASSISTANT, tool_calls=(ToolCall("call_1", "weather", '{"city":"Paris"}'),)),
    Message(Role.TOOL, "sunny", tool_call_id="call_1"),
    Message(Role.USER, "And tomorrow?"),
)
Told = tuple[str, list[tuple[str, Any]], int | None, int | None]
"""Text, calls of tools, tokens read and written."""


@pytest.fixture
async def egress() -> AsyncIterator[Egress]:
    async with Egress(EgressPolicy(allow_private=True)) as one:
        yield one


def adapter_of(kind: ProviderKind, egress: Egress | None) -> Exchange:
    return ADAPTERS[kind](egress, TRACING, RETRY_STATUSES, 100_000, 100_000)  # type: ignore[arg-type]  # some send nothing


async def ours(egress: Egress, kind: ProviderKind, upstream: Any, *, is_streamed: bool) -> Told:
    adapter, base = adapter_of(kind, egress), upstream.base_url
    base = base if kind is ProviderKind.OPENAI_COMPATIBLE else root(upstream)
    request = asked(adapter, kind, base, version(MODELS[kind]))
    answer = (await streamed(adapter, request))[-1] if is_streamed else await adapter.complete(request, 5)
    assert isinstance(answer, ProviderAnswer), answer
    calls = [(call.name, json.loads(call.arguments_json)) for call in answer.message.tool_calls]
    return answer.message.content, calls, answer.usage.input_tokens, answer.usage.output_tokens


async def anthropics(upstream: Any, *, is_streamed: bool) -> Told:
    given: Any = {"model": "claude-sonnet-5-5", "max_tokens": 100, "messages": ASK}
    async with anthropic.AsyncAnthropic(base_url=root(upstream), api_key=CREDENTIAL, max_retries=0) as client:
        if is_streamed:
            async with client.messages.stream(**given) as stream:
                message = await stream.get_final_message()
        else:
            message = await client.messages.create(**given)
    calls = [(block.name, block.input) for block in message.content if block.type == "tool_use"]
    usage = message.usage
    # What a cache gave or took is told apart; ours counts all that was read.
    read = usage.input_tokens + (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
    return "".join(block.text for block in message.content if block.type == "text"), calls, read, usage.output_tokens


async def ollamas(upstream: Any, *, is_streamed: bool) -> Told:
    async with ollama.AsyncClient(host=root(upstream)) as client:
        if is_streamed:
            pieces = [piece async for piece in await client.chat("llama3.2", ASK, stream=True)]
        else:
            pieces = [await client.chat("llama3.2", ASK)]
    calls = [
        (call.function.name, dict(call.function.arguments))
        for piece in pieces
        for call in piece.message.tool_calls or ()
    ]
    text = "".join(piece.message.content or "" for piece in pieces)
    return text, calls, pieces[-1].prompt_eval_count, pieces[-1].eval_count


async def openais(upstream: Any, *, is_streamed: bool) -> Told:
    given: Any = {"model": "test-model", "messages": ASK}
    async with openai.AsyncOpenAI(base_url=upstream.base_url, api_key=CREDENTIAL, max_retries=0) as client:
        if is_streamed:
            async with client.chat.completions.stream(**given, stream_options={"include_usage": True}) as stream:
                answer: Any = await stream.get_final_completion()
        else:
            answer = await client.chat.completions.create(**given)
    message = answer.choices[0].message
    calls = [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or ()]
    return message.content or "", calls, answer.usage.prompt_tokens, answer.usage.completion_tokens


OFFICIAL: dict[ProviderKind, Any] = {
    ProviderKind.ANTHROPIC: anthropics,
    ProviderKind.OLLAMA: ollamas,
    ProviderKind.OPENAI_COMPATIBLE: openais,
}


def anthropic_whole(upstream: Any) -> Any:
    usage = {"input_tokens": 12, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 7, "output_tokens": 6}
    text, tool = {"type": "text", "text": "I'll look."}, {"city": "Paris"}
    call = {"type": "tool_use", "id": "toolu_01", "name": "weather", "input": tool}
    return upstream.http(200, anthropic_message(text, call, stop_reason="tool_use", usage=usage))


def anthropic_pieces(upstream: Any) -> Any:
    call = {"type": "tool_use", "id": "toolu_01", "name": "weather", "input": {}}
    arguments = [{"type": "input_json_delta", "partial_json": piece} for piece in ('{"ci', 'ty":"Paris"}')]
    return upstream.streams(
        [
            anthropic_start(cache_read_input_tokens=7),
            event("ping"),
            *anthropic_block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": "I'll look."}),
            *anthropic_block(1, call, *arguments),
            *anthropic_end("tool_use"),
        ]
    )


OLLAMA_CALL = [{"function": {"name": "weather", "arguments": {"city": "Paris"}}}]


def ollama_whole(upstream: Any) -> Any:
    return upstream.http(200, ollama_chat("I'll look.", tool_calls=OLLAMA_CALL))


def ollama_pieces(upstream: Any) -> Any:
    return Lines([ollama_piece("I'll "), ollama_piece("look."), ollama_piece(tool_calls=OLLAMA_CALL), ollama_chat("")])


def openai_whole(upstream: Any) -> Any:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
    message = {"role": "assistant", "content": "I'll look.", "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    return upstream.http(200, upstream.completion(choices=[choice], created=1))


def openai_pieces(upstream: Any) -> Any:
    first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"ci'}}
    rest = {"index": 0, "function": {"arguments": 'ty":"Paris"}'}}
    usage = {"prompt_tokens": 24, "completion_tokens": 8, "total_tokens": 32}
    chunks = [
        upstream.chunk("I'll look.", role="assistant"),
        upstream.chunk(tool_calls=[first]),
        upstream.chunk(tool_calls=[rest], finish_reason="tool_calls"),
        upstream.chunk(choices=[], usage=usage),
    ]
    return upstream.streams([*({**each, "created": 1} for each in chunks), b"data: [DONE]\n\n"])


ANSWERS: dict[ProviderKind, tuple[Any, Any]] = {
    ProviderKind.ANTHROPIC: (anthropic_whole, anthropic_pieces),
    ProviderKind.OLLAMA: (ollama_whole, ollama_pieces),
    ProviderKind.OPENAI_COMPATIBLE: (openai_whole, openai_pieces),
}


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("kind", ADAPTERS)
async def test_an_answer_is_read_as_the_official_client_reads_it(
    egress: Egress, upstream: Any, kind: ProviderKind, is_streamed: bool
) -> None:
    upstream.then(ANSWERS[kind][is_streamed](upstream))
    theirs = await OFFICIAL[kind](upstream, is_streamed=is_streamed)
    upstream.then(ANSWERS[kind][is_streamed](upstream))

    assert await ours(egress, kind, upstream, is_streamed=is_streamed) == theirs
    assert theirs[:2] == ("I'll look.", [("weather", {"city": "Paris"})])


CLOSED = with_config(ConfigDict(extra="forbid"))
SHAPES: dict[ProviderKind, TypeAdapter[Any]] = {
    ProviderKind.ANTHROPIC: TypeAdapter(CLOSED(MessageCreateParamsNonStreaming)),
    ProviderKind.OLLAMA: TypeAdapter(ChatRequest),
    ProviderKind.OPENAI_COMPATIBLE: TypeAdapter(CLOSED(CompletionCreateParamsNonStreaming)),
}


@pytest.mark.parametrize(
    "parameters",
    [
        Parameters(),
        Parameters(temperature=0.5, max_output_tokens=2000, stop=("END",), seed=7),
        Parameters(top_p=0.9, presence_penalty=0.5, frequency_penalty=0.5, parallel_tool_calls=False),
        Parameters(reasoning_effort="low", max_output_tokens=4000),
    ],
)
@pytest.mark.parametrize(
    "extra", [{}, {"tools": [WEATHER, CLOCK], "tool_choice": "auto"}, {"response_format": CITY_FORMAT}]
)
@pytest.mark.parametrize("kind", ADAPTERS)
def test_a_request_has_the_shape_that_the_official_client_sends(
    kind: ProviderKind, parameters: Parameters, extra: dict[str, Any]
) -> None:
    adapter = adapter_of(kind, None)
    of = Version("prv_main", MODELS[kind], parameters=parameters, **extra)
    for messages in (QUESTION, TALK):
        request = asked(adapter, kind, "https://x", of, messages=messages)
        body = orjson.loads(adapter.request_of(request, streamed=False).body)
        read = SHAPES[kind].validate_python(body)
        assert read is not None


async def test_it_is_asked_where_the_official_client_asks_and_with_the_same_credential(
    egress: Egress, upstream: Any
) -> None:
    upstream.then(upstream.http(200, anthropic_message()))
    await anthropics(upstream, is_streamed=False)
    upstream.then(upstream.http(200, anthropic_message()))
    await ours(egress, ProviderKind.ANTHROPIC, upstream, is_streamed=False)

    theirs, our = upstream.received
    assert our.path == theirs.path
    assert our.headers["content-type"] == theirs.headers["content-type"]
    # Their client says it as a bearer's token since 2.0; the documentation, and all servers in its contract, as a key.
    assert theirs.headers["authorization"] == f"Bearer {our.headers['x-api-key']}"
    # A version of the contract is what its answers keep to: the one that all models, and other servers too, speak.
    assert our.headers["anthropic-version"] == "2023-06-01"
    assert theirs.headers["anthropic-version"] >= our.headers["anthropic-version"]
