from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest
from multidict import CIMultiDict
from pydantic import BaseModel

from kit.errors import Conflict, Denied, Exhausted, Invalid, NotFound, Precondition, Unavailable, Violation
from tests.kit.http_server.serving import until
from tests.services.gateway.conftest import MESSAGES, MODEL
from tests.services.gateway.executors import response
from tests.services.scripted_registry import key_entry
from turnout.chat.v1 import message_pb2
from turnout.executor.v1 import execution_pb2
from turnout.executor.v1 import execution_service_pb2 as pb


async def ask(room: Any, **fields: Any) -> Any:
    async with room.client() as client:
        return await client.chat.completions.create(model=MODEL, messages=MESSAGES, **fields)


async def test_the_sdk_gets_a_completion(room: Any) -> None:
    completion = await ask(room)

    assert (completion.id, completion.object, completion.model) == ("req_1", "chat.completion", "served-model")
    [choice] = completion.choices
    assert (choice.index, choice.finish_reason, choice.message.content) == (0, "stop", "Paris.")
    assert (choice.message.role, choice.message.refusal, choice.message.tool_calls) == ("assistant", None, None)
    assert completion.usage.model_dump(exclude_none=True) == {
        "prompt_tokens": 24,
        "completion_tokens": 8,
        "total_tokens": 32,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    assert completion.turnout == {
        "request_id": "req_1",
        "deployment": "dep_assistant",
        "alias": "live",
        "revision": "rev_1",
        "revision_number": "1.0",
        "variant": "mild",
        "variant_uid": "var_mild",
        "evaluation": "DEFAULT_MATCHED",
        "provider": "main",
        "version": "ver_1",
        "cost_usd": 0.0015,
        "attempts": 2,
        "fallback_index": 0,
        "output_violations": [],
        "mocked": False,
        "latency_ms": 2.5,
    }


async def test_the_blocking_sdk_gets_the_same(room: Any) -> None:
    def work() -> Any:
        with room.blocking_client() as client:
            whole = client.chat.completions.create(model=MODEL, messages=MESSAGES)
            pieces = list(client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True))
            return whole, pieces, [model.id for model in client.models.list()]

    whole, pieces, models = await asyncio.to_thread(work)
    assert whole.choices[0].message.content == "Paris."
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == "Paris."
    assert MODEL in models


async def test_everything_a_call_may_say_reaches_the_executor(room: Any) -> None:
    await ask(
        room,
        user="u",
        metadata={"team": "a"},
        extra_body={
            "input": {"country": "France", "big": 9007199254740993},
            "routing_key": "k",
            "context": {"country": "ES"},
            "identity": {"id": "ada"},
            "thread": "t",
            "trace_id": "mine",
        },
    )

    [request] = room.executor.requests
    assert request == pb.RunRequest(
        deployment="assistant",
        messages=[message_pb2.Message(role=message_pb2.ROLE_USER, content="What is the capital of France?")],
        variables_json='{"country":"France","big":9007199254740993}',
        routing_key="k",
        context_json='{"country":"ES"}',
        identity=execution_pb2.Identity(id="ada"),
        thread="t",
        trace_id="mine",
        user="u",
        metadata_json='{"team":"a"}',
        source=execution_pb2.SOURCE_SDK,
    )


async def test_the_headers_say_who_answered(room: Any) -> None:
    status, headers, body = await room.post()
    assert status == 200
    assert (headers["x-request-id"], headers["x-turnout-variant"]) == ("req_1", "mild")
    assert (headers["content-type"], headers["server"]) == ("application/json", "turnout")
    assert body["created"] > 1_700_000_000
    assert room.executor.requests[0].source == execution_pb2.SOURCE_API


async def test_tool_calls_are_told_and_can_be_answered(room: Any) -> None:
    call = message_pb2.ToolCall(id="call_1", tool="weather", arguments_json='{"city":"Paris"}')
    room.executor.answer = response(
        message=message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, tool_calls=[call]),
        finish_reason=message_pb2.FINISH_REASON_TOOL_CALLS,
    )
    async with room.client() as client:
        first = await client.chat.completions.create(model=MODEL, messages=MESSAGES)
        [choice] = first.choices
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
        result = {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}
        await client.chat.completions.create(model=MODEL, messages=[*MESSAGES, choice.message, result])

    assert list(room.executor.requests[1].messages[1:]) == [
        message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, tool_calls=[call]),
        message_pb2.Message(role=message_pb2.ROLE_TOOL, tool_call_id="call_1", content="sunny"),
    ]


async def test_the_key_is_taken_from_either_header(room: Any) -> None:
    assert (await room.post(headers={"x-api-key": room.key}))[0] == 200
    assert (await room.post(headers={"authorization": f"bearer {room.key}"}))[0] == 200


async def test_headers_that_are_long_only_together_are_carried_on(room: Any) -> None:
    assert (await room.post(headers={"Authorization": f"Bearer {room.key}", "x-api-key": "k" * 1_000}))[0] == 200


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "KEY_MISSING"),
        ({"Authorization": "Basic dTpw"}, "KEY_MISSING"),
        ({"Authorization": "Bearer tk_nonsense"}, "KEY_MALFORMED"),
        ({"Authorization": "Bearer t\u00e9"}, "KEY_MALFORMED"),
        ({"x-api-key": "k" * 5000}, "KEY_MALFORMED"),
    ],
)
async def test_without_a_key_nobody_is_served(room: Any, headers: dict[str, str], reason: str) -> None:
    status, error = await room.refusal(headers=headers)
    assert (status, error["code"], error["reason"]) == (401, "invalid_api_key", reason)
    async with room.http.get(f"{room.url}/v1/models", headers=headers) as answer:
        assert (answer.status, (await answer.json())["error"]["reason"]) == (401, reason)
    assert room.executor.requests == []


async def test_a_long_body_of_a_stranger_is_not_parsed(room: Any) -> None:
    body = b"[" * 100_000
    assert (await room.refusal(body))[0] == 400
    status, error = await room.refusal(body, headers={})
    assert (status, error["reason"]) == (401, "KEY_MISSING")
    assert (await room.post(messages=[{"role": "user", "content": "?" * 100_000}]))[0] == 200


async def test_the_callers_time_out_is_the_deadline_of_the_call(room: Any) -> None:
    async with room.client(timeout=7) as client:
        await client.chat.completions.create(model=MODEL, messages=MESSAGES)
    await room.post()
    await room.post(headers={"Authorization": f"Bearer {room.key}", "x-stainless-timeout": "5"})
    short, default, other = room.executor.remaining
    # gRPC rounds up what it sends.
    assert 6 < short < 8
    assert 599 < default < 602
    assert 4 < other < 6


async def test_a_deadline_that_passes_is_a_504_that_is_not_tried_again(room: Any) -> None:
    room.executor.answer = asyncio.Event()
    headers = {"Authorization": f"Bearer {room.key}", "x-stainless-read-timeout": "0.1"}
    status, found, body = await room.post(headers=headers)
    assert (status, body["error"]["reason"], found["x-should-retry"]) == (504, "DEADLINE_EXCEEDED", "false")
    room.executor.script = [asyncio.Event()]
    status, found, body = await room.post(headers=headers, stream=True)
    assert (status, body["error"]["reason"], found["x-should-retry"]) == (504, "DEADLINE_EXCEEDED", "false")
    await until(lambda: room.executor.left == 2)


async def test_a_stream_may_take_longer_than_the_caller_waits_for_its_beginning(room: Any) -> None:
    async with (
        room.client(timeout=7) as client,
        await client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True) as stream,
    ):
        assert [chunk async for chunk in stream]
    assert room.executor.remaining[0] > 590


@pytest.mark.parametrize(
    ("error", "status", "code", "kind"),
    [
        (NotFound("no", reason="DEPLOYMENT_NOT_FOUND"), 404, "model_not_found", openai.NotFoundError),
        (Denied("no", reason="SCOPE_MISSING"), 403, "scope_missing", openai.PermissionDeniedError),
        (Precondition("no", reason="NO_ACTIVE_VARIANT"), 422, "no_active_variant", openai.UnprocessableEntityError),
        (Invalid("no", reason="MISSING_VARIABLES"), 400, "missing_variables", openai.BadRequestError),
        (Exhausted("no", reason="PROVIDER_RATE_LIMITED"), 429, "rate_limit_exceeded", openai.RateLimitError),
        (Unavailable("no", reason="PROVIDER_FAILED"), 503, "provider_failed", openai.InternalServerError),
        (Conflict("no", reason="DUPLICATE"), 409, "duplicate", openai.ConflictError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_failures_are_the_sdks_own_errors_streaming_or_not(
    room: Any, error: Any, status: int, code: str, kind: type[openai.APIStatusError], *, stream: bool
) -> None:
    error.metadata["request_id"] = "req_9"
    room.executor.answer = error
    room.executor.script = [error]
    with pytest.raises(kind) as failure:
        await ask(room, stream=stream)
    assert (failure.value.status_code, failure.value.code, failure.value.request_id) == (status, code, "req_9")
    said: Any = failure.value.body
    assert (said["message"], said["reason"]) == ("no", error.reason)


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (Precondition("no", reason="PROVIDER_CREDENTIAL_MISSING"), 1),
        (Invalid("no", reason="NO_MESSAGES"), 1),
        (Unavailable("no", reason="PROVIDER_FAILED", retry_after_seconds=0.01), 3),
        (Exhausted("no", reason="PROVIDER_RATE_LIMITED", retry_after_seconds=0.01), 3),
        (Conflict("no", reason="DUPLICATE", retry_after_seconds=0.01), 3),
    ],
)
async def test_the_sdk_tries_again_only_what_can_succeed(room: Any, error: Any, tries: int) -> None:
    room.executor.answer = error
    async with room.client(max_retries=2) as client:
        with pytest.raises(openai.APIStatusError):
            await client.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert len(room.executor.requests) == tries


async def test_what_the_executors_contract_refuses_is_named_as_the_caller_wrote_it(room: Any) -> None:
    for stream in (False, True):
        status, error = await room.refusal(messages=[{"role": "user", "content": "a", "name": "n" * 65}], stream=stream)
        assert (status, error["param"], error["reason"]) == (400, "messages[0].name", "INVALID_REQUEST")
        status, error = await room.refusal(model="deployment/" + "d" * 401, stream=stream)
        assert (status, error["param"]) == (400, "model")
        assert error["message"].startswith("model must be at most 400")
    violation = Violation("metadata_json", "must be at most 16384 bytes")
    room.executor.answer = Invalid("metadata_json must be", reason="JSON_TOO_LARGE", violations=[violation])
    status, error = await room.refusal()
    assert (status, error["param"], error["message"]) == (400, "metadata", "metadata must be")


async def test_a_parameter_of_a_megabyte_is_not_sent_back(local_room: Any) -> None:
    status, error = await local_room.refusal(turnout={"\x1b[31m" + "x" * 1_000_000: 1})
    assert (status, error["reason"]) == (400, "UNKNOWN_PARAMETER")
    assert len(error["message"]) < 200
    assert error["param"] == "turnout.\\x1b[31m" + "x" * 58 + "…"


async def test_a_header_that_is_given_twice_is_refused(local_room: Any) -> None:
    for name in ("Authorization", "x-api-key", "turnout-sequence", "idempotency-key"):
        headers = CIMultiDict({"Authorization": f"Bearer {local_room.key}"})
        headers.extend([(name, "1"), (name, "2")])
        status, error = await local_room.refusal(headers=headers)
        assert (status, error["reason"]) == (400, "HEADER_REPEATED")
        async with local_room.http.get(f"{local_room.url}/v1/models", headers=headers) as answer:
            assert (await answer.json())["error"]["reason"] == "HEADER_REPEATED"


async def test_models_can_be_asked_for_by_head(local_room: Any) -> None:
    headers = {"Authorization": f"Bearer {local_room.key}"}
    for path in ("/v1/models", f"/v1/models/{MODEL}"):
        async with local_room.http.get(local_room.url + path, headers=headers) as whole:
            length = len(await whole.read())
        async with local_room.http.head(local_room.url + path, headers=headers) as answer:
            assert (answer.status, int(answer.headers["content-length"])) == (200, length)
            assert await answer.read() == b""
        async with local_room.http.head(local_room.url + path) as answer:
            assert answer.status == 401


async def test_an_executor_that_is_away_is_unavailable_and_its_address_stays_ours(
    start_room: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with start_room("away") as room:
        for stream in (False, True):
            status, headers, body = await room.post(stream=stream)
            assert (status, headers["retry-after"]) == (503, "1")
            assert (body["error"]["type"], body["error"]["reason"]) == ("server_error", "PEER_UNAVAILABLE")
            assert "127.0.0.1" not in body["error"]["message"]
    # Once, however many calls fail.
    assert [record.getMessage() for record in caplog.records].count("the executor fails") == 1


async def test_a_bug_of_the_executor_is_no_more_than_a_failure(room: Any) -> None:
    room.executor.script = []
    room.executor.answer = None
    for stream in (False, True):
        status, error = await room.refusal(stream=stream)
        assert status == 503
        assert "Traceback" not in error["message"]


# --- what is passed on


async def test_how_new_a_state_the_caller_wants_is_passed_on(room: Any) -> None:
    headers = {"Authorization": f"Bearer {room.key}", "turnout-sequence": "1"}
    assert (await room.post(headers=headers))[0] == 200
    assert room.executor.calls[0].text("turnout-sequence") == "1"
    for wrong in ("soon", "\u00b2"):
        status, error = await room.refusal(headers={**headers, "turnout-sequence": wrong})
        assert (status, error["reason"]) == (400, "SEQUENCE_MALFORMED")


# --- models


async def test_models_are_the_deployments_of_the_project_and_their_aliases(room: Any) -> None:
    async with room.client() as client:
        listed = [(model.id, model.object, model.created, model.owned_by) async for model in client.models.list()]
        names = ["assistant", "draft:beta", "zoo", "zoo:beta", "zoo:production#1"]
        assert listed == [(f"turnout/deployment/{name}", "model", 0, "shop") for name in names]
        one = await client.models.retrieve("turnout/deployment/zoo:production#1")
        assert (one.id, one.owned_by) == ("turnout/deployment/zoo:production#1", "shop")
        for name in ("nothing", "foreign", "films", "zoo:none"):
            with pytest.raises(openai.NotFoundError) as failure:
                await client.models.retrieve(f"turnout/deployment/{name}")
            assert failure.value.code == "model_not_found"
        with pytest.raises(openai.NotFoundError, match="turnout/deployment/<name>"):
            await client.models.retrieve("gpt-4o")


async def test_listing_models_needs_the_scope_to_run_them(local_room: Any) -> None:
    poor, poor_entry = key_entry("registry:read")
    platform, platform_entry = key_entry("platform:admin", project="")
    await local_room.process.put(poor_entry, platform_entry)
    for key, kind in ((poor, openai.PermissionDeniedError), (platform, openai.BadRequestError)):
        async with local_room.client(api_key=key) as client:
            with pytest.raises(kind):
                await client.models.list()


# --- traces


async def test_one_trace_goes_from_the_caller_through_the_gateway_to_the_executor(traced_room: Any) -> None:
    trace_id, span_id = "1" * 32, "2" * 16
    headers = {"Authorization": f"Bearer {traced_room.key}", "traceparent": f"00-{trace_id}-{span_id}-01"}
    await traced_room.post(headers=headers)
    traced_room.tracing.shutdown()
    spans = {span.name: span for span in traced_room.spans.get_finished_spans()}
    http, grpc = spans["POST /v1/chat/completions"], spans["turnout.executor.v1.ExecutionService/Run"]
    assert {f"{span.context.trace_id:032x}" for span in (http, grpc)} == {trace_id}
    assert f"{http.parent.span_id:016x}" == span_id
    assert grpc.parent.span_id == http.context.span_id
    assert http.attributes["http.route"] == "/v1/chat/completions"
    assert http.attributes["http.response.status_code"] == 200
    assert traced_room.executor.calls[0].trace.trace_id == trace_id


async def test_a_call_that_is_not_sampled_has_one_trace_id_all_the_way(room: Any) -> None:
    await room.post(headers={"Authorization": f"Bearer {room.key}", "traceparent": f"00-{'a' * 32}-{'b' * 16}-00"})
    assert room.executor.calls[0].trace.trace_id == "a" * 32
    assert not room.executor.calls[0].trace.sampled


# --- calls that are made once


async def test_a_repeated_answer_says_so(room: Any) -> None:
    headers = {"Authorization": f"Bearer {room.key}", "Idempotency-Key": "once"}
    first = await room.post(headers=headers)
    room.executor.answer = response(repeated_answer=True)
    second = await room.post(headers=headers)
    assert [request.idempotency_key for request in room.executor.requests] == ["once", "once"]
    assert ("idempotency-replayed" in first[1], second[1]["idempotency-replayed"]) == (False, "true")


async def test_streams_are_never_made_once(room: Any) -> None:
    headers = {"Authorization": f"Bearer {room.key}", "Idempotency-Key": "once"}
    status, error = await room.refusal(headers=headers, stream=True)
    assert (status, error["reason"], error["param"]) == (400, "IDEMPOTENCY_KEY_OF_STREAM", "Idempotency-Key")
    for key in ("k" * 257, "k" * 2000, "ü"):
        status, error = await room.refusal(headers={**headers, "Idempotency-Key": key})
        assert (status, error["param"]) == (400, "Idempotency-Key")
    assert room.executor.requests == []


class Weather(BaseModel):
    city: str


async def test_a_call_that_the_sdk_has_parsed_can_be_sent_back(local_room: Any) -> None:
    call = message_pb2.ToolCall(id="call_1", tool="Weather", arguments_json='{"city":"Paris"}')
    local_room.executor.answer = response(
        message=message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, tool_calls=[call]),
        finish_reason=message_pb2.FINISH_REASON_TOOL_CALLS,
    )
    tools = [openai.pydantic_function_tool(Weather)]
    async with local_room.client() as client:
        first = await client.chat.completions.parse(model=MODEL, messages=MESSAGES, tools=tools)
        local_room.executor.answer = response()
        result: Any = {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}
        sent: list[Any] = [*MESSAGES, first.choices[0].message, result]
        await client.chat.completions.parse(model=MODEL, messages=sent, tools=tools)

    assert list(local_room.executor.requests[-1].messages[1].tool_calls) == [call]
