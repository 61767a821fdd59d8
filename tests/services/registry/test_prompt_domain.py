from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from completions import schema
from completions.chat import Message, Role
from services.registry.domain import PromptState, declared, with_number

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def said(text: str, declaration: Any = None) -> PromptState:
    messages = (Message(Role.SYSTEM, text),)
    return PromptState(1, messages, schema.variables_schema(messages, declaration), "", "", NOW)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("welcome", ("welcome", None)),
        ("welcome@3", ("welcome", 3)),
        ("projects/shop/prompts/welcome@999999999", ("projects/shop/prompts/welcome", 999999999)),
        ("", ("", None)),
        ("welcome@", None),
        ("welcome@0", None),
        ("welcome@03", None),
        ("welcome@-1", None),
        ("welcome@1@2", None),
        ("welcome@٣", None),
        ("welcome@1\n", None),
        ("welcome@" + "9" * 10, None),
    ],
)
def test_a_number_stands_behind_an_at(name: str, parts: Any) -> None:
    assert with_number(name) == parts


@pytest.mark.parametrize(
    ("text", "declaration", "kept"),
    [
        ("plain", None, None),
        ("{{ a }}", None, None),
        ("{{ user.name }}{% for x in xs %}{{ x.y }}{% endfor %}", None, None),
        ("{{ a }}", {"properties": {"a": {"type": "string"}}}, {"properties": {"a": {"type": "string"}}}),
        ("{{ a }}", {"properties": {"b": {}}, "required": ["b"]}, {"properties": {"b": {}}, "required": ["b"]}),
        ("{{ a }}", {"properties": {"required": {"enum": [1]}}}, {"properties": {"required": {"enum": [1]}}}),
        (
            "{{ user.name }}{{ user.age }}",
            {"properties": {"user": {"properties": {"age": {"type": "integer"}}}}},
            {"properties": {"user": {"properties": {"age": {"type": "integer"}}}}},
        ),
        ("plain", {"properties": {"a": {"minimum": 1}}}, {"type": "object", "properties": {"a": {"minimum": 1}}}),
    ],
)
def test_what_is_declared_is_what_the_templates_do_not_say(text: str, declaration: Any, kept: Any) -> None:
    assert declared(said(text, declaration)) == kept


NAMES = st.sampled_from("abc")
READS = st.one_of(
    NAMES.map(lambda name: f"{{{{ {name} }}}}"),
    st.tuples(NAMES, NAMES).map(lambda pair: f"{{{{ {pair[0]}.{pair[1]} }}}}"),
    st.tuples(NAMES, NAMES).map(lambda pair: f"{{% for x in {pair[0]} %}}{{{{ x.{pair[1]} }}}}{{% endfor %}}"),
    st.just("text"),
)
TEXTS = st.lists(READS, max_size=4).map("".join)
TYPES: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([{}, {"type": "string"}, {"type": ["object", "null"]}, {"title": "T"}, {"enum": [1]}]),
    lambda inner: st.one_of(
        st.dictionaries(NAMES, inner, max_size=2).map(lambda members: {"properties": members}),
        st.dictionaries(NAMES, inner, max_size=2).map(lambda members: {"type": "object", "properties": members}),
        inner.map(lambda item: {"type": "array", "items": item}),
        st.lists(inner, min_size=1, max_size=2).map(lambda branches: {"anyOf": branches}),
    ),
    max_leaves=4,
)
DECLARATIONS = st.none() | st.fixed_dictionaries(
    {"properties": st.dictionaries(NAMES, TYPES, max_size=3)}, optional={"required": st.lists(NAMES, unique=True)}
)


@given(text=TEXTS, declaration=DECLARATIONS)
def test_what_stays_declared_says_as_much_with_the_same_templates(text: str, declaration: Any) -> None:
    state = said(text, declaration)

    again, whole = schema.variables_schema(state.messages, declared(state)), state.variables_schema

    # What is required is a set.
    for each in (again, whole):
        if each is not None and isinstance(each.get("required"), list):
            each["required"] = sorted(each["required"])  # type: ignore[type-var, arg-type]  # names
    assert again == whole


@given(text=TEXTS, other=TEXTS)
def test_nothing_is_left_of_variables_that_were_never_declared_and_are_no_longer_read(text: str, other: str) -> None:
    messages = (Message(Role.SYSTEM, other),)

    assert schema.variables_schema(messages, declared(said(text))) == schema.variables_schema(messages, None)
