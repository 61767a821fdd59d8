from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.configurations import version_from_packed, version_from_proto, version_to_proto
from completions.chat import ImagePart, Message, Role, TextPart, ToolCall
from completions.version import Parameters, Version
from kit.errors import Invalid
from turnout.chat.v1 import message_pb2
from turnout.registry.v1 import version_pb2

words = st.text(max_size=12)
some_words = st.text(min_size=1, max_size=12)
numbers = st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False, allow_infinity=False)
documents = st.recursive(
    st.none() | st.booleans() | numbers | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(words, documents, max_size=3)
parts = st.lists(
    st.builds(TextPart, some_words) | st.builds(ImagePart, some_words, st.sampled_from(["", "low"])), max_size=3
).map(tuple)
calls = st.lists(st.builds(ToolCall, words, words, words, words), max_size=2).map(tuple)
messages = st.builds(
    Message,
    role=st.sampled_from(Role),
    content=words,
    name=words,
    tool_calls=calls,
    tool_call_id=words,
    reasoning=words,
) | st.builds(Message, role=st.sampled_from(Role), parts=parts)
parameters = st.builds(
    Parameters,
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0, 1),
    top_k=st.none() | st.integers(1, 1000),
    max_output_tokens=st.none() | st.integers(1, 1000),
    stop=st.lists(some_words, max_size=3).map(tuple),
    seed=st.none() | st.integers(-(1 << 63), (1 << 63) - 1),
    parallel_tool_calls=st.none() | st.booleans(),
    reasoning_effort=st.none() | some_words,
    reasoning_budget_tokens=st.none() | st.integers(0, 1000),
    extra=objects,
)
versions = st.builds(
    Version,
    provider=some_words,
    model=some_words,
    messages=st.lists(messages, max_size=3).map(tuple),
    parameters=parameters,
    tools=st.lists(documents, max_size=3),
    tool_choice=st.none() | words | objects,
    response_format=st.none() | objects,
    variables_schema=st.none() | objects,
)


@given(version=versions)
def test_what_is_told_of_a_version_is_read_back_the_same(version: Version) -> None:
    told = version_to_proto(version)

    assert version_from_packed(told.SerializeToString()) == version
    assert version_from_proto(told, field="version") == version


def test_no_parameters_and_default_parameters_are_the_same() -> None:
    version = Version("p", "m")

    assert version_to_proto(version) == version_to_proto(replace(version, parameters=Parameters()))


def test_who_reads_may_want_the_id_and_another_word_for_the_provider() -> None:
    told = version_to_proto(Version("main", "m"), uid="ver_1", provider="prv_1")

    assert (told.uid, told.provider) == ("ver_1", "prv_1")


@pytest.mark.parametrize(
    ("given_", "field"),
    [
        ({"tools_json": "{}"}, "version.tools_json"),
        ({"tool_choice_json": "7"}, "version.tool_choice_json"),
        ({"response_format_json": "[]"}, "version.response_format_json"),
        ({"variables_schema_json": "["}, "version.variables_schema_json"),
        ({"parameters": version_pb2.Parameters(extra_json="7")}, "version.parameters.extra_json"),
        (
            {
                "messages": [
                    message_pb2.Message(role=message_pb2.ROLE_USER, content="a", parts=[message_pb2.Part(text="b")])
                ]
            },
            "version.messages[0].content",
        ),
    ],
)
def test_what_is_written_wrongly_is_refused_with_its_field(given_: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as failure:
        version_from_proto(version_pb2.Version(**given_), field="version")

    assert [each.field for each in failure.value.violations] == [field]


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

    version = version_from_packed(packed)

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
    assert version_from_packed(packed) == Version("prv_main", "m")
