from __future__ import annotations

import asyncio
import json
import time
from email.utils import formatdate
from typing import Any

import pytest

from catalog.view import ProviderKind, StructuredOutput
from completions.chat import ImagePart, Message, Role, TextPart, ToolCall
from completions.version import Parameters, Version
from kit.egress import Egress, EgressPolicy
from kit.secrets import Secret
from services.executor.domain import ProviderAnswer, ProviderFailure, Reason
from services.executor.providers.openai import OpenAi
from tests.services.executor.providers.openai_adapter import (
    CREDENTIAL,
    OFFLINE,
    QUESTION,
    RETRY_STATUSES,
    TRACING,
    VERSION,
    adapter,
    asked,
    failed,
)
from tests.services.executor.providers.wires import WEATHER

__all__ = ["adapter"]


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
