from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import AppError, Invalid
from services.gateway.convert import overrides, parameters, request
from services.gateway.convert.request import Asked
from services.gateway.domain import Place
from turnout.executor.v1 import execution_pb2

TOOL = {"type": "function", "function": {"name": "f"}}
BASE = {"model": "turnout/deployment/helper", "messages": [{"role": "user", "content": "hi"}]}


def read(body: Any = None, *, user_agent: str = "", **fields: Any) -> Asked:
    if not isinstance(body, bytes):
        body = orjson.dumps({**BASE, **fields} if body is None else body)
    return request.read(body, user_agent=user_agent, max_bytes=1 << 20)


def refused(body: Any = None, **fields: Any) -> tuple[str, str]:
    """The path and the reason of a refusal."""
    with pytest.raises(Invalid) as failure:
        read(body, **fields)
    assert failure.value.message.startswith(failure.value.violations[0].field)
    return failure.value.violations[0].field, failure.value.reason


def test_a_plain_body_is_a_call() -> None:
    asked = read()
    assert (asked.run.deployment, asked.run.messages[0].content) == ("helper", "hi")
    assert (asked.is_stream, asked.wants_usage) == (False, False)
    assert asked.run.source == execution_pb2.SOURCE_API
    assert read(user_agent="OpenAI/JS 6.0").run.source == execution_pb2.SOURCE_SDK


def test_null_means_nothing_everywhere() -> None:
    nothing = dict.fromkeys([*request.FIELDS, *request.OWN, *overrides.FIELDS, "turnout", "functions", "any"], None)
    assert read({**nothing, **BASE}).run == read().run
    assert read(turnout=dict.fromkeys(request.OWN)).run == read().run
    assert read(stream=True, stream_options={"include_usage": None}).wants_usage is False


def test_a_stream_may_ask_for_its_usage() -> None:
    asked = read(stream=True, stream_options={"include_usage": True, "include_obfuscation": False})
    assert (asked.is_stream, asked.wants_usage) == (True, True)


@pytest.mark.parametrize("fields", [{}, {"stream": False}, {"stream": None}])
def test_what_only_a_stream_may_have_is_refused_to_others(fields: dict[str, Any]) -> None:
    for options in ({"include_usage": True}, {}):
        assert refused(stream_options=options, **fields) == ("stream_options", "UNSUPPORTED_VALUE")
    assert read(stream_options=None, **fields).wants_usage is False
    assert read({"stream_options": {"include_usage": True}, "stream": True, **BASE}).wants_usage


NAME = "\x1b\n" + "x" * (1 << 19)


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"turnout": {NAME: 1}}, "turnout."),
        ({"stream": True, "stream_options": {NAME: 1}}, "stream_options."),
        ({"identity": {NAME: 1}}, "identity."),
        ({"messages": [{"role": "user", NAME: 1}]}, "messages[0]."),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", NAME: 1}]}]},
            "messages[0].content[0].",
        ),
    ],
)
def test_a_name_that_the_caller_wrote_is_repeated_cut_and_printable(fields: dict[str, Any], place: str) -> None:
    assert refused(**fields)[0] == place + "\\x1b\\n" + "x" * 61 + "…"


def test_text_that_is_not_utf_8_is_told_by_its_place() -> None:
    with pytest.raises(Invalid) as failure:
        read(b'{"model": "\xff"}')
    assert failure.value.message == "body is not UTF-8 from byte 11 on (the first is 0)"


def test_input_and_variables_are_two_names_of_one_thing() -> None:
    assert read(input={"a": 1}).run.variables_json == '{"a":1}'
    assert read(variables={"a": [1.5]}).run.variables_json == '{"a":[1.5]}'
    assert refused(input={"a": 1}, variables={"a": 1}) == ("variables", "UNSUPPORTED_VALUE")
    assert refused(variables={}, input={}) == ("input", "UNSUPPORTED_VALUE")


@pytest.mark.parametrize("value", ["ada", {"id": "ada"}, {"id": "ada", "name": None}])
def test_ids_come_alone_or_in_an_object(value: Any) -> None:
    run = read(identity=value, thread=value).run
    assert (run.identity.id, run.thread) == ("ada", "ada")


@pytest.mark.parametrize(
    ("fields", "path", "reason"),
    [
        ({"model": 7}, "model", "INVALID_TYPE"),
        ({"model": None}, "model", "MISSING_REQUIRED_PARAMETER"),
        ({"messages": "hi"}, "messages", "INVALID_TYPE"),
        ({"stream": "true"}, "stream", "INVALID_TYPE"),
        ({"stream": 1}, "stream", "INVALID_TYPE"),
        ({"stream_options": True}, "stream_options", "INVALID_TYPE"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage", "INVALID_TYPE"),
        ({"stream_options": {"x": 1}}, "stream_options.x", "UNKNOWN_PARAMETER"),
        (
            {"stream_options": {"include_obfuscation": True}},
            "stream_options.include_obfuscation",
            "UNSUPPORTED_PARAMETER",
        ),
        ({"user": 7}, "user", "INVALID_TYPE"),
        ({"metadata": []}, "metadata", "INVALID_TYPE"),
        ({"input": "text"}, "input", "INVALID_TYPE"),
        ({"variables": [1]}, "variables", "INVALID_TYPE"),
        ({"routing_key": 1}, "routing_key", "INVALID_TYPE"),
        ({"context": "ES"}, "context", "INVALID_TYPE"),
        ({"trace_id": {}}, "trace_id", "INVALID_TYPE"),
        ({"identity": 1}, "identity", "INVALID_TYPE"),
        ({"identity": {}}, "identity.id", "INVALID_TYPE"),
        ({"identity": {"id": 1}}, "identity.id", "INVALID_TYPE"),
        ({"thread": {"id": "t", "tags": ["a"]}}, "thread.tags", "UNKNOWN_PARAMETER"),
        ({"n": 2}, "n", "UNSUPPORTED_PARAMETER"),
        ({"provider": "main"}, "provider", "UNSUPPORTED_PARAMETER"),
        ({"turnout": []}, "turnout", "INVALID_TYPE"),
        ({"turnout": {"model": "x"}}, "turnout.model", "UNKNOWN_PARAMETER"),
        ({"turnout": {"thread": 1}}, "turnout.thread", "INVALID_TYPE"),
        ({"turnout": {"thread": {"id": 1}}}, "turnout.thread.id", "INVALID_TYPE"),
        ({"turnout": {"thread": "a"}, "thread": "a"}, "turnout.thread", "UNSUPPORTED_VALUE"),
        ({"turnout": {"variables": {}}, "input": {}}, "turnout.variables", "UNSUPPORTED_VALUE"),
        ({"mock_response": {}}, "mock_response", "INVALID_TYPE"),
        ({"prefix_messages": [{"role": "user", "content": 1}]}, "prefix_messages[0].content", "INVALID_TYPE"),
        ({"turnout": {"prefix_messages": [1]}}, "turnout.prefix_messages[0]", "INVALID_TYPE"),
        ({"conversation_id": "a", "thread": "b"}, "conversation_id", "UNSUPPORTED_VALUE"),
        ({"agent_id": 1}, "agent_id", "INVALID_TYPE"),
        ({"deployment_id": 1}, "deployment_id", "INVALID_TYPE"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], path: str, reason: str) -> None:
    assert refused(**fields) == (path, reason)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "JSON_MALFORMED"),
        (b"{", "JSON_MALFORMED"),
        (b'{"model": "a"} trailing', "JSON_MALFORMED"),
        (b'{"model": NaN}', "JSON_MALFORMED"),
        (b'{"model": "\\ud800"}', "JSON_MALFORMED"),
        (b'{"model": "\xff"}', "JSON_MALFORMED"),
        (b"[1]", "INVALID_TYPE"),
        (b'"text"', "INVALID_TYPE"),
        (b"null", "INVALID_TYPE"),
        (b'{"input":' + b'{"a":' * 64 + b"1" + b"}" * 64 + b"}", "JSON_TOO_DEEP"),
        (b"[" * 100_000, "JSON_MALFORMED"),
        (b'{"input":"' + b"x" * (1 << 20) + b'"}', "JSON_TOO_LARGE"),
    ],
)
def test_a_body_that_is_no_object_of_json_is_refused(body: bytes, reason: str) -> None:
    assert refused(body) == ("body", reason)


def test_a_body_at_the_limit_of_depth_is_taken() -> None:
    # 64 levels: the body, and 63 of its input.
    deep = b'{"a":' * 62 + b"{}" + b"}" * 62
    asked = read(b'{"model":"deployment/x","input":' + deep + b"}")
    assert asked.run.variables_json == deep.decode()


# --- the model


@pytest.mark.parametrize(
    ("model", "deployment", "without"),
    [
        ("turnout/deployment/a:b", "a:b", ""),
        ("anotherai/deployments/a", "a", ""),
        ("main/gpt-4o", "", "main/gpt-4o"),
        ("turnout/main/gpt-4o", "", "main/gpt-4o"),
        ("anotherai/gpt-4o", "", "gpt-4o"),
    ],
)
def test_a_model_is_a_deployments_or_a_providers(model: str, deployment: str, without: str) -> None:
    asked = read(model=model)
    assert (asked.run.deployment, asked.model) == (deployment, without)


def test_a_deployment_id_wins_over_the_model() -> None:
    for name in ("helper:beta", "anotherai/deployment/helper:beta"):
        asked = read(model="gpt-4o", deployment_id=name)
        assert (asked.run.deployment, asked.model) == ("helper:beta", "")


def test_what_a_call_without_a_deployment_brings_is_its_configuration() -> None:
    asked = read(model="main/m", temperature=0.5, tools=[TOOL], top_secret=1, metadata={"a": 1})
    request.make_direct(asked, Place("main", "m", agent="writer"))
    run = asked.run
    assert not run.HasField("overrides")
    assert (run.direct.provider, run.direct.model, run.direct.parameters.temperature) == ("main", "m", 0.5)
    assert (json.loads(run.direct.tools_json), run.direct.parameters.extra_json) == ([TOOL], '{"top_secret":1}')
    assert ([each.content for each in run.direct.messages], list(run.messages)) == (["hi"], [])
    assert json.loads(run.metadata_json) == {"agent_id": "writer", "a": 1}


@pytest.mark.parametrize(("fields", "configured"), [({}, 256), ({"input": {"a": 1}}, 300)])
def test_a_long_conversation_without_a_deployment_is_the_calls_data(fields: dict[str, Any], configured: int) -> None:
    asked = read(model="main/m", messages=[{"role": "user", "content": str(index)} for index in range(300)], **fields)
    request.make_direct(asked, Place("main", "m"))
    assert len(asked.run.direct.messages) == configured
    both = [*asked.run.direct.messages, *asked.run.messages]
    assert [each.content for each in both] == [str(index) for index in range(300)]


def test_the_agent_that_a_body_names_wins_over_those_of_metadata_and_model() -> None:
    assert json.loads(read(agent_id="a", metadata={"agent_id": "b"}).run.metadata_json) == {"agent_id": "a"}
    asked = read(model="c/m", metadata={"agent_id": "b"})
    request.make_direct(asked, Place("main", "m", agent="c"))
    assert json.loads(asked.run.metadata_json) == {"agent_id": "b"}


def test_turnouts_own_fields_may_stand_together() -> None:
    own: dict[str, Any] = {
        "input": {"a": 1},
        "routing_key": "k",
        "context": {"country": "ES"},
        "identity": {"id": "ada"},
        "thread": "t",
        "trace_id": "x",
        "mock_response": "no",
        "prefix_messages": [{"role": "user", "content": "first"}],
    }
    together = read(turnout=own).run
    assert together == read(**own).run
    assert (together.mock_response, together.prefix_messages[0].content) == ("no", "first")
    assert read(conversation_id="t").run.thread == "t"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [
        *request.FIELDS,
        *request.OWN,
        *overrides.FIELDS,
        *parameters.PARAMETERS,
        "turnout",
        "reasoning",
        "role",
        "content",
        "parts",
        "type",
        "text",
        "image_url",
        "tool_calls",
        "function",
        "n",
        "x",
    ]
)
MESSAGE = st.dictionaries(NAMES, JSON | st.sampled_from(["user", "tool", "assistant"]), max_size=5)


@given(st.dictionaries(NAMES, JSON | st.lists(MESSAGE | JSON, max_size=3), max_size=6))
def test_whatever_is_sent_is_taken_or_refused_with_a_reason(body: dict[str, Any]) -> None:
    outcome = attempt(json.dumps(body).encode())
    if isinstance(outcome, AppError):
        assert outcome.reason
        assert outcome.violations
    else:
        assert outcome.run.SerializeToString()


def attempt(body: bytes) -> Asked | AppError:
    try:
        return request.read(body, user_agent="", max_bytes=1 << 20)
    except AppError as error:
        return error
