from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import AppError, Invalid
from services.gateway.convert import request
from services.gateway.convert.request import Asked
from turnout.executor.v1 import execution_pb2

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
    nothing = dict.fromkeys([*request.FIELDS, "temperature", "tools", "functions", "response_format", "anything"], None)
    assert read({**nothing, **BASE}).run == read().run
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
        ({NAME: 1}, ""),
        ({"stream": True, "stream_options": {NAME: 1}}, "stream_options."),
        ({"metadata": {NAME: 1}}, "metadata."),
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
    with pytest.raises(AppError) as failure:
        read(model=NAME)
    assert len(failure.value.message) < 400


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
        ({"metadata": {"a": {"b": 1}}}, "metadata.a", "INVALID_TYPE"),
        ({"input": "text"}, "input", "INVALID_TYPE"),
        ({"variables": [1]}, "variables", "INVALID_TYPE"),
        ({"routing_key": 1}, "routing_key", "INVALID_TYPE"),
        ({"trace_id": {}}, "trace_id", "INVALID_TYPE"),
        ({"identity": 1}, "identity", "INVALID_TYPE"),
        ({"identity": {}}, "identity.id", "INVALID_TYPE"),
        ({"identity": {"id": 1}}, "identity.id", "INVALID_TYPE"),
        ({"thread": {"id": "t", "tags": ["a"]}}, "thread.tags", "UNKNOWN_PARAMETER"),
        ({"temprature": 1}, "temprature", "UNKNOWN_PARAMETER"),
        ({"temperature": 1}, "temperature", "UNSUPPORTED_PARAMETER"),
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


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [*request.FIELDS, "role", "content", "parts", "type", "text", "image_url", "tool_calls", "function", "n", "x"]
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
