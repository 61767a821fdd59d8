from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from kit import status
from kit.errors import Invalid
from kit.interceptors.validation import PATTERNS, Validation
from turnout.chat.v1 import message_pb2
from turnout.executor.v1 import execution_service_pb2 as pb
from turnout.registry.v1 import deployment_service_pb2

PROTOS = Path(__file__).resolve().parents[3] / "protos" / "turnout"


async def _never(request: pb.RunRequest, context: Any) -> pb.RunResponse:
    raise AssertionError("the rpc's code must not run")


async def test_a_request_that_breaks_its_contract_is_refused_with_the_path_of_every_field(served: Any) -> None:
    request = pb.RunRequest(deployment="x" * 500, routing_key="x" * 600)
    request.messages.add(content="no role")

    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await served.run(_never, request=request)

    error = status.from_rpc_error(failure.value, peer="test")
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.reason == "INVALID_REQUEST"
    assert {violation.field for violation in error.violations} == {"deployment", "routing_key", "messages[0].role"}


async def test_the_key_is_checked_before_the_message(served: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await served.run(_never, request=pb.RunRequest(), metadata=())

    assert failure.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_every_pattern_of_a_contract_has_a_rule_in_words() -> None:
    found = {
        pattern
        for file in PROTOS.rglob("*.proto")
        for pattern in re.findall(r'(?:string\.|\s)pattern(?: =|:) "([^"]+)"', file.read_text())
    }

    assert found
    assert found == set(PATTERNS)


async def test_a_value_that_does_not_match_is_refused_in_words() -> None:
    request = deployment_service_pb2.CreateDeploymentRequest(parent="projects/shop", deployment_id="No Way")
    call: Any = None
    with pytest.raises(Invalid) as failure:
        await Validation().enter(call, request)

    told = {each.field: each.message for each in failure.value.violations}
    assert told["deployment_id"] == "must be 1 to 63 of a-z, 0-9, _ and -, with a letter among them"


async def _told(request: Message) -> dict[str, str]:
    call: Any = None
    with pytest.raises(Invalid) as failure:
        await Validation().enter(call, request)
    return {each.field: each.message for each in failure.value.violations}


async def test_a_value_that_an_enum_does_not_have_is_refused_with_those_that_it_has() -> None:
    request = pb.RunRequest(deployment="assistant", source=77)  # type: ignore[arg-type]  # from a newer client
    request.messages.add(content="no role")
    request.messages.add(role=99, content="no such role")

    told = await _told(pb.RunStreamRequest(run=request))

    assert told == {
        "run.messages[0].role": "must be one of system, developer, user, assistant, tool",
        "run.messages[1].role": "must be one of system, developer, user, assistant, tool",
        "run.source": "must be one of api, sdk, simulator",
    }


async def test_enums_of_nested_messages_are_found_by_their_path() -> None:
    request = deployment_service_pb2.CreateDeploymentRequest(parent="projects/shop", deployment_id="shop")
    request.deployment.kind = 9  # type: ignore[assignment]  # as above
    request.deployment.routing.fields.add(name="country")

    told = await _told(request)

    assert told["deployment.kind"] == "must be one of completion, recommendation"
    assert told["deployment.routing.fields[0].kind"].startswith("must be one of string, ")


async def test_a_text_that_is_not_among_those_of_its_field_is_refused_with_them() -> None:
    request = pb.RunRequest(deployment="assistant")
    message = request.messages.add(role=message_pb2.ROLE_USER)
    message.parts.add(image=message_pb2.Image(url="https://h/x.png", detail="sharp"))

    told = await _told(request)

    assert told == {"messages[0].parts[0].image.detail": "must be one of low, high, auto, or empty"}


async def test_a_usual_request_is_looked_at_in_microseconds() -> None:
    # A rule in CEL on a message that every call has takes five times as long.
    request = pb.RunRequest(deployment="assistant", variables_json="{}", routing_key="u")
    request.messages.add(role=message_pb2.ROLE_USER, content="hello")
    call: Any = None
    validation = Validation()
    await validation.enter(call, request)
    taken = []
    for _ in range(20):
        begun = time.process_time()
        for _ in range(50):
            await validation.enter(call, request)
        taken.append((time.process_time() - begun) / 50)

    assert min(taken) < 20e-6
