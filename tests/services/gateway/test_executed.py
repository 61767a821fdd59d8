"""OpenAI's own SDK, the gateway and the real executor, in front of a scripted provider."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from services.gateway.listener import Listener
from services.gateway.module import listener, module
from tests.services.executor import conftest as executor
from tests.services.executor.conftest import deployment_entry, key_entry, provider_entry, upstream, version_entry
from tests.services.executor.upstreams import DONE, Upstream, chunk, completion, http
from turnout.registry.v1 import catalog_pb2, deployment_pb2

__all__ = ["upstream"]

DEPLOYMENT = "turnout/deployment/assistant"
HELLO: list[Any] = [{"role": "user", "content": "hello {{ country }}"}]
INPUT = {"input": {"country": "France"}}
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}


class City(BaseModel):
    city: str


@dataclass
class House:
    """A gateway with its executor."""

    room: executor.Room
    listener: Listener

    @property
    def upstream(self) -> Upstream:
        return self.room.upstream

    @property
    def sent(self) -> Any:
        """The last body that the provider got."""
        return self.upstream.received[-1].body

    def client(self, key: str = "") -> openai.AsyncOpenAI:
        url = f"http://127.0.0.1:{self.listener.port}/v1"
        return openai.AsyncOpenAI(base_url=url, api_key=key or self.room.key, max_retries=0)

    async def ask(self, model: str = DEPLOYMENT, messages: Any = (), **fields: Any) -> Any:
        async with self.client() as client:
            return await client.chat.completions.create(model=model, messages=list(messages), **fields)

    async def pieces(self, model: str = DEPLOYMENT, messages: Any = (), **fields: Any) -> list[Any]:
        async with self.client() as client:
            stream: Any = await client.chat.completions.create(
                model=model, messages=list(messages), stream=True, **fields
            )
            return [piece async for piece in stream]

    async def refused(self, kind: type[openai.APIStatusError], *args: Any, **fields: Any) -> openai.APIStatusError:
        with pytest.raises(kind) as failure:
            await self.ask(*args, **fields)
        return failure.value


@asynccontextmanager
async def housed(provider: Upstream, data_dir: Path) -> AsyncIterator[House]:
    async with executor.running(provider, data_dir) as room:
        await room.runtime.enter(module)
        yield House(room, await room.runtime.shared(listener))


@pytest.fixture
async def house(upstream: Upstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[House]:
    for name, value in {
        "TURNOUT_DATA_DIR": str(tmp_path),
        "TURNOUT_NATS_URL": "nats://127.0.0.1:1",
        "TURNOUT_KEY_ENCRYPTION_KEYS": executor.KEYRING_SETTING,
        "TURNOUT_EGRESS_ALLOW_PRIVATE": "true",
        "TURNOUT_SERVICE_KEY": "service",
        "TURNOUT_GATEWAY_LISTEN_ADDRESS": "127.0.0.1:0",
        "NO_PROXY": "*",
    }.items():
        monkeypatch.setenv(name, value)
    async with housed(upstream, tmp_path) as house:
        yield house


def another_provider() -> catalog_pb2.CatalogEntry:
    entry = catalog_pb2.CatalogEntry()
    entry.CopyFrom(provider_entry("http://127.0.0.1:1/v1"))
    entry.key, entry.provider.uid, entry.provider.slug = "provider/prv_other", "prv_other", "other"
    return entry


# --- what a call lays over


async def test_a_call_without_anything_of_its_own_runs_the_version_as_it_is(house: House) -> None:
    answer = await house.ask(extra_body=INPUT)
    assert answer.choices[0].message.content == "Paris."
    assert house.sent == {
        "model": "test-model",
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "temperature": 0.5,
        "max_tokens": 64,
    }
    said = answer.turnout
    assert (said["version"], said["fallback_index"], said["mocked"]) == ("ver_1", 0, False)


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_a_call_lays_over_reaches_the_provider(house: House, *, streamed: bool) -> None:
    fields: dict[str, Any] = {
        "temperature": 0,
        "max_completion_tokens": 5,
        "top_p": 0.25,
        "stop": "END",
        "seed": 9007199254740993,
        "presence_penalty": 1,
        "frequency_penalty": -1,
        "tools": [TOOL],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "reasoning_effort": "low",
        "logit_bias": {"7": -100},
        "extra_body": {**INPUT, "top_k": 3, "turnout": {"thread": "t"}, "cache_prompt": True},
    }
    if streamed:
        house.upstream.then(house.upstream.streams(list(house.upstream.paris)))
        said = (await house.pieces(**fields))[-1].turnout
    else:
        said = (await house.ask(**fields)).turnout
    assert said["version"] != "ver_1"
    expected = {
        "temperature": 0.0,
        "max_tokens": 5,
        "top_p": 0.25,
        "stop": ["END"],
        "seed": 9007199254740993,
        "presence_penalty": 1.0,
        "frequency_penalty": -1.0,
        "tools": [TOOL],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "reasoning_effort": "low",
        "logit_bias": {"7": -100},
        "top_k": 3,
        "cache_prompt": True,
    }
    assert {name: house.sent[name] for name in expected} == expected
    assert not {"turnout", "input", "thread"} & house.sent.keys()


async def test_messages_stand_before_and_behind_the_versions(house: House) -> None:
    prefix = [{"role": "user", "content": "first {{ x }}"}]
    await house.ask(messages=HELLO, extra_body={**INPUT, "turnout": {"prefix_messages": prefix}})
    texts = [message["content"] for message in house.sent["messages"]]
    # What a caller brings is data.
    assert texts == ["first {{ x }}", "What is the capital of France?", "hello {{ country }}"]


async def test_a_mock_is_answered_without_asking_anybody(house: House) -> None:
    mocked = {**INPUT, "turnout": {"mock_response": "as if"}}
    whole, pieces = await house.ask(extra_body=mocked), await house.pieces(extra_body=mocked)
    assert whole.choices[0].message.content == "as if"
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == "as if"
    assert (whole.turnout["mocked"], pieces[-1].turnout["mocked"]) == (True, True)
    assert house.upstream.received == []


# --- without a deployment


async def test_a_model_behind_its_provider_needs_no_deployment(house: House) -> None:
    messages = [{"role": "system", "content": "Be {{ kind }}."}, *HELLO]
    answer = await house.ask("main/org/small-2", messages, temperature=0.25, max_tokens=7)
    assert house.sent == {
        "model": "org/small-2",
        "messages": messages,
        "temperature": 0.25,
        "max_tokens": 7,
    }
    said = answer.turnout
    assert (said["provider"], said["deployment"], said["variant"]) == ("main", None, None)
    assert said["version"].startswith("ver_")

    house.upstream.then(house.upstream.streams(list(house.upstream.paris)))
    pieces = await house.pieces("main/org/small-2", messages, temperature=0.25, max_tokens=7)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == "Paris."
    assert pieces[-1].turnout["version"] == said["version"]


async def test_with_an_input_its_messages_are_templates(house: House) -> None:
    await house.ask("main/m", HELLO, extra_body=INPUT)
    assert house.sent["messages"] == [{"role": "user", "content": "hello France"}]
    failure = await house.refused(openai.BadRequestError, "main/m", HELLO, extra_body={"input": {}})
    assert failure.body["reason"] == "MISSING_VARIABLES"  # type: ignore[index]
    failing = [*HELLO, {"role": "user", "content": "{{ country + 1 }}"}]
    failure = await house.refused(openai.BadRequestError, "main/m", failing, extra_body=INPUT)
    assert (failure.body["reason"], failure.param) == ("TEMPLATE_FAILED", "messages[1].content")  # type: ignore[index]


async def test_a_single_provider_need_not_be_named(house: House) -> None:
    await house.ask("small-2", HELLO)
    assert house.sent["model"] == "small-2"
    await house.ask("writer/small-2", HELLO, metadata={"team": "a"})
    assert house.sent["model"] == "small-2"
    assert [served.metadata_json for served in house.room.served()][-1] == '{"agent_id":"writer","team":"a"}'

    failure = await house.refused(openai.NotFoundError, "a/b/c", HELLO)
    assert (failure.code, failure.param) == ("model_not_found", "model")
    assert "<provider>/<model>" in failure.message

    await house.room.put(another_provider())
    assert (await house.refused(openai.NotFoundError, "small-2", HELLO)).code == "model_not_found"
    await house.ask("main/small-2", HELLO)
    await house.ask("small-2", HELLO, extra_body={"provider": "main"})
    assert house.sent["model"] == "small-2"
    assert (await house.refused(openai.NotFoundError, "m", HELLO, extra_body={"provider": "nobody"})).param == "model"


async def test_a_platform_key_has_no_provider(house: House) -> None:
    key, entry = key_entry("deployments:run", project="")
    await house.room.put(entry)
    async with house.client(key) as client:
        with pytest.raises(openai.BadRequestError) as failure:
            await client.chat.completions.create(model="main/m", messages=HELLO)
    assert failure.value.body["reason"] == "TARGET_NEEDS_PROJECT"  # type: ignore[index]


# --- tools and structure


async def test_the_model_calls_tools_and_gets_their_results(house: House) -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    house.upstream.then(http(200, completion(choices=[choice])))
    first = await house.ask("main/m", HELLO, tools=[TOOL])
    [asked] = first.choices[0].message.tool_calls
    assert (asked.id, asked.function.name, asked.function.arguments) == ("call_1", "weather", '{"city":"Paris"}')
    result = {"role": "tool", "tool_call_id": asked.id, "content": "sunny"}
    await house.ask("main/m", [*HELLO, first.choices[0].message, result], tools=[TOOL])
    assert house.sent["messages"][1]["tool_calls"] == [CALL]
    assert house.sent["messages"][2]["content"] == "sunny"


async def test_tool_calls_come_in_pieces(house: House) -> None:
    begin = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":'}}
    more = {"index": 0, "function": {"arguments": '"Paris"}'}}
    events = [chunk(tool_calls=[begin]), chunk(tool_calls=[more]), chunk(finish_reason="tool_calls"), DONE]
    house.upstream.then(house.upstream.streams(events))
    async with (
        house.client() as client,
        client.chat.completions.stream(model="main/m", messages=HELLO, tools=[TOOL]) as stream,
    ):
        final = await stream.get_final_completion()
    [asked] = final.choices[0].message.tool_calls or []
    assert (asked.function.name, asked.function.arguments) == ("weather", '{"city":"Paris"}')


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_a_provider_says_beside_a_tool_call_goes_back_to_it_as_it_came(
    house: House, *, streamed: bool
) -> None:
    # Gemini refuses a call of its own without its signed thoughts.
    call = {**CALL, "extra_content": {"google": {"thought_signature": "c2lnbmVkIHRob3VnaHRz"}}}
    if streamed:
        events = [chunk(tool_calls=[{"index": 0, **call}]), chunk(finish_reason="stop"), DONE]
        house.upstream.then(house.upstream.streams(events))
        deltas = [piece.choices[0].delta for piece in await house.pieces(extra_body=INPUT)]
        [said] = next(delta.tool_calls for delta in deltas if delta.tool_calls)
        again = {"role": "assistant", "tool_calls": [said.model_dump(exclude_none=True)]}
    else:
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        house.upstream.then(http(200, {"choices": [{"message": message, "finish_reason": "stop"}]}))
        again = (await house.ask(extra_body=INPUT)).choices[0].message.model_dump(exclude_none=True)

    result = {"role": "tool", "tool_call_id": CALL["id"], "content": "sunny"}
    await house.ask(messages=[again, result], extra_body=INPUT)
    assert house.sent["messages"][1:] == [{"role": "assistant", "content": None, "tool_calls": [call]}, result]


@pytest.mark.parametrize("model", ["main/m", DEPLOYMENT])
async def test_structured_output_is_parsed_by_the_sdk(house: House, model: str) -> None:
    house.upstream.then(http(200, completion('{"city":"Paris"}')))
    async with house.client() as client:
        answer = await client.chat.completions.parse(
            model=model, messages=HELLO, response_format=City, extra_body=INPUT
        )
    assert answer.choices[0].message.parsed == City(city="Paris")
    assert answer.turnout["output_violations"] == []  # type: ignore[attr-defined]
    assert house.sent["response_format"]["json_schema"]["name"] == "City"


async def test_output_that_does_not_keep_to_its_schema_is_marked(house: House) -> None:
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "City", "schema": City.model_json_schema()}}
    house.upstream.then(http(200, completion('{"city":1}')))
    [violation] = (await house.ask("main/m", HELLO, response_format=wanted)).turnout["output_violations"]
    assert "city" in violation
    house.upstream.then(house.upstream.streams([chunk("{}"), chunk(finish_reason="stop"), DONE]))
    assert (await house.pieces("main/m", HELLO, response_format=wanted))[-1].turnout["output_violations"]


# --- failures


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_completion_tokens"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "foo"}}, "tool_choice.type"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "nobody"}}},
            "tool_choice.function.name",
        ),
        ({"stop": [""]}, "stop[0]"),
    ],
)
@pytest.mark.parametrize("model", [DEPLOYMENT, "main/m"])
async def test_what_the_executor_refuses_is_named_as_the_caller_wrote_it(
    house: House, model: str, fields: dict[str, Any], param: str
) -> None:
    failure = await house.refused(openai.BadRequestError, model, HELLO, extra_body=INPUT, **fields)
    assert failure.param == param
    assert failure.message.count(param)
    assert house.upstream.received == []


@pytest.mark.parametrize("model", [DEPLOYMENT, "main/m"])
async def test_a_picture_from_elsewhere_is_refused_as_the_caller_wrote_it(house: House, model: str) -> None:
    part: Any = {"type": "image_url", "image_url": {"url": "ftp://h/x.png"}}
    said: Any = [{"role": "user", "content": [{"type": "text", "text": "what?"}, part]}]
    failure = await house.refused(openai.BadRequestError, model, said, extra_body=INPUT)
    assert failure.param == "messages[0].content[1].image_url.url"
    assert "must be an https address or a data: URL" in failure.message
    assert house.upstream.received == []


async def test_a_prompt_that_is_too_long_has_openais_code(house: House) -> None:
    error = {"message": "maximum context length is 8 tokens", "code": "context_length_exceeded", "type": "x"}
    house.upstream.then(http(400, {"error": error}))
    failure = await house.refused(openai.BadRequestError, extra_body=INPUT)
    assert (failure.code, failure.param) == ("context_length_exceeded", "messages")


async def test_a_key_that_calls_too_often_is_told_how_long_to_wait(house: House) -> None:
    key, entry = key_entry("deployments:run")
    entry.api_key.requests_per_minute = 6
    await house.room.put(entry)
    async with house.client(key) as client:
        create = client.chat.completions.create
        # Ten seconds' worth may come at once.
        await create(model="main/m", messages=HELLO)
        with pytest.raises(openai.RateLimitError) as failure:
            await create(model="main/m", messages=HELLO)
    assert failure.value.body["reason"] == "KEY_RATE_EXCEEDED"  # type: ignore[index]
    assert int(failure.value.response.headers["retry-after"]) >= 1


async def test_output_that_must_keep_to_its_schema_is_an_error_if_it_does_not(house: House) -> None:
    deployment = deployment_entry()
    variant = deployment.deployment.revisions[0].variants[0]
    variant.completion.output_policy = deployment_pb2.OUTPUT_POLICY_FAIL
    wanted = '{"type":"json_schema","json_schema":{"name":"a","schema":{"type":"object","required":["city"]}}}'
    await house.room.put(version_entry(extra={"response_format_json": wanted}), deployment)
    house.upstream.then(http(200, completion("{}")))
    failure = await house.refused(openai.UnprocessableEntityError, extra_body=INPUT)
    assert failure.code == "output_invalid"


async def test_a_format_that_callers_of_the_alias_could_not_read_is_refused(house: House) -> None:
    schema: Any = {"type": "object", "properties": {"city": {"type": "string"}}}
    held = json.dumps({"type": "json_schema", "json_schema": {"name": "a", "schema": schema}})
    deployment = deployment_entry()
    deployment.deployment.aliases[0].contract.response_format_json = held
    await house.room.put(version_entry(extra={"response_format_json": held}), deployment)
    other: Any = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object", "properties": {}}}}
    failure = await house.refused(openai.UnprocessableEntityError, extra_body=INPUT, response_format=other)
    assert failure.code == "contract_broken"
    assert (failure.param or "").startswith("response_format")


async def test_a_key_for_idempotency_is_passed_on(house: House) -> None:
    # This house has no database.
    failure = await house.refused(
        openai.UnprocessableEntityError, extra_body=INPUT, extra_headers={"Idempotency-Key": "once"}
    )
    assert failure.body["reason"] == "IDEMPOTENCY_NOT_CONFIGURED"  # type: ignore[index]
