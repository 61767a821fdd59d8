"""What goes wrong has a status with a stable reason: never INTERNAL, never a traceback to a caller."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from kit import status
from kit.errors import AppError
from stack.services import Installation
from tests.system.clients import Clients, eventually, tenant
from turnout.executor.v1 import execution_service_pb2

pytestmark = pytest.mark.slow


async def _failure(call: Any) -> tuple[grpc.StatusCode, AppError]:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return failure.value.code(), status.from_rpc_error(failure.value, peer="turnout")


async def test_an_unknown_deployment_and_an_unknown_alias_are_not_found(shop: Clients, instant_llm: str) -> None:
    await shop.create_provider("instant", instant_llm)
    await shop.create_deployment("agent", "instant")

    code, error = await _failure(shop.run("nobody"))
    assert (code, error.reason) == (grpc.StatusCode.NOT_FOUND, "DEPLOYMENT_NOT_FOUND")
    code, error = await _failure(shop.run("agent:staging"))
    assert (code, error.reason) == (grpc.StatusCode.NOT_FOUND, "ALIAS_NOT_FOUND")


async def test_a_wrong_key_is_not_let_in(shop: Clients) -> None:
    for key, reason in (("", "KEY_MALFORMED"), (shop.key[:-1] + "!", "KEY_MALFORMED")):
        code, error = await _failure(shop.with_key(key).run("agent"))
        assert (code, error.reason) == (grpc.StatusCode.UNAUTHENTICATED, reason)


async def test_a_missing_scope_is_denied_by_every_service(shop: Clients) -> None:
    weak = shop.with_key((await shop.create_key(["predict"])).key)
    weak.sequence = shop.sequence

    for call in (weak.run("agent"), weak.totals(), weak.all_logs(), weak.create_key(["predict"])):
        code, error = await _failure(call)
        assert (code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING")
    await weak.close()


async def test_another_projects_things_are_not_found(
    shop: Clients, installation: Installation, instant_llm: str
) -> None:
    async with tenant(installation) as other:
        await other.create_provider("instant", instant_llm)
        theirs = await other.create_deployment("theirs", "instant")
        shop.sequence = other.sequence

        for target in ("theirs", theirs.uid, theirs.name):
            code, error = await _failure(shop.run(target))
            assert (code, error.reason) == (grpc.StatusCode.NOT_FOUND, "DEPLOYMENT_NOT_FOUND")
        intruder = shop.with_key(shop.key)
        intruder.project = other.project
        for call in (intruder.totals(), intruder.all_logs(), intruder.create_key(["predict"])):
            code, error = await _failure(call)
            assert (code, error.reason) == (grpc.StatusCode.NOT_FOUND, "PROJECT_NOT_FOUND")
        await intruder.close()


async def test_an_invalid_message_names_its_fields(shop: Clients) -> None:
    request = execution_service_pb2.RunRequest(deployment="agent", routing_key="x" * 600)
    request.messages.add(content="no role")

    code, error = await _failure(shop.read(shop.executions.Run, request))

    assert (code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert {violation.field for violation in error.violations} == {"routing_key", "messages[0].role"}


@pytest.mark.parametrize("text", ["{", "[]", '{"a":' * 200 + "1" + "}" * 200])
async def test_variables_that_are_no_object_are_refused_with_their_field(
    shop: Clients, instant_llm: str, text: str
) -> None:
    await shop.create_provider("instant", instant_llm)
    await shop.create_deployment("agent", "instant")

    code, error = await _failure(shop.run("agent", variables_json=text))

    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in error.violations] == ["variables_json"]


async def test_missing_variables_are_named(shop: Clients, instant_llm: str) -> None:
    await shop.create_provider("instant", instant_llm)
    await shop.create_deployment("agent", "instant", prompts=["{{ country }} in {{ language }} for {{ name }}"])

    code, error = await _failure(shop.run("agent", variables_json='{"name": "Ada"}'))

    assert (code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MISSING_VARIABLES")
    assert {violation.field for violation in error.violations} == {"variables.country", "variables.language"}


async def test_whether_a_call_is_in_order_does_not_depend_on_the_variant_it_gets(
    shop: Clients, instant_llm: str
) -> None:
    await shop.create_provider("instant", instant_llm)
    await shop.create_deployment("agent", "instant", prompts=["In {{ country }}.", "For {{ name }}."])

    for number in range(20):
        caller = {"routing_key": f"user-{number}"}
        for given, missing in (('{"country": "x"}', "variables.name"), ('{"name": "x"}', "variables.country")):
            code, error = await _failure(shop.run("agent", variables_json=given, **caller))
            assert (code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MISSING_VARIABLES")
            assert [violation.field for violation in error.violations] == [missing]
    served = {
        (
            await shop.run("agent", variables_json='{"country": "x", "name": "y"}', routing_key=f"user-{number}")
        ).decision.variant
        for number in range(20)
    }
    assert len(served) == 2


async def test_a_provider_that_is_down_is_told_with_every_attempt(shop: Clients) -> None:
    await shop.create_provider("down", "http://127.0.0.1:9/v1")
    await shop.create_deployment("agent", "down", max_retries=2)

    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await shop.run("agent", timeout=60)

    error = status.from_rpc_error(failure.value, peer="turnout")
    assert (failure.value.code(), error.reason) == (grpc.StatusCode.UNAVAILABLE, "PROVIDER_FAILED")
    assert error.metadata["attempts_"] == "3"

    async def counted() -> None:
        logs = await shop.all_logs("agent")
        assert len(logs) == 1
        assert [attempt.reason for attempt in logs[0].request.attempts] == ["PROVIDER_UNREACHABLE"] * 3

    await eventually(counted)


async def test_a_provider_that_answers_garbage_is_told_as_such(shop: Clients, garbage_llm: str) -> None:
    await shop.create_provider("garbage", garbage_llm)
    await shop.create_deployment("agent", "garbage")

    code, error = await _failure(shop.run("agent"))

    assert code is grpc.StatusCode.UNAVAILABLE
    assert error.reason == "PROVIDER_FAILED"


async def test_a_planted_credential_appears_nowhere(
    shop: Clients, installation: Installation, refusing_llm: str
) -> None:
    credential = "sk-planted-credential-93481"
    await shop.create_provider("refusing", refusing_llm, credential)
    await shop.create_deployment("agent", "refusing")

    code, error = await _failure(shop.run("agent"))

    assert code is not grpc.StatusCode.INTERNAL
    assert credential not in str(error)
    for path in installation.folder.rglob("*"):
        if path.is_file():
            assert credential.encode() not in path.read_bytes(), path
