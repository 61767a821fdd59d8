"""What a caller must mend is told with its path, and nobody is asked."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from kit.status import reason_of
from tests.services.executor.outcomes import details
from turnout.chat.v1 import message_pb2
from turnout.executor.v1 import execution_pb2
from turnout.executor.v1 import execution_service_pb2 as pb
from turnout.registry.v1 import version_pb2

HELLO = message_pb2.Message(role=message_pb2.ROLE_USER, content="Hello")
PICTURE = message_pb2.Message(
    role=message_pb2.ROLE_USER, parts=[message_pb2.Part(image=message_pb2.Image(url="ftp://h/x.png"))]
)
RESULT = message_pb2.Message(role=message_pb2.ROLE_TOOL, content="18")
CALLED = message_pb2.Message(
    role=message_pb2.ROLE_ASSISTANT,
    tool_calls=[message_pb2.ToolCall(id="c1", tool="look", arguments_json="{", extra_content_json="{")],
)
LOOK = '[{"type":"function","function":{"name":"look"}}]'
NAMED = '{"type":"function","function":{"name":"find"}}'


def over(**fields: Any) -> dict[str, Any]:
    return {"overrides": pb.Overrides(**fields)}


def direct(**fields: Any) -> dict[str, Any]:
    version = version_pb2.Version(provider="main", model="gpt", **fields)
    return {"deployment": "", "direct": version, "messages": [HELLO]}


THREE = version_pb2.Parameters(extra_json='{"n":3}')
PHOTO = message_pb2.Part(image=message_pb2.Image(url="{{ photo }}"))
MISTAKES: list[tuple[dict[str, Any], str, str]] = [
    ({"messages": [RESULT]}, "INVALID_REQUEST", "messages[0].tool_call_id"),
    ({"messages": [CALLED]}, "INVALID_REQUEST", "messages[0].tool_calls[0].extra_content_json"),
    ({"prefix_messages": [HELLO, PICTURE]}, "INVALID_REQUEST", "prefix_messages[1].parts[0].image.url"),
    ({"source": execution_pb2.SOURCE_SIMULATOR}, "INVALID_REQUEST", "source"),
    (over(tool_choice_json='{"type":"foo"}'), "VERSION_INVALID", "overrides.tool_choice.type"),
    (over(tool_choice_json='"required"'), "VERSION_INVALID", "overrides.tool_choice"),
    (
        over(tools_json=LOOK, tool_choice_json=NAMED),
        "VERSION_INVALID",
        "overrides.tool_choice.function.name",
    ),
    (over(parameters=THREE), "VERSION_INVALID", "overrides.parameters.extra.n"),
    (direct(tool_choice_json='"required"'), "VERSION_INVALID", "direct.tool_choice"),
    (direct(tools_json=LOOK, tool_choice_json=NAMED), "VERSION_INVALID", "direct.tool_choice.function.name"),
    (direct(parameters=THREE), "VERSION_INVALID", "direct.parameters.extra.n"),
    (direct(messages=[PICTURE]), "INVALID_REQUEST", "direct.messages[0].parts[0].image.url"),
    (direct() | over(tools_json="[]"), "INVALID_REQUEST", "overrides"),
    (
        direct(messages=[message_pb2.Message(role=message_pb2.ROLE_USER, parts=[PHOTO])])
        | {"variables_json": '{"photo":"file:///etc/passwd"}'},
        "VARIABLES_INVALID",
        "variables_json",
    ),
]


@pytest.mark.parametrize(("fields", "reason", "field"), MISTAKES)
async def test_what_no_provider_could_do_is_refused_by_every_rpc_before_one_is_asked(
    room: Any, fields: dict[str, Any], reason: str, field: str
) -> None:
    variables = {} if fields.get("deployment") == "" else {"variables_json": '{"country":"France"}'}
    run = pb.RunRequest(**{"deployment": "assistant"} | variables | fields)
    metadata = (("authorization", f"Bearer {room.key}"),)
    with pytest.raises(grpc.aio.AioRpcError) as whole:
        await room.stub.Run(run, metadata=metadata, timeout=10)
    with pytest.raises(grpc.aio.AioRpcError) as streamed:
        async for _ in room.stub.RunStream(pb.RunStreamRequest(run=run), metadata=metadata, timeout=10):
            pass
    with pytest.raises(grpc.aio.AioRpcError) as told:
        await room.stub.GetConfig(pb.GetConfigRequest(run=run), metadata=metadata, timeout=10)

    for failure in (whole.value, streamed.value, told.value):
        assert (failure.code(), reason_of(failure)) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
        [violation] = details(failure, error_details_pb2.BadRequest).field_violations
        assert violation.field == field
        assert (failure.details() or "").startswith(field)
    assert room.upstream.received == []
