from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from catalog.view import Provider, ProviderKind, StructuredOutput
from completions.chat import ImagePart, Message, Role, TextPart, ToolCall
from completions.version import Parameters, Version
from kit.egress import Egress, EgressPolicy, EgressResponse
from kit.secrets import Secret
from kit.telemetry import Tracing
from services.executor.domain import FinishReason, ProviderAnswer, ProviderFailure, ProviderRequest, Reason, Usage
from services.executor.providers import failures
from services.executor.providers.openai import OpenAi
from tests.services.executor.providers.wires import WEATHER

CREDENTIAL = "sk-planted-credential-0123456789"
RETRY_STATUSES = frozenset({408, 409, 429, 500, 501, 502, 503, 504})
VERSION = Version(provider="prv_main", model="test-model")
QUESTION = (Message(Role.USER, "What is the capital of France?"),)
TRACING = Tracing(sample_ratio=0, resource={}, exporter=None)


@pytest.fixture
async def adapter() -> AsyncIterator[OpenAi]:
    async with Egress(EgressPolicy(allow_private=True)) as egress:
        yield OpenAi(egress, TRACING, RETRY_STATUSES, max_response_bytes=100_000, max_stream_bytes=100_000)


def asked(upstream: Any, version: Version = VERSION, **fields: Any) -> ProviderRequest:
    kind = fields.pop("kind", ProviderKind.OPENAI_COMPATIBLE)
    given: dict[str, Any] = {
        "provider": Provider("prv_main", "prj_shop", "main", kind, getattr(upstream, "base_url", upstream)),
        "credential": Secret(CREDENTIAL),
        "model": version.model,
        "prepared_body": OpenAi(None, TRACING, RETRY_STATUSES, 1, 1).prepare(version, kind),  # type: ignore[arg-type]
        "messages": QUESTION,
    }
    return ProviderRequest(**(given | fields))


@pytest.mark.parametrize(
    ("choice", "tools", "sent"),
    [
        ("required", [WEATHER], "required"),
        ({"type": "any"}, [WEATHER], "required"),
        ({"type": "tool", "name": "weather"}, [WEATHER], {"type": "function", "function": {"name": "weather"}}),
        ("auto", [], None),
        (None, [WEATHER], None),
    ],
)
def test_a_tool_choice_is_sent_in_openais_words(choice: Any, tools: list[Any], sent: Any) -> None:
    adapter = OpenAi(None, TRACING, RETRY_STATUSES, 1, 1)  # type: ignore[arg-type]  # sends nothing
    version = Version("prv_main", "test-model", tools=tools, tool_choice=choice)
    body = json.loads(adapter.prepare(version, ProviderKind.OPENAI) + b"[]}")
    assert body.get("tool_choice") == sent


@pytest.mark.parametrize(("tools", "sent"), [([WEATHER], False), ([], None)])
def test_whether_calls_may_be_parallel_is_said_beside_tools_alone(tools: list[Any], sent: bool | None) -> None:
    version = Version("prv_main", "m", tools=tools, parameters=Parameters(parallel_tool_calls=False))
    for kind in (ProviderKind.OPENAI, ProviderKind.OPENAI_COMPATIBLE):
        assert json.loads(OFFLINE.prepare(version, kind) + b"[]}").get("parallel_tool_calls") is sent


async def failed(adapter: OpenAi, upstream: Any, *steps: Any, timeout: float = 5, **fields: Any) -> ProviderFailure:
    upstream.then(*steps)
    outcome = await adapter.complete(asked(upstream, **fields), timeout)
    assert isinstance(outcome, ProviderFailure)
    return outcome


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


async def test_everything_of_a_version_is_sent_verbatim(adapter: OpenAi, upstream: Any) -> None:
    tools: list[Any] = [
        {"type": "function", "function": {"name": "f", "parameters": {"z": 9007199254740993, "a": None}}}
    ]
    version = Version(
        provider="prv_main",
        model="test-model",
        parameters=Parameters(
            temperature=0.5,
            top_p=0.9,
            top_k=40,
            max_output_tokens=64,
            presence_penalty=0.1,
            frequency_penalty=-0.1,
            stop=("END",),
            seed=7,
            parallel_tool_calls=False,
            reasoning_effort="low",
            extra={"min_p": 0.1, "stream": True, "messages": []},
        ),
        tools=tools,
        tool_choice="auto",
        response_format={"type": "json_schema", "json_schema": {"z": 1, "name": "city", "a": 2}},
    )
    await adapter.complete(asked(upstream, version), 5)

    body = upstream.received[0].body
    assert list(body) == [
        "model", "temperature", "top_p", "top_k", "max_tokens", "presence_penalty", "frequency_penalty", "stop", "seed",
        "parallel_tool_calls", "reasoning_effort", "tools", "tool_choice", "response_format", "min_p", "messages",
    ]  # fmt: skip
    assert json.dumps(body["tools"]) == json.dumps(tools)
    assert list(body["response_format"]["json_schema"]) == ["z", "name", "a"]
    assert (body["temperature"], body["stop"], body["parallel_tool_calls"]) == (0.5, ["END"], False)


@pytest.mark.parametrize("name", [{}, {"name": ""}, {"name": None}])
def test_a_schema_without_a_name_gets_one(name: dict[str, Any]) -> None:
    given: dict[str, Any] = {"type": "json_schema", "json_schema": {"schema": {"type": "object"}, **name}}
    version = Version("prv_main", "m", response_format=given)
    for kind in (ProviderKind.OPENAI, ProviderKind.OPENAI_COMPATIBLE):
        said = json.loads(OFFLINE.prepare(version, kind) + b"[]}")["response_format"]
        assert said == {"type": "json_schema", "json_schema": {"schema": {"type": "object"}, "name": "answer"}}
    plain = Version("prv_main", "m", response_format={"type": "json_object"})
    assert json.loads(OFFLINE.prepare(plain, ProviderKind.OPENAI) + b"[]}")["response_format"] == {
        "type": "json_object"
    }


SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}}


@pytest.mark.parametrize(
    ("wanted", "takes", "sent", "words"),
    [
        ({"type": "json_schema", "json_schema": {"schema": SCHEMA}}, "json_object", {"type": "json_object"}, '"city"'),
        ({"type": "json_schema", "json_schema": {"schema": SCHEMA}}, "text", None, '"city"'),
        ({"type": "json_object"}, "json_object", {"type": "json_object"}, "one JSON object"),
        ({"type": "json_object"}, "text", None, "one JSON object"),
        ({"type": "text"}, "text", None, ""),
        (None, "text", None, ""),
    ],
)
async def test_what_a_model_does_not_take_is_told_in_words(
    adapter: OpenAi, upstream: Any, wanted: Any, takes: str, sent: Any, words: str
) -> None:
    version = Version("prv_main", "m", response_format=wanted)
    body = adapter.prepare(version, ProviderKind.OPENAI_COMPATIBLE, StructuredOutput(takes))
    brief = (Message(Role.DEVELOPER, "Be brief."), *QUESTION)
    for messages in (QUESTION, brief):
        await adapter.complete(asked(upstream, version, prepared_body=body, messages=messages), 5)

    alone, behind = (each.body for each in upstream.received)
    assert alone.get("response_format") == behind.get("response_format") == sent
    own = [{"role": "user", "content": QUESTION[0].content}]
    if not words:
        assert (alone["messages"], behind["messages"][1:]) == (own, own)
        return
    instruction = alone["messages"][0]["content"]
    assert words in instruction
    assert alone["messages"] == [{"role": "system", "content": instruction}, *own]
    assert behind["messages"] == [{"role": "system", "content": f"Be brief.\n\n{instruction}"}, *own]


@pytest.mark.parametrize("kind", [ProviderKind.OPENAI, ProviderKind.OPENAI_COMPATIBLE])
async def test_the_words_go_behind_a_system_message_of_parts_too(
    adapter: OpenAi, upstream: Any, kind: ProviderKind
) -> None:
    version = Version("prv_main", "m", response_format={"type": "json_object"})
    body = adapter.prepare(version, kind, StructuredOutput.TEXT)
    parts = (TextPart("Be brief."), ImagePart("https://x/y"))
    messages = (Message(Role.SYSTEM, parts=parts), *QUESTION)
    await adapter.complete(asked(upstream, version, kind=kind, prepared_body=body, messages=messages), 5)

    system, question = upstream.received[0].body["messages"]
    assert [part["type"] for part in system["content"]] == ["text", "image_url", "text"]
    assert system["content"][2]["text"].startswith("Answer with one JSON object")
    assert question["role"] == "user"


async def test_who_is_refused_a_response_format_is_told_what_to_do(adapter: OpenAi, upstream: Any) -> None:
    refusal = {"error": {"message": "This response_format type is unavailable now"}}  # DeepSeek's words
    formed = Version("prv_main", "m", response_format={"type": "json_schema", "json_schema": {"schema": SCHEMA}})
    for version, is_told in ((formed, True), (VERSION, False)):
        upstream.then(upstream.http(400, refusal))
        failure = await adapter.complete(asked(upstream, version), 5)
        assert isinstance(failure, ProviderFailure)
        assert failure.reason is Reason.REJECTED_REQUEST
        assert ("say so in its provider's model_facts (structured_output)" in failure.message) is is_told


async def test_openai_itself_is_told_the_token_limit_in_its_newer_word(adapter: OpenAi, upstream: Any) -> None:
    version = Version(provider="prv_main", model="m", parameters=Parameters(max_output_tokens=9))
    await adapter.complete(asked(upstream, version, kind=ProviderKind.OPENAI), 5)
    assert upstream.received[0].body["max_completion_tokens"] == 9


async def test_every_kind_of_message_is_sent(adapter: OpenAi, upstream: Any) -> None:
    messages = (
        Message(Role.DEVELOPER, "Be brief."),
        Message(Role.USER, parts=(TextPart("what is this?"), ImagePart("data:image/png;base64,AA", "low"), ImagePart("https://x/y"))),
        Message(Role.ASSISTANT, tool_calls=(ToolCall("c1", "look", '{"a": 1'),), reasoning="hm"),
        Message(Role.TOOL, "a cat", tool_call_id="c1"),
        Message(Role.USER, "", name="ada"),
        Message(Role.USER, parts=(TextPart("One."), TextPart("Two."))),
    )  # fmt: skip
    await adapter.complete(asked(upstream, messages=messages), 5)

    assert upstream.received[0].body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "what is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://x/y"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1'}}],
            "reasoning_content": "hm",
        },
        {"role": "tool", "content": "a cat", "tool_call_id": "c1"},
        {"role": "user", "content": "", "name": "ada"},
        {"role": "user", "content": "One.\nTwo."},
    ]


async def test_openai_itself_is_told_what_only_it_understands(adapter: OpenAi, upstream: Any) -> None:
    messages = (
        Message(Role.DEVELOPER, "Be brief."),
        Message(Role.ASSISTANT, "Hello.", reasoning="hm", tool_calls=(ToolCall("c1", "look", "{}", '{"google":{}}'),)),
        Message(Role.USER, parts=(TextPart("One."), TextPart("Two."))),
    )
    await adapter.complete(asked(upstream, kind=ProviderKind.OPENAI, messages=messages), 5)

    assert upstream.received[0].body["messages"] == [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "assistant",
            "content": "Hello.",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
        },
        {"role": "user", "content": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]},
    ]


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


async def test_calls_of_custom_tools_go_both_ways(adapter: OpenAi, upstream: Any) -> None:
    tools: list[Any] = [{"type": "custom", "custom": {"name": "sql"}}, WEATHER]
    call = {"id": "c1", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    upstream.then(upstream.http(200, {"choices": [{"message": message, "finish_reason": "tool_calls"}]}))
    of = Version("prv_main", "m", tools=tools)
    answer = await adapter.complete(asked(upstream, of), 5)
    assert isinstance(answer, ProviderAnswer)
    assert answer.message.tool_calls == (ToolCall("c1", "sql", "SELECT 1"),)

    weather = ToolCall("c2", "weather", "{}")
    again = Message(Role.ASSISTANT, tool_calls=(*answer.message.tool_calls, weather))
    await adapter.complete(asked(upstream, of, messages=(*QUESTION, again)), 5)
    body = upstream.received[1].body
    assert body["tools"] == tools
    assert body["messages"][1]["tool_calls"] == [
        call,
        {"id": "c2", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
    ]


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


@pytest.mark.parametrize(
    ("status", "reason", "is_retryable"),
    [
        (301, Reason.REDIRECTED, False),
        (400, Reason.REJECTED_REQUEST, False),
        (401, Reason.CREDENTIAL_REFUSED, False),
        (402, Reason.CREDENTIAL_REFUSED, False),
        (403, Reason.CREDENTIAL_REFUSED, False),
        (404, Reason.MODEL_NOT_FOUND, False),
        (408, Reason.ERROR, True),
        (409, Reason.ERROR, True),
        (413, Reason.REJECTED_REQUEST, False),
        (422, Reason.REJECTED_REQUEST, False),
        (429, Reason.RATE_LIMITED, True),
        (500, Reason.ERROR, True),
        (502, Reason.ERROR, True),
        (503, Reason.ERROR, True),
        (504, Reason.ERROR, True),
        (529, Reason.ERROR, False),
        (204, Reason.MALFORMED_RESPONSE, False),
    ],
)
async def test_what_a_status_means(
    adapter: OpenAi, upstream: Any, status: int, reason: Reason, is_retryable: bool
) -> None:
    body = b"" if status == 204 else {"error": {"message": "no"}}
    failure = await failed(adapter, upstream, upstream.http(status, body))
    assert (failure.reason, failure.http_status, failure.is_retryable) == (reason, status, is_retryable)


async def test_retry_after_is_read_in_all_forms(adapter: OpenAi, upstream: Any) -> None:
    http = upstream.http
    assert (await failed(adapter, upstream, http(429, {}, ["retry-after: 7"]))).retry_after_seconds == 7
    date = formatdate(time.time() + 100, usegmt=True)
    found = (await failed(adapter, upstream, http(503, {}, [f"retry-after: {date}"]))).retry_after_seconds
    assert found is not None
    assert 97 < found <= 100
    past = formatdate(time.time() - 100, usegmt=True)
    assert (await failed(adapter, upstream, http(503, {}, [f"retry-after: {past}"]))).retry_after_seconds == 0
    far = ("Fri, 31 Dec 9999 23:59:59 GMT", "999999999", "9" * 400)
    for each in far:
        assert (await failed(adapter, upstream, http(503, {}, [f"retry-after: {each}"]))).retry_after_seconds == 86_400
    for nonsense in ("soon", "-1", "1e9", ".", "Mon, 99 Foo 2020 00:00:00 GMT"):
        assert (
            await failed(adapter, upstream, http(503, {}, [f"retry-after: {nonsense}"]))
        ).retry_after_seconds is None
    assert (await failed(adapter, upstream, http(503, {}))).retry_after_seconds is None
    exact = ["retry-after: 8.0000000001", "retry-after-ms: 7500"]
    assert (await failed(adapter, upstream, http(429, {}, exact[:1]))).retry_after_seconds == 8.0000000001
    assert (await failed(adapter, upstream, http(429, {}, exact))).retry_after_seconds == 7.5


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


async def test_a_page_where_json_should_be_is_malformed(adapter: OpenAi, upstream: Any) -> None:
    page = upstream.http(200, upstream.completion(), content_type="text/html")
    assert (await failed(adapter, upstream, page)).reason is Reason.MALFORMED_RESPONSE
    upstream.then(upstream.http(200, upstream.completion(), content_type=""))
    assert isinstance(await adapter.complete(asked(upstream), 5), ProviderAnswer)


async def test_an_answer_that_is_too_large_is_malformed(adapter: OpenAi, upstream: Any) -> None:
    large = upstream.http(200, upstream.completion("x" * 200_000))
    assert (await failed(adapter, upstream, large)).reason is Reason.MALFORMED_RESPONSE


async def test_what_is_not_http_is_malformed(adapter: OpenAi, upstream: Any) -> None:
    assert (await failed(adapter, upstream, b"SSH-2.0-OpenSSH\r\n\r\n")).reason is Reason.MALFORMED_RESPONSE


async def test_a_connection_that_breaks_is_a_failure_that_may_be_retried(adapter: OpenAi, upstream: Any) -> None:
    for step in (upstream.reset, upstream.half):
        failure = await failed(adapter, upstream, step)
        assert (failure.reason, failure.http_status, failure.is_retryable) == (Reason.UNREACHABLE, 0, True)


async def test_a_provider_that_is_down_is_unreachable(adapter: OpenAi) -> None:
    outcome = await adapter.complete(asked("http://127.0.0.1:1/v1"), 5)
    assert isinstance(outcome, ProviderFailure)
    assert (outcome.reason, outcome.is_retryable) == (Reason.UNREACHABLE, True)


async def test_a_provider_that_stalls_times_out(adapter: OpenAi, upstream: Any) -> None:
    failure = await failed(adapter, upstream, upstream.stall, timeout=0.2)
    assert (failure.reason, failure.is_retryable) == (Reason.TIMEOUT, True)


async def test_cancelling_an_attempt_cancels_the_provider(adapter: OpenAi, upstream: Any) -> None:
    upstream.then(upstream.stall)
    attempt = asyncio.create_task(adapter.complete(asked(upstream), 30))
    async with asyncio.timeout(5):
        while not upstream.received:
            await asyncio.sleep(0.01)
        attempt.cancel()
        while not upstream.left:
            await asyncio.sleep(0.01)
    with pytest.raises(asyncio.CancelledError):
        await attempt


async def test_an_address_that_may_not_be_called_is_refused() -> None:
    async with Egress(EgressPolicy()) as egress:
        adapter = OpenAi(egress, TRACING, RETRY_STATUSES, max_response_bytes=1000, max_stream_bytes=1000)
        for base_url in ("https://127.0.0.1:1/v1", "http://example.com/v1", "https://169.254.169.254/v1"):
            outcome = await adapter.complete(asked(base_url), 5)
            assert isinstance(outcome, ProviderFailure)
            assert (outcome.reason, outcome.is_retryable) == (Reason.ADDRESS_REFUSED, False)


async def test_a_credential_that_no_header_can_carry_is_refused(adapter: OpenAi, upstream: Any) -> None:
    failure = await failed(adapter, upstream, credential=Secret("sk-\r\nx-evil: 1"))
    assert failure.reason is Reason.CREDENTIAL_REFUSED
    assert "evil" not in failure.message


async def test_a_provider_that_wants_no_credential_gets_none(adapter: OpenAi, upstream: Any) -> None:
    await adapter.complete(asked(upstream, credential=None), 5)
    assert "authorization" not in upstream.received[0].headers


async def test_a_provider_is_quoted_without_credential_and_content_and_in_part(adapter: OpenAi, upstream: Any) -> None:
    words = f"key {CREDENTIAL} may not ask {QUESTION[0].content!r}\nbecause " + "x" * 500
    for body in ({"error": {"message": words}}, {"error": words}, {"detail": [{"msg": words, "input": "secret"}]}):
        message = (await failed(adapter, upstream, upstream.http(400, body))).message
        assert "key <secret> may not ask '<content>' because xxx" in message
        assert len(message) < 260
        assert "\n" not in message
    raw = await failed(adapter, upstream, upstream.http(400, QUESTION[0].content.encode()))
    assert raw.message == "the provider answered HTTP 400"


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


OFFLINE = OpenAi(None, TRACING, RETRY_STATUSES, 1000, 1000)  # type: ignore[arg-type]  # sends nothing


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
