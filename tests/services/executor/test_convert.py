from __future__ import annotations

from typing import Any

import pytest

from completions.chat import ImagePart, Message, Role, TextPart, ToolCall
from completions.version import Parameters
from kit.errors import Invalid
from services.executor.convert.calls import run_call_from_proto
from services.executor.domain import Overrides, Source
from turnout.chat.v1 import message_pb2
from turnout.executor.v1 import execution_pb2, execution_service_pb2
from turnout.registry.v1 import version_pb2


def call_of(user_agent: str = "", **fields: Any) -> Any:
    request = execution_service_pb2.RunRequest(**{"deployment": "assistant"} | fields)
    return run_call_from_proto(
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


def refused(**fields: Any) -> Invalid:
    with pytest.raises(Invalid) as failure:
        call_of(**fields)
    assert failure.value.reason == "INVALID_REQUEST"
    assert failure.value.message.startswith(failure.value.violations[0].field)
    return failure.value


def test_the_source_of_what_only_the_router_tries_is_not_for_callers() -> None:
    assert [each.field for each in refused(source=execution_pb2.SOURCE_SIMULATOR).violations] == ["source"]


def test_a_whole_configuration_cannot_have_another_laid_over_it() -> None:
    direct = version_pb2.Version(provider="main", model="gpt")
    failure = refused(deployment="", direct=direct, overrides=execution_service_pb2.Overrides(tools_json="[]"))
    assert [each.field for each in failure.violations] == ["overrides"]


PICTURE = message_pb2.Message(
    role=message_pb2.ROLE_USER,
    parts=[message_pb2.Part(text="what?"), message_pb2.Part(image=message_pb2.Image(url="ftp://h/x.png"))],
)
RESULT = message_pb2.Message(role=message_pb2.ROLE_TOOL, content="a cat")
PLAIN = message_pb2.Message(role=message_pb2.ROLE_USER, content="look")


@pytest.mark.parametrize("field", ["messages", "prefix_messages"])
def test_messages_that_no_provider_could_take_are_refused_by_their_path(field: str) -> None:
    found = refused(**{field: [PLAIN, PICTURE]}).violations
    assert [(each.field, each.message) for each in found] == [
        (f"{field}[1].parts[1].image.url", "must be an https address or a data: URL")
    ]
    found = refused(**{field: [PLAIN, RESULT]}).violations
    assert [(each.field, each.message) for each in found] == [
        (f"{field}[1].tool_call_id", "must name the call that a tool message answers")
    ]


@pytest.mark.parametrize("variables", ["", "{}"])
def test_messages_of_a_configuration_that_no_provider_could_take_are_refused_by_their_path(variables: str) -> None:
    direct = version_pb2.Version(provider="main", model="gpt", messages=[PLAIN, PICTURE, RESULT])
    read = call_of(deployment="", direct=direct, variables_json=variables).direct
    with pytest.raises(Invalid) as failure:
        read()
    assert failure.value.violations[0].field == "direct.messages[1].parts[1].image.url"


def test_where_a_picture_of_a_template_is_may_depend_on_the_variables() -> None:
    image = message_pb2.Part(image=message_pb2.Image(url="{{ photo }}"))
    message = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[image])
    direct = version_pb2.Version(provider="main", model="gpt", messages=[message])
    assert call_of(deployment="", direct=direct, variables_json="{}").direct().messages[0].parts
    with pytest.raises(Invalid):
        call_of(deployment="", direct=direct).direct()


def test_every_field_of_a_message_is_read() -> None:
    image = message_pb2.Image(url="https://x/y", detail="low")
    messages = [
        message_pb2.Message(
            role=message_pb2.ROLE_ASSISTANT,
            content="hi",
            name="ada",
            reasoning="hm",
            tool_calls=[message_pb2.ToolCall(id="c1", tool="f", arguments_json="{", extra_content_json='{"a":1}')],
        ),
        message_pb2.Message(role=message_pb2.ROLE_TOOL, content="a cat", tool_call_id="c1"),
        message_pb2.Message(
            role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text="what?"), message_pb2.Part(image=image)]
        ),
    ]
    assert call_of(messages=messages).messages == (
        Message(Role.ASSISTANT, "hi", name="ada", reasoning="hm", tool_calls=(ToolCall("c1", "f", "{", '{"a":1}'),)),
        Message(Role.TOOL, "a cat", tool_call_id="c1"),
        Message(Role.USER, parts=(TextPart("what?"), ImagePart("https://x/y", "low"))),
    )


def test_what_a_call_lays_over_is_read_when_it_is_asked_for() -> None:
    given = execution_service_pb2.Overrides(tools_json="[]", tool_choice_json='"none"')
    given.parameters.temperature, given.parameters.extra_json = 0.5, '{"a":1}'
    overrides = call_of(overrides=given).overrides
    assert overrides.read() == Overrides(Parameters(temperature=0.5, extra={"a": 1}), [], "none", None)
    assert call_of().overrides is None


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"tools_json": "{}"}, "overrides.tools_json"),
        ({"tool_choice_json": "7"}, "overrides.tool_choice_json"),
        ({"response_format_json": "["}, "overrides.response_format_json"),
    ],
)
def test_what_is_laid_over_wrongly_is_refused_with_its_field(given: Any, field: str) -> None:
    overrides = call_of(overrides=execution_service_pb2.Overrides(**given)).overrides
    with pytest.raises(Invalid) as failure:
        overrides.read()
    assert [each.field for each in failure.value.violations] == [field]
