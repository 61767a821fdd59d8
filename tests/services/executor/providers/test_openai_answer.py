from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from completions.chat import Message, Role, TextPart, ToolCall
from kit.egress import EgressResponse
from services.executor.domain import FinishReason, ProviderAnswer, ProviderFailure, Reason, Usage
from services.executor.providers import failures
from services.executor.providers.openai import OpenAi
from tests.services.executor.providers.openai_adapter import (
    CREDENTIAL,
    OFFLINE,
    RETRY_STATUSES,
    adapter,
    asked,
    failed,
)

__all__ = ["adapter"]


async def test_an_answer_is_read_whole(adapter: OpenAi, upstream: Any) -> None:
    usage = {
        "prompt_tokens": 24,
        "completion_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": 16, "cache_write_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    upstream.then(upstream.http(200, upstream.completion("Paris.", usage=usage)))

    answer = await adapter.complete(asked(upstream), 5)

    assert answer == ProviderAnswer(
        Message(Role.ASSISTANT, "Paris."), FinishReason.STOP, Usage(24, 8, 16, 3, 5), "served-model", 200
    )
    [received] = upstream.received
    assert received.path == "/v1/chat/completions"
    assert received.headers["authorization"] == f"Bearer {CREDENTIAL}"
    assert "traceparent" not in received.headers
    assert received.body == {
        "model": "test-model",
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
    }


async def test_tool_calls_and_reasoning_are_read(adapter: OpenAi, upstream: Any) -> None:
    message = {
        "role": "assistant",
        "content": None,
        "reasoning_content": "hm",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":'}},
            {"id": "c2", "type": "function", "function": {"name": "g", "arguments": {"b": 1}}},
        ],
    }
    choices = [{"index": 0, "message": message, "finish_reason": "tool_calls"}]
    upstream.then(upstream.http(200, {"choices": choices}))

    answer = await adapter.complete(asked(upstream), 5)

    assert isinstance(answer, ProviderAnswer)
    assert answer.message.tool_calls == (ToolCall("c1", "f", '{"a":'), ToolCall("c2", "g", '{"b":1}'))
    assert (answer.message.reasoning, answer.finish_reason) == ("hm", FinishReason.TOOL_CALLS)
    # What the provider did not tell is unknown, not zero; who answered is then who was asked.
    assert (answer.usage, answer.model) == (Usage(), "test-model")


@pytest.mark.parametrize(
    ("counts", "details", "output"),
    [
        pytest.param((32, 9, 135), {"reasoning_tokens": 94}, 103, id="xAI"),
        pytest.param((9, 3, 105), None, 96, id="Google"),
        pytest.param((32, 103, 135), {"reasoning_tokens": 94}, 103, id="OpenAI"),
        pytest.param((32, 9, 140), {"reasoning_tokens": 94}, 9, id="something else"),
        pytest.param((32, 9, 0), None, 9, id="no total"),
    ],
)
async def test_thoughts_are_output_wherever_they_are_counted(
    adapter: OpenAi, upstream: Any, counts: tuple[int, int, int], details: Any, output: int
) -> None:
    usage = dict(zip(("prompt_tokens", "completion_tokens", "total_tokens"), counts, strict=True))
    answer = {"choices": [{"message": {"content": "42"}}], "usage": usage | {"completion_tokens_details": details}}
    upstream.then(upstream.http(200, answer))

    got = await adapter.complete(asked(upstream), 5)

    assert isinstance(got, ProviderAnswer)
    assert (got.usage.input_tokens, got.usage.output_tokens) == (counts[0], output)
    assert got.usage.reasoning_output_tokens == (details or {}).get("reasoning_tokens")


async def test_a_call_without_an_id_gets_one(adapter: OpenAi, upstream: Any) -> None:
    functions = [{"function": {"name": "look", "arguments": "{}"}} for _ in range(3)]
    calls = [functions[0], functions[1] | {"id": ""}, functions[2] | {"id": None}]
    upstream.then(upstream.http(200, {"choices": [{"message": {"role": "assistant", "tool_calls": calls}}]}))
    answer = await adapter.complete(asked(upstream), 5)
    assert isinstance(answer, ProviderAnswer)
    assert len({call.id for call in answer.message.tool_calls if call.id.startswith("call_")}) == 3


async def test_a_wish_for_a_tool_that_ends_as_any_answer_is_one(adapter: OpenAi, upstream: Any) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    for finish, reason in (("stop", FinishReason.TOOL_CALLS), ("length", FinishReason.LENGTH), (None, None)):
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        upstream.then(upstream.http(200, {"choices": [{"message": message, "finish_reason": finish}]}))
        answer = await adapter.complete(asked(upstream), 5)
        assert isinstance(answer, ProviderAnswer)
        assert answer.finish_reason is reason


async def test_of_several_choices_the_first_is_the_answer_wherever_it_stands(adapter: OpenAi, upstream: Any) -> None:
    choices = [
        {"index": index, "message": {"content": content}, "finish_reason": finish}
        for index, content, finish in ((1, "Lyon.", "length"), (0, "Paris.", "stop"), (2, "Nice.", "length"))
    ]
    unnumbered = [{"message": {"content": "Paris."}, "finish_reason": "stop"}, {"message": {"content": "Lyon."}}]
    for each in (choices, unnumbered):
        upstream.then(upstream.http(200, {"choices": each}))
        answer = await adapter.complete(asked(upstream), 5)
        assert isinstance(answer, ProviderAnswer)
        assert (answer.message.content, answer.finish_reason) == ("Paris.", FinishReason.STOP)
    failure = await failed(adapter, upstream, upstream.http(200, {"choices": choices[::2]}))
    assert failure.message == "the provider's answer has no first choice"


async def test_a_single_choice_is_the_answer_whatever_its_index(adapter: OpenAi, upstream: Any) -> None:
    upstream.then(upstream.http(200, {"choices": [{"index": 1, "message": {"content": "Paris."}}]}))
    answer = await adapter.complete(asked(upstream), 5)
    assert isinstance(answer, ProviderAnswer)
    assert answer.message.content == "Paris."


async def test_an_answer_of_text_parts_alone_is_text(adapter: OpenAi, upstream: Any) -> None:
    texts = [{"type": "text", "text": "Par"}, {"type": "text", "text": "is."}]
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    for content, message in (
        (texts, Message(Role.ASSISTANT, "Paris.")),
        ([thought, *texts], Message(Role.ASSISTANT, parts=(TextPart("Par"), TextPart("is.")))),
        ([], Message(Role.ASSISTANT)),
    ):
        upstream.then(upstream.http(200, {"choices": [{"message": {"content": content}, "finish_reason": ""}]}))
        answer = await adapter.complete(asked(upstream), 5)
        assert isinstance(answer, ProviderAnswer)
        # Some servers leave the reason empty where they have none.
        assert (answer.message, answer.finish_reason) == (message, None)


def shaped(**choice: Any) -> dict[str, Any]:
    return {"choices": [choice]}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"Paris."',
        b'{"choices":[{"message":{"content":"\\ud800"}}]}',
        {},
        {"choices": []},
        {"choices": {}},
        {"choices": ["Paris."]},
        shaped(),
        shaped(message="Paris."),
        shaped(message={"content": 7}),
        shaped(message={"content": {"text": "Paris."}}),
        shaped(message={"tool_calls": "f"}),
        shaped(message={"tool_calls": ["f"]}),
        shaped(message={"tool_calls": [{"function": {}}]}),
        {"error": {"message": "overloaded"}},
    ],
)
async def test_a_garbage_answer_is_a_failure_that_may_be_retried(adapter: OpenAi, upstream: Any, body: Any) -> None:
    failure = await failed(adapter, upstream, upstream.http(200, body))
    assert (failure.reason, failure.is_retryable) == (Reason.MALFORMED_RESPONSE, True)


@pytest.mark.parametrize("finish", ["error", "network_error", "insufficient_system_resource"])
async def test_what_a_provider_broke_off_is_no_answer(adapter: OpenAi, upstream: Any, finish: str) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": '{"ev'}, "finish_reason": finish}
    failure = await failed(adapter, upstream, upstream.http(200, {"choices": [choice]}))

    assert (failure.reason, failure.is_retryable) == (Reason.MALFORMED_RESPONSE, True)
    assert failure.message == "the provider's answer ends in an error"


@pytest.mark.parametrize(
    ("code", "reason", "retryable"),
    [
        (429, Reason.RATE_LIMITED, True),
        ("502", Reason.ERROR, True),
        (403, Reason.CREDENTIAL_REFUSED, False),
        (400, Reason.REJECTED_REQUEST, False),
        (200, Reason.MALFORMED_RESPONSE, True),
        (1302, Reason.MALFORMED_RESPONSE, True),
        ("server_error", Reason.MALFORMED_RESPONSE, True),
    ],
)
async def test_an_error_with_status_200_means_what_its_code_says(
    adapter: OpenAi, upstream: Any, code: Any, reason: Reason, retryable: bool
) -> None:
    error = {"code": code, "message": "Provider returned error"}
    choice = {"message": {"role": "assistant", "content": ""}, "finish_reason": "error", "error": error}
    for answer in ({"error": error}, {"error": error, "choices": [choice]}, {"choices": [choice]}):
        failure = await failed(adapter, upstream, upstream.http(200, answer))
        assert (failure.reason, failure.http_status, failure.is_retryable) == (reason, 200, retryable)
        assert "Provider returned error" in failure.message


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("model_length", FinishReason.LENGTH),
        ("model_context_window_exceeded", FinishReason.LENGTH),
        ("sensitive", FinishReason.CONTENT_FILTER),
        ("end_turn", FinishReason.STOP),
        ("abort", FinishReason.OTHER),
        ("", None),
        (None, None),
    ],
)
async def test_why_the_model_stopped_is_read_in_every_server_s_words(
    adapter: OpenAi, upstream: Any, word: Any, reason: FinishReason | None
) -> None:
    upstream.then(upstream.http(200, {"choices": [{"message": {"content": "Paris."}, "finish_reason": word}]}))
    got = await adapter.complete(asked(upstream), 5)
    assert isinstance(got, ProviderAnswer)
    assert got.finish_reason is reason


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["choices", "message", "content", "tool_calls", "function", "name", "arguments", "usage", "error", "model",
             "prompt_tokens", "prompt_tokens_details", "cached_tokens", "finish_reason", "refusal", "type", "text"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=30,
)  # fmt: skip


@given(json_values, st.sampled_from([200, 400, 503]))
def test_whatever_json_comes_it_is_an_answer_or_a_failure(body: Any, status: int) -> None:
    response = EgressResponse(status, CIMultiDictProxy(CIMultiDict()), json.dumps(body).encode())
    request = asked("http://127.0.0.1:1/v1")
    if status == 200:
        shaped_body = EgressResponse(
            200, response.headers, json.dumps({"choices": [{"message": body}], "usage": body}).encode()
        )
        for each in (response, shaped_body):
            assert isinstance(OFFLINE.outcome(each, request), (ProviderAnswer, ProviderFailure))
    else:
        failure = failures.read_failure(response, request, RETRY_STATUSES, unix_seconds=0)
        assert len(failure.message) < 260
