from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from catalog.view import ProviderKind
from completions.chat import Message, Role, ToolCall
from completions.version import Parameters, Version
from kit.egress import Egress, EgressPolicy
from kit.errors import Invalid
from services.executor.domain import FinishReason, ProviderAnswer, ProviderFailure, Reason, Usage
from services.executor.providers.anthropic import Anthropic
from tests.services.executor.providers.wires import (
    CITY_FORMAT,
    CLOCK,
    CREDENTIAL,
    QUESTION,
    RETRY_STATUSES,
    TRACING,
    WEATHER,
    anthropic_error,
    anthropic_message,
    asked,
    root,
    version,
)

OFFLINE = Anthropic(None, TRACING, RETRY_STATUSES, 1000, 1000)  # type: ignore[arg-type]  # sends nothing


@pytest.fixture
async def adapter() -> AsyncIterator[Anthropic]:
    async with Egress(EgressPolicy(allow_private=True)) as egress:
        yield Anthropic(egress, TRACING, RETRY_STATUSES, max_response_bytes=100_000, max_stream_bytes=100_000)


def sent(of: Version, messages: Any = QUESTION) -> dict[str, Any]:
    """The body of a request."""
    request = asked(OFFLINE, ProviderKind.ANTHROPIC, "https://x", of, messages=messages)
    body: dict[str, Any] = orjson.loads(OFFLINE.request_of(request, streamed=False)[2])
    return body


def with_parameters(model: str = "claude-sonnet-4-5", **parameters: Any) -> dict[str, Any]:
    return sent(version(model, parameters=Parameters(**parameters)))


async def outcome_of(adapter: Anthropic, upstream: Any, step: Any, **fields: Any) -> ProviderAnswer | ProviderFailure:
    upstream.then(step)
    return await adapter.complete(asked(adapter, ProviderKind.ANTHROPIC, root(upstream), version(), **fields), 5)


async def test_an_answer_is_read_whole(adapter: Anthropic, upstream: Any) -> None:
    usage = {
        "input_tokens": 12,
        "cache_creation_input_tokens": 100,
        "cache_creation": {"ephemeral_5m_input_tokens": 70, "ephemeral_1h_input_tokens": 30},
        "cache_read_input_tokens": 2000,
        "output_tokens": 60,
        "output_tokens_details": {"thinking_tokens": 40},
    }
    message = anthropic_message(
        {"type": "thinking", "thinking": "France, so", "signature": "EqoBCkgIARABGAIiQ=="},
        {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix"},
        {"type": "text", "text": "Par"},
        {"type": "text", "text": "is.", "citations": None},
        usage=usage,
    )
    answer = await outcome_of(adapter, upstream, upstream.http(200, message))

    assert answer == ProviderAnswer(
        Message(Role.ASSISTANT, "Paris.", reasoning="France, so"),
        FinishReason.STOP,
        # What the cache gave and took was read too.
        Usage(2112, 60, 2000, 40, 100, 30),
        "claude-sonnet-4-5-20250929",
        200,
    )
    [received] = upstream.received
    assert received.path == "/v1/messages"
    assert received.headers["x-api-key"] == CREDENTIAL
    assert received.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in received.headers
    assert received.body == {
        "model": "claude-sonnet-4-5",
        "max_tokens": 32_000,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
    }


async def test_tool_calls_are_read(adapter: Anthropic, upstream: Any) -> None:
    message = anthropic_message(
        {"type": "text", "text": "I'll look."},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
        {"type": "tool_use", "id": "toolu_01", "name": "weather", "input": {"city": "Paris"}},
        {"type": "tool_use", "id": "toolu_02", "name": "clock", "input": {}},
        stop_reason="tool_use",
        usage={"input_tokens": 12, "output_tokens": 6},
    )
    answer = await outcome_of(adapter, upstream, upstream.http(200, message))

    assert isinstance(answer, ProviderAnswer)
    assert answer.message.content == "I'll look."
    assert answer.message.tool_calls == (
        ToolCall("toolu_01", "weather", '{"city":"Paris"}'),
        ToolCall("toolu_02", "clock", "{}"),
    )
    assert answer.finish_reason is FinishReason.TOOL_CALLS
    assert answer.usage == Usage(12, 6)


@pytest.mark.parametrize(
    ("stop_reason", "finish_reason"),
    [
        ("end_turn", FinishReason.STOP),
        ("stop_sequence", FinishReason.STOP),
        ("max_tokens", FinishReason.LENGTH),
        ("model_context_window_exceeded", FinishReason.LENGTH),
        ("tool_use", FinishReason.TOOL_CALLS),
        ("refusal", FinishReason.CONTENT_FILTER),
        ("pause_turn", FinishReason.OTHER),
        (None, None),
    ],
)
async def test_why_the_model_stopped(
    adapter: Anthropic, upstream: Any, stop_reason: str | None, finish_reason: FinishReason | None
) -> None:
    answer = await outcome_of(adapter, upstream, upstream.http(200, anthropic_message(stop_reason=stop_reason)))
    assert isinstance(answer, ProviderAnswer)
    assert answer.finish_reason is finish_reason


@pytest.mark.parametrize(
    ("status", "kind", "reason", "is_retryable"),
    [
        (400, "invalid_request_error", Reason.REJECTED_REQUEST, False),
        (401, "authentication_error", Reason.CREDENTIAL_REFUSED, False),
        (402, "billing_error", Reason.CREDENTIAL_REFUSED, False),
        (403, "permission_error", Reason.CREDENTIAL_REFUSED, False),
        (404, "not_found_error", Reason.MODEL_NOT_FOUND, False),
        (413, "request_too_large", Reason.REJECTED_REQUEST, False),
        (429, "rate_limit_error", Reason.RATE_LIMITED, True),
        (500, "api_error", Reason.ERROR, True),
        (504, "timeout_error", Reason.ERROR, True),
        (529, "overloaded_error", Reason.ERROR, True),
    ],
)
async def test_what_an_error_means(
    adapter: Anthropic, upstream: Any, status: int, kind: str, reason: Reason, is_retryable: bool
) -> None:
    body = anthropic_error(kind, f"No: {CREDENTIAL}")
    failure = await outcome_of(adapter, upstream, upstream.http(status, body, ["retry-after: 4"]))
    assert failure == ProviderFailure(
        reason, f'the provider answered HTTP {status}: "No: <secret>"', status, is_retryable, 4
    )


async def test_a_prompt_that_is_too_long_is_told_apart(adapter: Anthropic, upstream: Any) -> None:
    body = anthropic_error("invalid_request_error", "prompt is too long: 208310 tokens > 200000 maximum")
    failure = await outcome_of(adapter, upstream, upstream.http(400, body))
    assert isinstance(failure, ProviderFailure)
    assert (failure.reason, failure.is_retryable) == (Reason.CONTEXT_LENGTH_EXCEEDED, False)


async def test_an_account_without_money_is_the_operator_s_matter(adapter: Anthropic, upstream: Any) -> None:
    words = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing."
    failure = await outcome_of(
        adapter, upstream, upstream.http(400, anthropic_error("invalid_request_error", words)), retry_statuses={400}
    )
    assert failure == ProviderFailure(
        Reason.CREDENTIAL_REFUSED, f'the provider answered HTTP 400: "{words}"', 400, is_retryable=False
    )


async def test_a_variant_says_for_itself_what_is_repeated(adapter: Anthropic, upstream: Any) -> None:
    for status, statuses, is_retryable in ((529, {503}, True), (529, {429}, False), (503, {429}, False)):
        busy = upstream.http(status, anthropic_error("overloaded_error", "Overloaded"))
        failure = await outcome_of(adapter, upstream, busy, retry_statuses=frozenset(statuses))
        assert isinstance(failure, ProviderFailure)
        assert failure.is_retryable is is_retryable


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        [],
        {},
        {"content": "Paris."},
        {"content": ["Paris."]},
        {"content": [{"type": "tool_use", "id": "toolu_1", "input": {}}]},
        anthropic_error("api_error", "oops"),
    ],
)
async def test_a_garbage_answer_is_a_failure_that_may_be_retried(adapter: Anthropic, upstream: Any, body: Any) -> None:
    failure = await outcome_of(adapter, upstream, upstream.http(200, body))
    assert isinstance(failure, ProviderFailure)
    assert (failure.reason, failure.is_retryable) == (Reason.MALFORMED_RESPONSE, True)


async def test_messages_that_cannot_be_said_fail_before_anything_is_sent(adapter: Anthropic, upstream: Any) -> None:
    request = asked(adapter, ProviderKind.ANTHROPIC, root(upstream), version(), messages=(Message(Role.USER),))
    failure = await adapter.complete(request, 5)
    pieces = [piece async for piece in adapter.stream(request, total_seconds=5, first_seconds=5, idle_seconds=5)]

    assert isinstance(failure, ProviderFailure)
    assert (failure.reason, failure.http_status, failure.is_retryable) == (Reason.REJECTED_REQUEST, 0, False)
    assert pieces == [failure]
    assert upstream.received == []


async def test_an_answer_that_has_begun_is_not_sent_to_what_does_not_continue_it(
    adapter: Anthropic, upstream: Any
) -> None:
    begun = (*QUESTION, Message(Role.ASSISTANT, "{"))
    assert sent(version("claude-opus-4-5"), begun)["messages"][1] == {"role": "assistant", "content": "{"}

    request = asked(adapter, ProviderKind.ANTHROPIC, root(upstream), version("claude-opus-4-6"), messages=begun)
    failure = await adapter.complete(request, 5)

    assert isinstance(failure, ProviderFailure)
    assert (failure.reason, failure.http_status) == (Reason.REJECTED_REQUEST, 0)
    assert "end with a message of the user" in failure.message
    assert upstream.received == []


def test_parameters_have_this_contract_s_names_and_ranges() -> None:
    body = with_parameters(
        "claude-3-5-sonnet-latest",
        temperature=1.7,
        top_p=0.9,
        top_k=40,
        max_output_tokens=64,
        presence_penalty=0.1,
        frequency_penalty=0.1,
        seed=7,
        stop=("END", "\n"),
        extra={"metadata": {"user_id": "u1"}, "stream": True, "messages": [], "system": "x", "model": "y"},
    )
    assert body == {
        "model": "claude-3-5-sonnet-latest",
        "max_tokens": 64,
        "temperature": 1.0,
        "top_p": 0.9,
        "top_k": 40,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u1"},
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
    }


def test_newer_models_get_one_kind_of_sampling_or_none() -> None:
    both = with_parameters("claude-sonnet-4-5", temperature=0.5, top_p=0.9)
    assert (both["temperature"], both.get("top_p")) == (0.5, None)
    assert with_parameters("claude-sonnet-4-5", top_p=0.9)["top_p"] == 0.9
    none = with_parameters("claude-opus-4-8", temperature=0.5, top_p=0.9, top_k=3)
    assert none.keys() == {"model", "max_tokens", "messages"}


def test_a_thinking_model_samples_as_it_must() -> None:
    body = with_parameters(reasoning_budget_tokens=2048, temperature=0.2, top_k=4, top_p=0.5, max_output_tokens=4000)
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 2048}
    assert (body["max_tokens"], body["top_p"]) == (4000, 0.95)
    assert body.keys().isdisjoint({"temperature", "top_k"})


def test_an_effort_is_native_where_it_can_be() -> None:
    body = with_parameters("claude-opus-4-8", reasoning_effort="high", extra={"output_config": {"task_budget": 9}})
    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert body["output_config"] == {"effort": "high", "task_budget": 9}


def test_extra_parameters_win() -> None:
    thinking = {"type": "enabled", "budget_tokens": 9999}
    body = with_parameters(reasoning_effort="low", max_output_tokens=4096, extra={"thinking": thinking, "top_k": 1})
    assert (body["thinking"], body["top_k"]) == (thinking, 1)


def test_after_a_tool_s_answer_nothing_is_thought_that_nobody_signed() -> None:
    messages = (
        *QUESTION,
        Message(Role.ASSISTANT, tool_calls=(ToolCall("t1", "weather", "{}"),)),
        Message(Role.TOOL, "12 °C", tool_call_id="t1"),
    )
    of = version(parameters=Parameters(reasoning_budget_tokens=2048), tools=[WEATHER])
    assert "thinking" in sent(of)
    assert "thinking" not in sent(of, messages)
    assert "thinking" in sent(of, (*messages, Message(Role.ASSISTANT, "12 °C."), *QUESTION))
    adapting = version("claude-sonnet-4-6", parameters=Parameters(reasoning_effort="low"), tools=[WEATHER])
    assert "thinking" in sent(adapting, messages)


def test_an_answer_that_has_begun_is_not_thought_about() -> None:
    begun = (*QUESTION, Message(Role.ASSISTANT, "{"))
    of = version(parameters=Parameters(reasoning_budget_tokens=2048, temperature=0.2))
    assert "thinking" in sent(of)
    assert "thinking" not in sent(of, begun)
    assert sent(of, begun)["temperature"] == 0.2


def test_what_does_not_think_samples_as_it_was_told() -> None:
    after_tool = (
        *QUESTION,
        Message(Role.ASSISTANT, tool_calls=(ToolCall("t1", "weather", "{}"),)),
        Message(Role.TOOL, "12 °C", tool_call_id="t1"),
    )
    sampling: Any = {"temperature": 0.2, "top_k": 4}
    of = version(parameters=Parameters(reasoning_budget_tokens=2048, top_p=0.5, **sampling), tools=[WEATHER])
    thoughtless, thinking = sent(of, after_tool), sent(of)
    assert {name: thoughtless.get(name) for name in ("temperature", "top_k", "top_p")} == {**sampling, "top_p": None}
    assert thinking["top_p"] == 0.95
    assert thinking.keys() - thoughtless.keys() == {"thinking", "top_p"}
    wide = version(parameters=Parameters(reasoning_budget_tokens=2048, top_p=0.5), tools=[WEATHER])
    assert (sent(wide, after_tool)["top_p"], sent(wide)["top_p"]) == (0.5, 0.95)
    # An extra parameter wins, and stands there once.
    extra = version(
        parameters=Parameters(reasoning_budget_tokens=2048, top_k=4, extra={"top_k": 9, "top_p": 0.99}), tools=[WEATHER]
    )
    for messages in (QUESTION, after_tool):
        request = asked(OFFLINE, ProviderKind.ANTHROPIC, "https://x", extra, messages=messages)
        body = OFFLINE.request_of(request, streamed=False).body
        assert (body.count(b'"top_k":9'), body.count(b'"top_k"'), body.count(b'"top_p"')) == (1, 1, 1)


def test_tools_are_translated_and_the_provider_s_own_are_left_as_they_are() -> None:
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}
    body = sent(version(tools=[WEATHER, CLOCK, search]))
    assert body["tools"] == [
        {
            "name": "weather",
            "description": "The weather of a city.",
            "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
        {"name": "clock", "input_schema": {"type": "object"}},
        search,
    ]
    assert "tool_choice" not in body


@pytest.mark.parametrize(
    ("model", "choice", "parallel", "said"),
    [
        ("claude-sonnet-4-5", "auto", None, {"type": "auto"}),
        ("claude-sonnet-4-5", "none", False, {"type": "none"}),
        ("claude-sonnet-4-5", "required", None, {"type": "any"}),
        ("claude-sonnet-4-5", "required", False, {"type": "any", "disable_parallel_tool_use": True}),
        ("claude-sonnet-4-5", {"type": "tool", "name": "clock"}, True, {"type": "tool", "name": "clock"}),
        ("claude-sonnet-4-5", None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("claude-sonnet-5-5", "required", None, {"type": "auto"}),
    ],
)  # fmt: skip
def test_a_choice_of_tools_is_translated(model: str, choice: Any, parallel: bool | None, said: Any) -> None:
    parameters = Parameters(parallel_tool_calls=parallel)
    assert sent(version(model, tools=[CLOCK], tool_choice=choice, parameters=parameters))["tool_choice"] == said
    assert "tool_choice" not in sent(version(model, tool_choice=choice, parameters=parameters))


def test_a_model_that_cannot_be_made_to_call_a_tool_has_no_other() -> None:
    choice: Any = {"type": "function", "function": {"name": "clock"}}
    body = sent(version("claude-opus-5-5", tools=[WEATHER, CLOCK], tool_choice=choice))
    assert ([tool["name"] for tool in body["tools"]], body["tool_choice"]) == (["clock"], {"type": "auto"})


def test_a_tool_that_must_be_called_leaves_no_room_for_thinking() -> None:
    of = version(tools=[CLOCK], tool_choice="required", parameters=Parameters(reasoning_effort="low", temperature=0.3))
    assert "thinking" not in sent(of)
    assert sent(of)["temperature"] == 0.3


def test_an_unknown_choice_of_tools_is_refused_when_the_version_is_prepared() -> None:
    with pytest.raises(Invalid, match="tool_choice must be"):
        sent(version(tool_choice="sometimes"))


def test_a_schema_is_native_where_the_model_takes_it_and_told_where_not() -> None:
    native = sent(version(response_format=CITY_FORMAT))
    schema = CITY_FORMAT["json_schema"]["schema"]
    assert native["output_config"] == {
        "format": {"type": "json_schema", "schema": {**schema, "additionalProperties": False}}
    }
    assert "system" not in native

    told = sent(version("claude-opus-4-1", response_format=CITY_FORMAT), (Message(Role.SYSTEM, "Hi."), *QUESTION))
    assert "output_config" not in told
    [system, instruction] = told["system"]
    assert system == {"type": "text", "text": "Hi."}
    assert '{"type":"object","properties":{"name":{"type":"string"}},"required":["name"]}' in instruction["text"]


def test_a_schema_that_the_dialect_lacks_is_told() -> None:
    free: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    body = sent(version(response_format=free))
    assert "output_config" not in body
    assert '{"type":"object"}' in body["system"][0]["text"]


def test_some_json_object_is_told() -> None:
    body = sent(version(response_format={"type": "json_object"}))
    assert "one JSON object and nothing else" in body["system"][0]["text"]
    assert "system" not in sent(version(response_format={"type": "text"}))


def test_one_system_prompt_is_a_text_and_more_are_blocks() -> None:
    one, two = Message(Role.SYSTEM, "One."), Message(Role.DEVELOPER, "Two.")
    assert sent(version(), (one, *QUESTION))["system"] == "One."
    assert sent(version(), (one, two, *QUESTION))["system"] == [
        {"type": "text", "text": "One."},
        {"type": "text", "text": "Two."},
    ]
