from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from catalog.view import ProviderKind
from completions.chat import ImagePart, Message, Role, TextPart, ToolCall
from completions.version import Parameters, Version
from kit.egress import Egress, EgressPolicy
from services.executor.domain import FinishReason, ProviderAnswer, ProviderFailure, Reason, Usage
from services.executor.providers.ollama import Ollama
from tests.services.executor.providers.wires import (
    CITY_FORMAT,
    CLOCK,
    CREDENTIAL,
    QUESTION,
    RETRY_STATUSES,
    TRACING,
    WEATHER,
    asked,
    ollama_chat,
    root,
    version,
)

OFFLINE = Ollama(None, TRACING, RETRY_STATUSES, 1000, 1000)  # type: ignore[arg-type]  # sends nothing


@pytest.fixture
async def adapter() -> AsyncIterator[Ollama]:
    async with Egress(EgressPolicy(allow_private=True)) as egress:
        yield Ollama(egress, TRACING, RETRY_STATUSES, max_response_bytes=100_000, max_stream_bytes=100_000)


def sent(of: Version, messages: Any = QUESTION) -> dict[str, Any]:
    """The body of a request."""
    request = asked(OFFLINE, ProviderKind.OLLAMA, "http://x", of, messages=messages)
    body: dict[str, Any] = orjson.loads(OFFLINE.request_of(request, streamed=False)[2])
    return body


def with_parameters(model: str = "llama3.2", **parameters: Any) -> dict[str, Any]:
    return sent(version(model, parameters=Parameters(**parameters)))


async def outcome_of(adapter: Ollama, upstream: Any, step: Any, **fields: Any) -> ProviderAnswer | ProviderFailure:
    upstream.then(step)
    of = version("llama3.2")
    return await adapter.complete(asked(adapter, ProviderKind.OLLAMA, root(upstream), of, **fields), 5)


async def test_an_answer_is_read_whole(adapter: Ollama, upstream: Any) -> None:
    answer = await outcome_of(adapter, upstream, upstream.http(200, ollama_chat("Paris.", thinking="France, so")))

    assert answer == ProviderAnswer(
        Message(Role.ASSISTANT, "Paris.", reasoning="France, so"), FinishReason.STOP, Usage(26, 8), "llama3.2", 200
    )
    [received] = upstream.received
    assert received.path == "/api/chat"
    assert received.headers["authorization"] == f"Bearer {CREDENTIAL}"
    assert received.body == {
        "model": "llama3.2",
        "truncate": False,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "stream": False,
    }


async def test_tool_calls_are_read_and_each_has_an_id(adapter: Ollama, upstream: Any) -> None:
    calls = [
        {"function": {"name": "weather", "arguments": {"city": "Paris"}}},
        {"function": {"name": "weather", "arguments": {"city": "Rome"}}},
        {"id": "call_given", "function": {"index": 2, "name": "clock", "arguments": {}}},
    ]
    answer = await outcome_of(adapter, upstream, upstream.http(200, ollama_chat("", tool_calls=calls)))

    assert isinstance(answer, ProviderAnswer)
    first, second, third = answer.message.tool_calls
    assert (first.name, first.arguments_json) == ("weather", '{"city":"Paris"}')
    assert first.id.startswith("call_")
    assert first.id != second.id
    assert third == ToolCall("call_given", "clock", "{}")
    assert answer.finish_reason is FinishReason.TOOL_CALLS


@pytest.mark.parametrize(
    ("done_reason", "finish_reason"),
    [
        ("stop", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("load", FinishReason.OTHER),
        (None, None),
    ],
)
async def test_why_the_model_stopped(
    adapter: Ollama, upstream: Any, done_reason: str | None, finish_reason: FinishReason | None
) -> None:
    answer = await outcome_of(adapter, upstream, upstream.http(200, ollama_chat(done_reason=done_reason)))
    assert isinstance(answer, ProviderAnswer)
    assert answer.finish_reason is finish_reason


async def test_counts_that_were_not_told_are_unknown(adapter: Ollama, upstream: Any) -> None:
    chat = ollama_chat()
    del chat["prompt_eval_count"]
    answer = await outcome_of(adapter, upstream, upstream.http(200, chat))
    assert isinstance(answer, ProviderAnswer)
    assert answer.usage == Usage(None, 8)


@pytest.mark.parametrize(
    ("status", "words", "reason", "is_retryable"),
    [
        (404, "model 'llama3.2' not found", Reason.MODEL_NOT_FOUND, False),
        (400, '"llama3.2" does not support thinking', Reason.REJECTED_REQUEST, False),
        (400, "the input length exceeds the context length", Reason.CONTEXT_LENGTH_EXCEEDED, False),
        (500, "llama runner process has terminated: exit status 2", Reason.ERROR, True),
        (503, "server busy, please try again. maximum pending requests exceeded", Reason.ERROR, True),
    ],
)
async def test_what_an_error_means(
    adapter: Ollama, upstream: Any, status: int, words: str, reason: Reason, is_retryable: bool
) -> None:
    failure = await outcome_of(adapter, upstream, upstream.http(status, {"error": words}))
    assert isinstance(failure, ProviderFailure)
    assert (failure.reason, failure.http_status, failure.is_retryable) == (reason, status, is_retryable)
    assert words in failure.message


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", Reason.MALFORMED_RESPONSE),
        ([], Reason.MALFORMED_RESPONSE),
        ({}, Reason.MALFORMED_RESPONSE),
        ({"message": "Paris."}, Reason.MALFORMED_RESPONSE),
        (ollama_chat("", tool_calls="clock"), Reason.MALFORMED_RESPONSE),
        (ollama_chat("", tool_calls=["clock"]), Reason.MALFORMED_RESPONSE),
        (ollama_chat("", tool_calls=[{"function": {"arguments": {}}}]), Reason.MALFORMED_RESPONSE),
        ({"error": "an error was encountered while running the model"}, Reason.ERROR),
    ],
)
async def test_a_garbage_answer_is_a_failure_that_may_be_retried(
    adapter: Ollama, upstream: Any, body: Any, reason: Reason
) -> None:
    failure = await outcome_of(adapter, upstream, upstream.http(200, body))
    assert isinstance(failure, ProviderFailure)
    assert (failure.reason, failure.is_retryable) == (reason, True)


async def test_a_picture_by_its_address_fails_before_anything_is_sent(adapter: Ollama, upstream: Any) -> None:
    messages = (Message(Role.USER, parts=(ImagePart("https://example.com/cat.png"),)),)
    failure = await outcome_of(adapter, upstream, upstream.http(200, ollama_chat()), messages=messages)
    assert isinstance(failure, ProviderFailure)
    assert (failure.reason, failure.is_retryable) == (Reason.REJECTED_REQUEST, False)
    assert "data: URL" in failure.message
    assert upstream.received == []


def test_parameters_are_options() -> None:
    body = with_parameters(
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        max_output_tokens=64,
        presence_penalty=0.1,
        frequency_penalty=-0.1,
        seed=7,
        stop=("END",),
        extra={"options": {"num_ctx": 8192, "seed": 8}, "keep_alive": "10m", "truncate": True, "stream": True},
    )
    assert body == {
        "model": "llama3.2",
        "options": {
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 40,
            "num_predict": 64,
            "presence_penalty": 0.1,
            "frequency_penalty": -0.1,
            "stop": ["END"],
            "seed": 8,
            "num_ctx": 8192,
        },
        "truncate": True,
        "keep_alive": "10m",
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "stream": False,
    }


@pytest.mark.parametrize(
    ("model", "parameters", "think"),
    [
        ("qwen3", {}, None),
        ("qwen3", {"reasoning_effort": "low"}, True),
        ("qwen3", {"reasoning_effort": "none"}, False),
        ("qwen3", {"reasoning_budget_tokens": 0}, False),
        ("qwen3", {"reasoning_budget_tokens": 2048}, True),
        ("gpt-oss:20b", {"reasoning_effort": "minimal"}, "low"),
        ("gpt-oss:20b", {"reasoning_effort": "high"}, "high"),
    ],
)
def test_how_much_it_thinks(model: str, parameters: Any, think: Any) -> None:
    assert with_parameters(model, **parameters).get("think") == think


def test_answers_are_formed_natively() -> None:
    assert sent(version(response_format=CITY_FORMAT))["format"] == CITY_FORMAT["json_schema"]["schema"]
    assert sent(version(response_format={"type": "json_object"}))["format"] == "json"
    assert "format" not in sent(version(response_format={"type": "text"}))


@pytest.mark.parametrize(
    ("choice", "tools"),
    [
        (None, [WEATHER, CLOCK]),
        ("auto", [WEATHER, CLOCK]),
        ("required", [WEATHER, CLOCK]),
        ("none", None),
        ({"type": "function", "function": {"name": "clock"}}, [CLOCK]),
    ],
)
def test_a_choice_of_tools_is_what_is_offered(choice: Any, tools: Any) -> None:
    body = sent(version(tools=[WEATHER, CLOCK], tool_choice=choice))
    assert body.get("tools") == tools
    assert "tool_choice" not in body


def test_every_kind_of_message_is_sent() -> None:
    picture = ImagePart("data:image/png;base64,iVBORw==")
    calls = (ToolCall("c1", "look", '{"at":1}'), ToolCall("c2", "jump", "oops"))
    messages = (
        Message(Role.DEVELOPER, "Be brief."),
        Message(Role.USER, parts=(TextPart("What is this?"), picture, TextPart("Quick."))),
        Message(Role.ASSISTANT, tool_calls=calls, reasoning="hm"),
        Message(Role.TOOL, "a cat", tool_call_id="c1"),
        Message(Role.TOOL, "high", tool_call_id="c9"),
    )
    assert sent(version(), messages)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is this?\nQuick.", "images": ["iVBORw=="]},
        {
            "role": "assistant",
            "content": "",
            "thinking": "hm",
            "tool_calls": [
                {"id": "c1", "function": {"name": "look", "arguments": {"at": 1}}},
                {"id": "c2", "function": {"name": "jump", "arguments": {"arguments": "oops"}}},
            ],
        },
        {"role": "tool", "content": "a cat", "tool_name": "look", "tool_call_id": "c1"},
        {"role": "tool", "content": "high", "tool_call_id": "c9"},
    ]
