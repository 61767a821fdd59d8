import hashlib
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from completions.chat import ImagePart, Message, Role, TextPart, ToolCall
from completions.template import CompiledMessages
from completions.version import Parameters, Version, join, split, validate, version_id
from kit import values
from kit.errors import Invalid
from kit.json import Json

SYSTEM = Message(Role.SYSTEM, "You are an expert on {{ country }}.")
USER = Message(Role.USER, "Any customs?")
FULL = Version(
    provider="openai",
    model="gpt-4o",
    messages=(
        SYSTEM,
        Message(Role.USER, parts=(TextPart("look"), ImagePart("{{ url }}", "low")), name="ann"),
        Message(Role.ASSISTANT, tool_calls=(ToolCall("c1", "weather", '{"city": 1.0}'),), reasoning="hm"),
        Message(Role.TOOL, "sunny", tool_call_id="c1"),
    ),
    parameters=Parameters(
        temperature=0.5,
        top_p=1,
        top_k=40,
        max_output_tokens=256,
        presence_penalty=-1,
        frequency_penalty=2,
        stop=("END", "\n"),
        seed=9007199254740993,
        parallel_tool_calls=False,
        reasoning_effort="low",
        reasoning_budget_tokens=0,
        extra={"logit_bias": {"50256": -100}, "none": None},
    ),
    tools=[{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "x": None}}}],
    tool_choice="auto",
    response_format={"type": "json_schema", "json_schema": {"schema": {"minimum": 1.0}}},
    variables_schema={"type": "object", "properties": {"country": {}}},
)


def refusal_of(version: Version) -> Invalid:
    with pytest.raises(Invalid) as refusal:
        validate(version)
    return refusal.value


def fields_of(version: Version) -> list[str]:
    return [violation.field for violation in refusal_of(version).violations]


# Ids.


def test_the_id_is_that_of_the_published_vector() -> None:
    document = (
        '{"messages":[{"content":"You are an expert on {{ country }}.","role":"system"},'
        '{"name":"ann","parts":[{"text":"look","type":"text"},{"detail":"low","type":"image","url":"{{ url }}"}],'
        '"role":"user"},'
        '{"reasoning":"hm","role":"assistant","tool_calls":[{"arguments_json":"{\\"city\\": 1.0}","id":"c1",'
        '"name":"weather"}]},'
        '{"content":"sunny","role":"tool","tool_call_id":"c1"}],"model":"gpt-4o","parameters":{'
        '"extra":{"logit_bias":{"50256":-100},"none":null},"frequency_penalty":2,"max_output_tokens":256,'
        '"parallel_tool_calls":false,"presence_penalty":-1,"reasoning_budget_tokens":0,"reasoning_effort":"low",'
        '"seed":9007199254740993,"stop":["END","\\n"],"temperature":0.5,"top_k":40,"top_p":1},"provider":"openai",'
        '"response_format":{"json_schema":{"schema":{"minimum":1}},"type":"json_schema"},"tool_choice":"auto",'
        '"tools":[{"function":{"name":"weather","parameters":{"type":"object","x":null}},"type":"function"}],'
        '"variables_schema":{"properties":{"country":{}},"type":"object"}}'
    )

    assert version_id(FULL) == "ver_" + hashlib.blake2s(document.encode()).hexdigest()[:32]
    assert version_id(FULL) == "ver_e76925380dd6f2ed1474f56f5a020c9e"
    assert version_id(Version("openai", "gpt-4o")) == "ver_ca5ff0ef7a422bfcb60f3a1306d7eba3"


def test_a_version_with_nothing_set_is_its_provider_and_model() -> None:
    document = b'{"model":"gpt-4o","provider":"openai"}'

    assert version_id(Version("openai", "gpt-4o"))[4:] == hashlib.blake2s(document).hexdigest()[:32]


CHANGES: list[dict[str, Any]] = [
    {"provider": "azure"},
    {"model": "gpt-4.1"},
    {"messages": FULL.messages[:1]},
    {"messages": FULL.messages[::-1]},
    {"messages": (values.replace(SYSTEM, role=Role.DEVELOPER), *FULL.messages[1:])},
    {"messages": (values.replace(SYSTEM, name="x"), *FULL.messages[1:])},
    {"messages": (values.replace(SYSTEM, reasoning="x"), *FULL.messages[1:])},
    {"messages": (values.replace(SYSTEM, tool_call_id="x"), *FULL.messages[1:])},
    {"messages": (values.replace(SYSTEM, tool_calls=(ToolCall("a", "b", "c"),)), *FULL.messages[1:])},
    {"messages": (values.replace(SYSTEM, tool_calls=(ToolCall("a", "b", "c", "{}"),)), *FULL.messages[1:])},
    {"messages": (values.replace(SYSTEM, content="", parts=(TextPart(SYSTEM.content),)), *FULL.messages[1:])},
    {"tools": []},
    {"tools": [*FULL.tools, None]},
    {"tool_choice": None},
    {"tool_choice": {}},
    {"tool_choice": {"type": "auto"}},
    {"response_format": None},
    {"response_format": {}},
    {"variables_schema": None},
    {"variables_schema": {}},
]
PARAMETER_CHANGES: list[dict[str, Any]] = [
    {"temperature": 0.6},
    {"temperature": None},
    {"top_p": 0.9},
    {"top_k": 41},
    {"max_output_tokens": 257},
    {"presence_penalty": 0},
    {"frequency_penalty": 1},
    {"stop": ("\n", "END")},
    {"stop": ()},
    {"seed": 9007199254740992},
    {"parallel_tool_calls": True},
    {"parallel_tool_calls": None},
    {"reasoning_effort": "high"},
    {"reasoning_budget_tokens": 1},
    {"reasoning_budget_tokens": None},
    {"extra": {}},
    {"extra": {"logit_bias": {"50256": -100}}},
    {"extra": {"logit_bias": {"50256": True}, "none": None}},
]


def test_a_difference_in_any_field_is_a_different_id() -> None:
    of_parameters = [{"parameters": replace(FULL.parameters, **change)} for change in PARAMETER_CHANGES]
    ids = [version_id(FULL)] + [version_id(replace(FULL, **change)) for change in CHANGES + of_parameters]

    assert len(set(ids)) == len(ids)


def reordered(value: Json) -> Json:
    if isinstance(value, dict):
        return {name: reordered(value[name]) for name in reversed(value)}
    if isinstance(value, list):
        return [reordered(element) for element in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 53:
        return float(value)
    return value


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(-1e300, 1e300) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXTS, DOCUMENTS, max_size=4), st.lists(DOCUMENTS, max_size=3))
def test_the_id_does_not_depend_on_key_order_or_on_how_numbers_are_written(
    schema: dict[str, Json], tools: list[Json]
) -> None:
    version = replace(FULL, tools=tools, response_format=schema, variables_schema=schema)
    other_schema: Any = reordered(schema)
    other_tools: Any = reordered(tools)
    parameters = replace(FULL.parameters, top_p=1.0, presence_penalty=-1.0, extra=reordered(FULL.parameters.extra))  # type: ignore[arg-type]  # an object stays one

    other = replace(
        version, tools=other_tools, response_format=other_schema, variables_schema=other_schema, parameters=parameters
    )

    assert version_id(other) == version_id(version)


@given(DOCUMENTS, DOCUMENTS)
def test_different_documents_have_different_ids(left: Json, right: Json) -> None:
    same = version_id(replace(FULL, tools=[left])) == version_id(replace(FULL, tools=[right]))

    # Python holds True equal to 1; JSON does not, and neither do we.
    assert same == (_tagged(left) == _tagged(right))


def _tagged(value: Json) -> object:
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, dict):
        return {name: _tagged(member) for name, member in value.items()}
    return [_tagged(element) for element in value] if isinstance(value, list) else value


# Validity.


def test_a_full_version_is_valid() -> None:
    validate(FULL)
    validate(Version("openai", "gpt-4o"))
    validate(replace(FULL, parameters=replace(FULL.parameters, stop=("x" * 1024,))))
    validate(replace(FULL, tools=[{"type": "web_search_20250305", "name": "web_search"}]))
    for one in (1, 1.0, None):
        validate(replace(FULL, parameters=Parameters(extra={"n": one})))


@pytest.mark.parametrize("choice", ["auto", "none", "required", {"type": "any"}, {"type": "tool", "name": "weather"}])
def test_a_choice_of_tools_is_a_word_or_an_object(choice: Any) -> None:
    validate(replace(FULL, tool_choice=choice))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"temperature": 2.1}, "parameters.temperature"),
        ({"temperature": -0.1}, "parameters.temperature"),
        ({"temperature": math.nan}, "parameters.temperature"),
        ({"temperature": True}, "parameters.temperature"),
        ({"temperature": "1"}, "parameters.temperature"),
        ({"temperature": 10**400}, "parameters.temperature"),
        ({"top_p": 1.01}, "parameters.top_p"),
        ({"top_p": math.inf}, "parameters.top_p"),
        ({"top_k": 0}, "parameters.top_k"),
        ({"top_k": 1.5}, "parameters.top_k"),
        ({"max_output_tokens": 0}, "parameters.max_output_tokens"),
        ({"presence_penalty": -2.5}, "parameters.presence_penalty"),
        ({"frequency_penalty": 2.5}, "parameters.frequency_penalty"),
        ({"seed": 1 << 63}, "parameters.seed"),
        ({"seed": -(1 << 63) - 1}, "parameters.seed"),
        ({"reasoning_budget_tokens": -1}, "parameters.reasoning_budget_tokens"),
        ({"reasoning_effort": ""}, "parameters.reasoning_effort"),
        ({"reasoning_effort": "\0"}, "parameters.reasoning_effort"),
        ({"stop": ("x",) * 17}, "parameters.stop"),
        ({"stop": ("x", "")}, "parameters.stop[1]"),
        ({"stop": ("\ud800",)}, "parameters.stop[0]"),
        ({"extra": {"a": [1, {"b": math.nan}]}}, "parameters.extra.a[1].b"),
        ({"extra": {"a": 1 << 64}}, "parameters.extra.a"),
        ({"extra": {"a\0": 1}}, "parameters.extra"),
        ({"stop": ("x", "y" * 1025)}, "parameters.stop[1]"),
        ({"extra": {"model": "m"}}, "parameters.extra.model"),
        ({"extra": {"messages": []}}, "parameters.extra.messages"),
        ({"extra": {"top_a": 1, "stream": None}}, "parameters.extra.stream"),
        ({"extra": {"stream_options": {}}}, "parameters.extra.stream_options"),
        ({"extra": {"n": 2}}, "parameters.extra.n"),
        ({"extra": {"n": 0}}, "parameters.extra.n"),
        ({"extra": {"n": True}}, "parameters.extra.n"),
        ({"extra": {"n": "3"}}, "parameters.extra.n"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused_by_name(change: dict[str, Any], field: str) -> None:
    assert fields_of(Version("openai", "gpt-4o", parameters=replace(Parameters(), **change))) == [field]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"provider": "Open AI"}, "provider"),
        ({"provider": ""}, "provider"),
        ({"provider": "openai\n"}, "provider"),
        ({"model": ""}, "model"),
        ({"model": "m" * 257}, "model"),
        ({"model": "a\0"}, "model"),
        ({"messages": (USER,) * 257}, "messages"),
        ({"messages": (values.replace(USER, content="x" * (1 << 20)), values.replace(USER, content="x"))}, "messages"),
        ({"messages": (USER, values.replace(USER, content="\ud800"))}, "messages[1].content"),
        ({"messages": (USER, values.replace(USER, name="\0"))}, "messages[1].name"),
        ({"messages": (Message(Role.USER, parts=(TextPart("a\0"),)),)}, "messages[0].parts[0].text"),
        ({"messages": (Message(Role.USER, parts=(ImagePart("u", "\0"),)),)}, "messages[0].parts[0].detail"),
        (
            {"messages": (Message(Role.ASSISTANT, tool_calls=(ToolCall("a", "b", "\0"),)),)},
            "messages[0].tool_calls[0].arguments_json",
        ),
        (
            {"messages": (Message(Role.ASSISTANT, tool_calls=(ToolCall("a", "b", "{}", "[]"),)),)},
            "messages[0].tool_calls[0].extra_content_json",
        ),
        ({"tools": [{"type": "web_search", "name": "\0"}]}, "tools[0].name"),
        ({"tools": [{"type": "web_search", "name": "x" * (1 << 20)}]}, "tools"),
        ({"tools": [{"type": "web_search"}, "web_search"]}, "tools[1]"),
        ({"tools": [None]}, "tools[0]"),
        ({"tools": [{"name": "weather"}]}, "tools[0].type"),
        ({"tools": [{"type": 1}]}, "tools[0].type"),
        ({"tools": [{"type": ""}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "name": "weather"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": "Auto"}, "tool_choice"),
        ({"tool_choice": ""}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "foo"}}, "tool_choice.type"),
        ({"tools": FULL.tools, "tool_choice": {"type": "tool", "name": "wether"}}, "tool_choice.name"),
        ({"messages": (Message(Role.TOOL, "sunny"),)}, "messages[0].tool_call_id"),
        ({"messages": (Message(Role.USER, parts=(ImagePart("ftp://h/x.png"),)),)}, "messages[0].parts[0].url"),
        ({"messages": (Message(Role.USER, parts=(ImagePart("file:{{ x }}"),)),)}, "messages[0].parts[0].url"),
        ({"response_format": {"a": object()}}, "response_format.a"),
        ({"variables_schema": {"properties": {"x": "\ud800"}}}, "variables_schema.properties.x"),
    ],
)
def test_a_fault_is_refused_where_it_is(change: dict[str, Any], field: str) -> None:
    version = replace(Version("openai", "gpt-4o"), **change)

    assert fields_of(version) == [field]
    assert refusal_of(version).reason == "VERSION_INVALID"


def test_json_that_is_too_deep_is_refused_and_does_not_overflow() -> None:
    deep: Json = 1
    for _ in range(100_000):
        deep = [deep]

    assert refusal_of(Version("openai", "gpt-4o", tools=[deep])).violations[0].field.startswith("tools[0][0]")


def test_all_faults_are_named_at_once() -> None:
    version = Version(
        "?", "", messages=(values.replace(USER, content="\0"),), parameters=Parameters(temperature=3, top_k=0)
    )

    assert fields_of(version) == [
        "provider",
        "model",
        "messages[0].content",
        "parameters.temperature",
        "parameters.top_k",
    ]


def test_templates_that_are_not_allowed_are_refused_with_their_reason() -> None:
    version = Version(
        "openai",
        "gpt-4o",
        (USER, values.replace(USER, content="{{ f() }}"), Message(Role.USER, parts=(TextPart("{% if"),))),
    )

    assert refusal_of(version).reason == "TEMPLATE_NOT_ALLOWED"
    assert fields_of(version) == ["messages[1].content", "messages[2].parts[0].text"]


# Version and input.


def test_messages_up_to_the_last_templated_one_are_the_version() -> None:
    plain = Message(Role.ASSISTANT, "Hello")
    templated = Message(Role.USER, parts=(TextPart("see"), ImagePart("https://example.org/{{ id }}.png")))

    assert split((SYSTEM, USER), variables_given=True) == ((SYSTEM,), (USER,))
    assert split((plain, templated, USER), variables_given=True) == ((plain, templated), (USER,))
    assert split((USER, plain), variables_given=True) == ((), (USER, plain))
    assert split((), variables_given=True) == ((), ())


def test_without_a_templated_message_a_leading_system_message_is_the_version() -> None:
    plain = Message(Role.SYSTEM, "Be kind. {# note #}")
    developer = Message(Role.DEVELOPER, "Be kind.")

    assert split((plain, USER), variables_given=True) == ((plain,), (USER,))
    assert split((developer, USER), variables_given=False) == ((developer,), (USER,))
    assert split((USER, developer), variables_given=False) == ((), (USER, developer))


@pytest.mark.parametrize(
    "text",
    [
        "Write {{ name }} as it is.",
        "{% raw %}x{% endraw %} {{ y",
        "{# kept #}",
        "a\r\n{{ it's \\ }}",
        "ends in {% endraw %}{",
        "{{",
        "{%",
    ],
)
def test_without_variables_every_message_is_data(text: str) -> None:
    system = Message(Role.SYSTEM, text)
    of_parts = Message(Role.SYSTEM, parts=(TextPart(text), ImagePart(text)))

    for message in (system, of_parts):
        version, rest = split((message, SYSTEM), variables_given=False)

        assert rest == (SYSTEM,)
        assert CompiledMessages(version).render({}) == (message,)
        validate(Version("openai", "gpt-4o", version))


def test_the_call_is_the_version_then_the_input() -> None:
    rendered = CompiledMessages((SYSTEM,)).render({"country": "France"})

    assert join((SYSTEM,), rendered, (USER,)) == (Message(Role.SYSTEM, "You are an expert on France."), USER)
    assert join((), (), (USER,)) == (USER,)
    assert join((SYSTEM,), rendered, ()) == rendered


def test_a_system_message_sent_again_is_not_sent_twice() -> None:
    rendered = CompiledMessages((SYSTEM,)).render({"country": "France"})

    for again in (SYSTEM, rendered[0], Message(Role.SYSTEM, parts=(TextPart("You are an expert on France."),))):
        assert join((SYSTEM,), rendered, (again, USER)) == (*rendered, USER)


def test_another_system_message_or_role_is_kept() -> None:
    rendered = CompiledMessages((SYSTEM,)).render({"country": "France"})
    other = Message(Role.SYSTEM, "You are an expert on Spain.")
    as_user = values.replace(rendered[0], role=Role.USER)

    assert join((SYSTEM,), rendered, (other, USER)) == (*rendered, other, USER)
    assert join((SYSTEM,), rendered, (as_user,)) == (*rendered, as_user)
    assert join((USER,), (USER,), (USER,)) == (USER, USER)


@given(
    st.lists(st.sampled_from((SYSTEM, USER, Message(Role.SYSTEM, "plain"), values.replace(USER, content="{{ q }}")))),
    st.booleans(),
)
def test_splitting_loses_and_reorders_nothing(messages: list[Message], variables_given: bool) -> None:
    version, rest = split(messages, variables_given=variables_given)

    assert len(version) + len(rest) == len(messages)
    assert list(rest) == messages[len(version) :]
    if variables_given:
        assert list(version) == messages[: len(version)]
