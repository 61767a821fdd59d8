import pytest

from completions.chat import ImagePart, Message, Role, TextPart, ToolCall
from completions.template import CompiledMessages
from kit.errors import Invalid


def test_contents_texts_and_urls_are_rendered_and_nothing_else() -> None:
    plain = Message(Role.ASSISTANT, "Hi", tool_calls=(ToolCall("{{ a }}", "f", "{}"),))
    messages = CompiledMessages(
        (
            Message(Role.SYSTEM, "{{ a }}", name="{{ a }}"),
            Message(Role.USER, parts=(TextPart("{{ b }}"), TextPart("c"), ImagePart("https://{{ b }}/", "low"))),
            plain,
            Message(Role.USER, "{# note #}{% raw %}{{ a }}{% endraw %}"),
        )
    )

    rendered = messages.render({"a": "{{ b }}", "b": "x"})

    assert rendered == (
        Message(Role.SYSTEM, "{{ b }}", name="{{ a }}"),
        Message(Role.USER, parts=(TextPart("x"), TextPart("c"), ImagePart("https://x/", "low"))),
        plain,
        Message(Role.USER, "{{ a }}"),
    )
    assert rendered[2] is plain


def test_a_template_that_renders_to_nothing_leaves_an_empty_message() -> None:
    assert CompiledMessages([Message(Role.USER, "{{ a }}")]).render({"a": ""}) == (Message(Role.USER),)


def test_messages_without_templates_take_any_variables_and_look_at_none() -> None:
    messages = CompiledMessages([Message(Role.USER, "Hi")])

    assert messages.render({"unused": "\ud800"}) == (Message(Role.USER, "Hi"),)


def test_what_is_missing_in_any_message_is_named_at_once() -> None:
    messages = CompiledMessages([Message(Role.SYSTEM, "{{ a }}"), Message(Role.USER, "{{ b + 1 }}{{ a }}")])

    with pytest.raises(Invalid) as refusal:
        messages.render({})

    assert [violation.field for violation in refusal.value.violations] == ["variables.a", "variables.b"]


def test_a_failure_says_in_which_message() -> None:
    messages = CompiledMessages(
        [Message(Role.SYSTEM, "{{ a }}"), Message(Role.USER, parts=(TextPart("\n{{ 1 / a }}"),))]
    )

    with pytest.raises(Invalid) as refusal:
        messages.render({"a": 0})

    assert refusal.value.violations[0].field == "messages[1].parts[0].text"
    assert "line 2" in refusal.value.message
