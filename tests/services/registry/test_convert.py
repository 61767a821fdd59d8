from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from completions.chat import ImagePart, Message, Role, TextPart, ToolCall
from completions.version import Parameters
from completions.version import Version as Content
from kit.errors import Invalid
from kit.storable import check_message
from services.registry.convert.text import write_from_proto
from services.registry.convert.versions import pack_content, unpack_content
from turnout.registry.v1 import provider_service_pb2

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
calls = st.lists(st.builds(ToolCall, words, words, words), max_size=2).map(tuple)
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
contents = st.builds(
    Content,
    provider=some_words,
    model=some_words,
    messages=st.lists(messages, max_size=3).map(tuple),
    parameters=parameters,
    tools=st.lists(documents, max_size=3),
    tool_choice=st.none() | words | objects,
    response_format=st.none() | objects,
    variables_schema=st.none() | objects,
)


@given(content=contents)
def test_what_is_stored_of_a_version_comes_back_the_same(content: Content) -> None:
    assert unpack_content(pack_content(content)) == content


def test_no_parameters_and_default_parameters_are_the_same() -> None:
    content = Content("p", "m")

    assert pack_content(content) == pack_content(replace(content, parameters=Parameters()))


def request() -> provider_service_pb2.CreateProviderRequest:
    made = provider_service_pb2.CreateProviderRequest(parent="projects/a", provider_id="b", request_id="r")
    made.provider.credential = "sk-1"
    made.provider.display_name = "B"
    return made


def test_a_fingerprint_covers_the_request_but_not_its_secret_its_id_or_whether_it_is_dry() -> None:
    secret = ("provider", "credential")
    base = write_from_proto(request(), secret=secret)
    same, other = request(), request()
    same.provider.credential, same.request_id, same.validate_only = "sk-2", "q", True
    other.provider.display_name = "C"

    assert write_from_proto(same, secret=secret).fingerprint == base.fingerprint
    assert write_from_proto(other, secret=secret).fingerprint != base.fingerprint
    assert request().provider.credential == "sk-1", "the request itself is left alone"


def test_text_that_no_store_could_hold_is_named_wherever_it_is() -> None:
    wrong = request()
    wrong.parent, wrong.provider.display_name = "a\0", "\0"

    with pytest.raises(Invalid) as failure:
        check_message(wrong)

    assert {violation.field for violation in failure.value.violations} == {"parent", "provider.display_name"}
