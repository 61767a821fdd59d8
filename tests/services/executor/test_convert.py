from __future__ import annotations

from typing import Any

import pytest

from completions.chat import ImagePart, Message, Role, TextPart, ToolCall
from completions.version import Parameters, Version
from services.executor import convert
from services.executor.domain import Source
from turnout.chat.v1 import message_pb2
from turnout.executor.v1 import execution_pb2, execution_service_pb2
from turnout.registry.v1 import version_pb2


def call_of(user_agent: str = "", **fields: Any) -> Any:
    request = execution_service_pb2.RunRequest(deployment="assistant", **fields)
    return convert.run_call_from_proto(
        request, user_agent=user_agent, tenant="prj_shop", key_id="k", trace_id="0" * 32, deadline=1.0
    )


@pytest.mark.parametrize(
    ("given", "user_agent", "found"),
    [
        (execution_pb2.SOURCE_UNSPECIFIED, "grpc-python-asyncio/1.85.1 grpc-c/53.0.0", Source.API),
        (execution_pb2.SOURCE_UNSPECIFIED, "turnout-python/0.1 grpc-python-asyncio/1.85.1", Source.SDK),
        (execution_pb2.SOURCE_UNSPECIFIED, "", Source.API),
        (execution_pb2.SOURCE_SDK, "curl/8", Source.SDK),
        (execution_pb2.SOURCE_API, "turnout-python/0.1", Source.API),
    ],
)
def test_the_source_is_what_the_call_says_else_what_its_user_agent_says(
    given: Any, user_agent: str, found: Source
) -> None:
    assert call_of(user_agent, source=given).source is found


def test_every_field_of_a_message_is_read() -> None:
    image = message_pb2.Image(url="https://x/y", detail="low")
    messages = [
        message_pb2.Message(
            role=message_pb2.ROLE_ASSISTANT,
            content="hi",
            name="ada",
            reasoning="hm",
            tool_calls=[message_pb2.ToolCall(id="c1", tool="f", arguments_json="{")],
        ),
        message_pb2.Message(role=message_pb2.ROLE_TOOL, content="a cat", tool_call_id="c1"),
        message_pb2.Message(
            role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text="what?"), message_pb2.Part(image=image)]
        ),
    ]
    assert call_of(messages=messages).messages == (
        Message(Role.ASSISTANT, "hi", name="ada", reasoning="hm", tool_calls=(ToolCall("c1", "f", "{"),)),
        Message(Role.TOOL, "a cat", tool_call_id="c1"),
        Message(Role.USER, parts=(TextPart("what?"), ImagePart("https://x/y", "low"))),
    )


def test_a_packed_version_is_read_whole() -> None:
    packed = version_pb2.Version(
        uid="ver_1",
        provider="prv_main",
        model="m",
        messages=[message_pb2.Message(role=message_pb2.ROLE_DEVELOPER, content="{{ a }}")],
        parameters=version_pb2.Parameters(
            temperature=0,
            top_p=0.5,
            top_k=1,
            max_output_tokens=2,
            presence_penalty=0,
            frequency_penalty=-1,
            stop=["END"],
            seed=0,
            parallel_tool_calls=False,
            reasoning_effort="low",
            reasoning_budget_tokens=0,
            extra_json='{"z":1,"a":9007199254740993}',
        ),
        tools_json='[{"b":1,"a":null}]',
        tool_choice_json='"auto"',
        response_format_json='{"type":"json_object"}',
        variables_schema_json='{"type":"object"}',
    ).SerializeToString()

    version = convert.version_from_packed(packed)

    assert version == Version(
        provider="prv_main",
        model="m",
        messages=(Message(Role.DEVELOPER, "{{ a }}"),),
        parameters=Parameters(0, 0.5, 1, 2, 0, -1, ("END",), 0, False, "low", 0, {"z": 1, "a": 9007199254740993}),
        tools=[{"b": 1, "a": None}],
        tool_choice="auto",
        response_format={"type": "json_object"},
        variables_schema={"type": "object"},
    )
    assert list(version.parameters.extra) == ["z", "a"]


def test_what_a_version_leaves_out_is_absent() -> None:
    packed = version_pb2.Version(uid="ver_1", provider="prv_main", model="m").SerializeToString()
    assert convert.version_from_packed(packed) == Version("prv_main", "m")
