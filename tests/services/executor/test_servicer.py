from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from kit.status import reason_of
from kit.telemetry.otlp import request_of
from tests.services.executor.outcomes import CANCELLED, ERROR, OK, details, until
from turnout.chat.v1 import message_pb2
from turnout.events.v1 import request_pb2
from turnout.executor.v1 import execution_pb2
from turnout.executor.v1 import execution_service_pb2 as pb
from turnout.executor.v1 import execution_service_pb2_grpc as rpc
from turnout.registry.v1 import provider_pb2
from turnout.router.v1 import decision_pb2


def user(text: str) -> message_pb2.Message:
    return message_pb2.Message(role=message_pb2.ROLE_USER, content=text)


async def test_a_call_is_served_and_recorded(room: Any) -> None:
    response = await room.run(identity={"id": "ada"}, thread="t1", trace_id="mine", metadata_json='{"team":"a"}')

    assert response.message == message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, content="Paris.")
    assert response.finish_reason == message_pb2.FINISH_REASON_STOP
    assert (response.provider, response.model, response.version) == ("main", "served-model", "ver_1")
    assert (response.usage.input_tokens, response.usage.output_tokens) == (24, 8)
    assert not response.usage.HasField("cached_input_tokens")
    assert not response.HasField("cost_usd_micros")
    assert response.decision == decision_pb2.Decision(
        deployment="dep_assistant",
        alias="live",
        revision="rev_1",
        revision_number="1.0",
        variant="var_assistant",
        variant_slug="v1",
        evaluation=decision_pb2.EVALUATION_DEFAULT_MATCHED,
        propensity=1,
        key_kind=decision_pb2.KEY_KIND_IDENTITY,
    )
    [attempt] = response.attempts
    assert (attempt.provider, attempt.model, attempt.http_status, attempt.reason) == ("main", "test-model", 200, "")

    assert room.upstream.received[0].body == {
        "model": "test-model",
        "temperature": 0.5,
        "max_tokens": 64,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
    }
    [served] = room.served()
    assert served.request_id == response.request_id
    assert served.status == request_pb2.REQUEST_STATUS_OK
    assert (served.project, served.project_slug, served.deployment_slug) == ("prj_shop", "shop", "assistant")
    assert (served.provider, served.model, served.version) == ("main", "test-model", "ver_1")
    assert (served.identity, served.thread, served.caller_trace_id) == ("ada", "t1", "mine")
    assert served.metadata_json == '{"team":"a"}'
    assert served.decision == response.decision
    assert served.served_variant == "var_assistant"
    assert served.usage == response.usage
    assert served.latency_us == response.latency_us > 0
    assert served.source == execution_pb2.SOURCE_API
    assert served.service_instance == room.runtime.options.instance
    assert len(served.trace_id) == 32
    assert room.key.split("_")[1] == served.api_key
    [payload] = room.payloads()
    assert json.loads(payload.data) == {
        "message": {"role": "assistant", "content": "Paris."},
        "variables": {"country": "France"},
        "messages": [],
    }


async def test_the_callers_messages_follow_and_are_never_templates(room: Any) -> None:
    await room.run(messages=[user("And {{ country }}?")])
    sent = room.upstream.received[0].body["messages"]
    assert [message["content"] for message in sent] == ["What is the capital of France?", "And {{ country }}?"]


async def test_retries_end_with_an_answer_that_tells_of_them(room: Any) -> None:
    await room.put_deployment(max_retries=1)
    room.upstream.then(room.upstream.http(503, {"error": {"message": "overloaded"}}))
    response = await room.run()
    first, second = response.attempts
    assert (first.http_status, first.reason) == (503, "PROVIDER_ERROR")
    assert first.message == 'the provider answered HTTP 503: "overloaded"'
    assert (second.http_status, second.reason) == (200, "")
    assert list(room.served()[0].attempts) == list(response.attempts)


@pytest.mark.parametrize(
    ("fields", "code", "reason", "field"),
    [
        ({"deployment": "nothing"}, grpc.StatusCode.NOT_FOUND, "DEPLOYMENT_NOT_FOUND", ""),
        ({"deployment": "foreign"}, grpc.StatusCode.NOT_FOUND, "DEPLOYMENT_NOT_FOUND", ""),
        ({"deployment": "projects/other/deployments/foreign"}, grpc.StatusCode.NOT_FOUND, "DEPLOYMENT_NOT_FOUND", ""),
        ({"deployment": "dep_foreign"}, grpc.StatusCode.NOT_FOUND, "DEPLOYMENT_NOT_FOUND", ""),
        ({"deployment": "assistant:beta"}, grpc.StatusCode.NOT_FOUND, "ALIAS_NOT_FOUND", ""),
        ({"key": "tk_nonsense"}, grpc.StatusCode.UNAUTHENTICATED, "KEY_MALFORMED", ""),
        ({"deployment": ""}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", "deployment"),
        (
            {"messages": [message_pb2.Message(content="no role")]},
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_REQUEST",
            "messages[0].role",
        ),
        (
            {
                "messages": [
                    message_pb2.Message(role=message_pb2.ROLE_USER, content="a", parts=[message_pb2.Part(text="b")])
                ]
            },
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_REQUEST",
            "messages[0]",
        ),
        ({"variables_json": "{"}, grpc.StatusCode.INVALID_ARGUMENT, "JSON_MALFORMED", "variables_json"),
        ({"variables_json": ""}, grpc.StatusCode.INVALID_ARGUMENT, "MISSING_VARIABLES", "variables.country"),
        ({"identity": {"id": "x" * 257}}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", "identity.id"),
    ],
)
async def test_bad_input_gets_a_defined_status(
    room: Any, fields: dict[str, Any], code: grpc.StatusCode, reason: str, field: str
) -> None:
    failure = await room.failure(**fields)
    assert (failure.code(), reason_of(failure)) == (code, reason)
    if field:
        violations = details(failure, error_details_pb2.BadRequest).field_violations
        assert [violation.field for violation in violations] == [field]
    assert room.upstream.received == []


async def test_keys_are_told_apart(room: Any, make_key: Any) -> None:
    unknown, _ = make_key("deployments:run")
    poor, poor_entry = make_key("registry:read")
    expired, expired_entry = make_key("deployments:run", expire_time_ms=1)
    await room.put(poor_entry, expired_entry)
    found = [(await room.failure(key=key)) for key in (unknown, poor, expired)]
    assert [reason_of(failure) for failure in found] == ["KEY_UNKNOWN", "SCOPE_MISSING", "KEY_EXPIRED"]
    assert found[1].code() is grpc.StatusCode.PERMISSION_DENIED
    assert room.served() == []


async def test_a_platform_key_names_the_project(room: Any, make_key: Any) -> None:
    platform, entry = make_key("platform:admin", project="")
    await room.put(entry)
    assert reason_of(await room.failure(key=platform)) == "TARGET_NEEDS_PROJECT"
    await room.run("projects/shop/deployments/assistant:live", key=platform)
    assert len(room.served()) == 1


async def test_a_failure_before_the_decision_is_recorded_with_what_was_called_alone(room: Any) -> None:
    failure = await room.failure(variables_json="[1]")
    [served] = room.served()
    assert (served.status, served.reason) == (ERROR, "JSON_NOT_OBJECT")
    assert {field.name for field, _ in served.decision.ListFields()} == {
        "deployment",
        "alias",
        "revision",
        "revision_number",
    }
    assert details(failure, error_details_pb2.ErrorInfo).metadata["request_id"] == served.request_id
    assert json.loads(room.payloads()[0].data)["variables"] == "[1]"


async def test_nothing_to_serve_with_is_a_precondition(room: Any) -> None:
    await room.put_deployment(weight=0)
    failure = await room.failure()
    assert (failure.code(), reason_of(failure)) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_ACTIVE_VARIANT")
    [served] = room.served()
    assert (served.status, served.reason, served.decision.variant) == (ERROR, "NO_ACTIVE_VARIANT", "")
    assert served.decision.evaluation == decision_pb2.EVALUATION_DEFAULT_MATCHED


async def test_a_provider_that_is_down_is_unavailable_with_every_attempt(room: Any) -> None:
    await room.put_deployment(max_retries=1)
    await room.put(room.provider_entry("http://127.0.0.1:1/v1"))
    failure = await room.failure()
    assert (failure.code(), reason_of(failure)) == (grpc.StatusCode.UNAVAILABLE, "PROVIDER_FAILED")
    lines = details(failure, error_details_pb2.DebugInfo).stack_entries
    assert len(lines) == 2
    assert all(line.startswith("main/test-model: PROVIDER_UNREACHABLE: ") for line in lines)
    [served] = room.served()
    assert (served.status, served.reason, len(served.attempts)) == (ERROR, "PROVIDER_FAILED", 2)
    assert served.served_variant == ""


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (400, grpc.StatusCode.INVALID_ARGUMENT, "PROVIDER_REJECTED_REQUEST"),
        (401, grpc.StatusCode.FAILED_PRECONDITION, "PROVIDER_CREDENTIAL_REFUSED"),
        (404, grpc.StatusCode.FAILED_PRECONDITION, "PROVIDER_MODEL_NOT_FOUND"),
        (429, grpc.StatusCode.RESOURCE_EXHAUSTED, "PROVIDER_RATE_LIMITED"),
        (500, grpc.StatusCode.UNAVAILABLE, "PROVIDER_FAILED"),
    ],
)
async def test_what_a_provider_answers_becomes_a_status_the_caller_can_act_on(
    room: Any, status: int, code: grpc.StatusCode, reason: str
) -> None:
    room.upstream.then(room.upstream.http(status, {"error": {"message": "its own words"}}, ["retry-after: 3"]))
    failure = await room.failure()
    assert (failure.code(), reason_of(failure)) == (code, reason)
    assert "its own words" in (failure.details() or "")
    if status in (429, 500):
        assert details(failure, error_details_pb2.RetryInfo).retry_delay.seconds == 3


async def test_garbage_from_a_provider_is_never_our_bug(room: Any) -> None:
    http = room.upstream.http
    for step in (
        http(200, b"<html>", content_type="text/html"),
        http(200, b"{"),
        http(200, {"choices": [{"message": {"tool_calls": 7}}]}),
        http(200, {"error": "no"}),
        b"nonsense\r\n\r\n",
        room.upstream.half,
        room.upstream.reset,
    ):
        room.upstream.then(step)
        failure = await room.failure()
        assert (failure.code(), reason_of(failure)) == (grpc.StatusCode.UNAVAILABLE, "PROVIDER_FAILED")
    assert {served.reason for served in room.served()} == {"PROVIDER_FAILED"}


async def test_a_caller_who_leaves_is_recorded_and_the_provider_is_told(room: Any) -> None:
    room.upstream.then(room.upstream.stall)
    call = asyncio.create_task(room.run())
    await until(lambda: room.upstream.received)
    call.cancel()
    await until(room.served)
    [served] = room.served()
    assert (served.status, served.reason) == (CANCELLED, "CALLER_LEFT")
    await until(lambda: room.upstream.left)


async def test_a_deadline_that_passes_is_recorded_as_such(room: Any) -> None:
    room.upstream.then(room.upstream.stall)
    failure = await room.failure(timeout=0.5)
    assert failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(room.served)
    [served] = room.served()
    assert (served.status, served.reason) == (CANCELLED, "DEADLINE_EXCEEDED")
    assert len(served.attempts) == 1


async def test_an_answer_that_a_callers_client_would_not_take_is_the_providers_failure(room: Any) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{room.runtime.server.port}") as plain:
        room.stub = rpc.ExecutionServiceStub(plain)
        room.upstream.then(room.upstream.http(200, room.upstream.completion("x" * (6 << 20))))
        failure = await room.failure()
        assert (failure.code(), reason_of(failure)) == (grpc.StatusCode.UNAVAILABLE, "PROVIDER_FAILED")

        room.upstream.then(room.upstream.http(200, room.upstream.completion("x" * (2900 << 10))))
        assert len((await room.run()).message.content) == 2900 << 10
    assert [served.status for served in room.served()] == [ERROR, OK]


async def test_the_variants_own_time_ends_an_attempt(room: Any) -> None:
    await room.put_deployment(attempt_timeout=0.2)
    room.upstream.then(room.upstream.stall)
    failure = await room.failure()
    assert reason_of(failure) == "PROVIDER_FAILED"
    assert room.served()[0].attempts[0].reason == "PROVIDER_TIMEOUT"


async def test_a_prompt_of_two_mebibytes_is_served_and_recorded(room: Any) -> None:
    await room.run(messages=[user("x" * (2 << 20))], metadata_json=json.dumps({"a": "y" * 16000}))
    assert len(room.upstream.received[0].body["messages"][1]["content"]) == 2 << 20
    [served] = room.served()
    assert served.ByteSize() <= 256 << 10
    pieces = room.payloads()
    assert sum(len(piece.data) for piece in pieces) == 1 << 20
    assert all(piece.truncated and piece.count == len(pieces) for piece in pieces)
    assert [piece.index for piece in pieces] == list(range(len(pieces)))
    assert max(len(piece.data) for piece in pieces) == 192 << 10


async def test_the_record_stays_small_whatever_the_provider_says(room: Any) -> None:
    await room.put_deployment(max_retries=1)
    room.upstream.then(room.upstream.http(503, {"error": {"message": "z" * 500_000}}))
    room.upstream.then(room.upstream.http(200, room.upstream.completion(model="m" * 500_000)))
    response = await room.run()
    assert len(response.model) == 256
    assert room.served()[0].ByteSize() < 2048


async def test_payloads_are_left_out_if_nobody_wants_them(start_room: Any, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TURNOUT_EXECUTOR_CAPTURE_PAYLOADS", "false")
    async with start_room() as room:
        await room.run()
        assert room.payloads() == []
        assert not room.served()[0].payload_shed


async def test_a_call_is_refused_before_the_provider_is_called_if_it_cannot_be_recorded(
    start_room: Any, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("TURNOUT_SPOOL_MAX_BYTES", str(32 << 20))
    metadata = json.dumps({"a": "y" * 16000})
    async with start_room() as room:
        # Payloads fill four fifths, then they are shed and the records fill the rest.
        for _ in range(30):
            await room.run(messages=[user("x" * (1 << 20))])
        calls = [room.run(metadata_json=metadata, timeout=60) for _ in range(300)]
        failures = [
            each for each in await asyncio.gather(*calls, return_exceptions=True) if isinstance(each, Exception)
        ]

        assert failures
        for failure in failures:
            assert isinstance(failure, grpc.aio.AioRpcError)
            assert (failure.code(), reason_of(failure)) == (grpc.StatusCode.UNAVAILABLE, "SPOOL_FULL")
        assert len(room.upstream.received) == len(room.served()) == 330 - len(failures)
        kept = [served.payload_shed for served in room.served()]
        assert kept == sorted(kept)
        assert (kept[0], kept[-1]) == (False, True)


async def test_a_provider_of_openais_needs_a_credential(room: Any) -> None:
    await room.put(room.provider_entry(room.upstream.base_url, kind=provider_pb2.PROVIDER_KIND_OPENAI))
    gone = type(room.provider_entry(""))(key="credential/prv_main")
    await room.put(gone)
    failure = await room.failure()
    assert (failure.code(), reason_of(failure)) == (grpc.StatusCode.FAILED_PRECONDITION, "PROVIDER_CREDENTIAL_MISSING")


async def test_the_credential_reaches_the_provider_and_nothing_else(
    traced_room: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    room = traced_room
    caplog.set_level(logging.DEBUG)
    http, echo = room.upstream.http, {"error": {"message": f"bad key {room.credential}"}}
    room.upstream.then(http(200, room.upstream.completion()), *(http(status, echo) for status in (400, 401, 500)))
    room.upstream.then(http(200, echo), http(200, room.credential.encode(), content_type=room.credential))
    await room.run()
    failures = [await room.failure() for _ in range(5)]

    sent = [received.headers["authorization"] for received in room.upstream.received]
    assert sent == [f"Bearer {room.credential}"] * 6
    told = [
        repr((failure.details(), failure.trailing_metadata(), failure.debug_error_string())) for failure in failures
    ]
    logged = [record.getMessage() + repr(record.__dict__) for record in caplog.records]
    traced = [str(request_of([span])) for span in await room.finished_spans()]
    assert len(traced) >= 12
    for text in (*told, *logged, *traced):
        assert room.credential not in text
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert all(room.credential.encode() not in path.read_bytes() for path in files)


async def test_a_sampled_call_is_traced_through_to_the_provider(traced_room: Any) -> None:
    room = traced_room
    await room.put_deployment(max_retries=1)
    room.upstream.then(room.upstream.http(503, {}))
    response = await room.run()

    spans = await room.finished_spans()
    attempts = [span for span in spans if span.name == "chat test-model"]
    [parent] = [span for span in spans if span.name.endswith("/Run")]
    assert len(attempts) == len(response.attempts) == 2
    assert {span.parent.span_id for span in attempts} == {parent.context.span_id}
    failed, served = (span.attributes for span in attempts)
    assert served["gen_ai.operation.name"] == "chat"
    assert (served["gen_ai.provider.name"], served["gen_ai.request.model"]) == ("main", "test-model")
    assert served["turnout.provider"] == "main"
    assert (served["gen_ai.response.model"], served["gen_ai.usage.input_tokens"]) == ("served-model", 24)
    assert (failed["error.type"], failed["http.response.status_code"]) == ("PROVIDER_ERROR", 503)
    for span, received in zip(attempts, room.upstream.received, strict=True):
        place = f"{span.context.trace_id:032x}-{span.context.span_id:016x}"
        assert received.headers["traceparent"] == f"00-{place}-01"
    assert room.served()[0].trace_id == f"{parent.context.trace_id:032x}"


async def test_a_call_that_is_not_sampled_sends_no_trace_header(room: Any) -> None:
    await room.run()
    assert "traceparent" not in room.upstream.received[0].headers


@pytest.mark.parametrize("kind", ["openai", "openai_compatible", "anthropic", "ollama"])
async def test_the_configuration_of_a_call_is_what_it_sends(room: Any, kind: str) -> None:
    number = provider_pb2.ProviderKind.Value(f"PROVIDER_KIND_{kind.upper()}")
    await room.put(room.provider_entry(room.upstream.base_url, kind=number))
    request = pb.RunRequest(deployment="assistant", variables_json='{"country": "France"}', routing_key="u")
    request.messages.add(role=message_pb2.ROLE_USER, content="Why?")
    request.overrides.parameters.temperature = 0.5
    request.overrides.parameters.extra_json = '{"z": 1}'
    metadata = (("authorization", f"Bearer {room.key}"),)

    told = await room.stub.GetConfig(pb.GetConfigRequest(run=request), metadata=metadata, timeout=10)
    assert not room.upstream.received
    with suppress(grpc.aio.AioRpcError):
        # Whatever this upstream answers to requests of that shape.
        await room.stub.Run(request, metadata=metadata, timeout=10)

    [target] = told.targets
    asked = room.upstream.received[0]
    # That the adapters send what they tell to the byte, their own tests show on the wire.
    assert json.loads(target.body_json) == asked.body
    assert list(json.loads(target.body_json)) == list(asked.body)
    assert target.method_and_url.startswith(f"POST {room.upstream.base_url}/")
    assert (told.decision.variant_slug, told.messages[-1].content) == ("v1", "Why?")
    assert told.version.startswith("ver_")
    assert told.configuration.parameters.temperature == 0.5
