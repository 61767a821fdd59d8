from __future__ import annotations

import pytest

from completions.chat import ImagePart, Message, Role, TextPart, faults_of
from kit.errors import Invalid


def test_a_message_with_content_and_parts_is_refused() -> None:
    with pytest.raises(Invalid) as refusal:
        Message(Role.USER, "hello", (TextPart("hello"),))

    assert refusal.value.reason == "MESSAGE_AMBIGUOUS"
    assert refusal.value.violations[0].field == "content"


def test_equal_messages_are_equal_and_hash_alike() -> None:
    def message() -> Message:
        return Message(Role.USER, parts=(TextPart("look"), ImagePart("https://example.org/a.png", "low")))

    assert message() == message()
    assert hash(message()) == hash(message())
    assert Role("developer") is Role.DEVELOPER


@pytest.mark.parametrize(
    ("url", "as_data", "as_template"),
    [
        ("https://h/x.png", True, True),
        ("HTTP://h/x.png", True, True),
        ("data:image/png;base64,AA==", True, True),
        ("gs://bucket/x.png", True, True),
        ("ftp://h/x.png", False, False),
        ("file:{{ name }}", False, False),
        ("{{ photo }}", False, True),
        ("{{ a }}://h", False, True),
        ("x.png", False, True),
        ("://h", False, True),
    ],
)
def test_a_picture_has_an_address_that_providers_take(url: str, as_data: bool, as_template: bool) -> None:
    message = Message(Role.USER, parts=(TextPart("look"), ImagePart(url)))
    wrong = [("parts[1].url", "must be an https address or a data: URL")]
    assert list(faults_of(message, is_template=False)) == ([] if as_data else wrong)
    assert list(faults_of(message, is_template=True)) == ([] if as_template else wrong)


def test_the_result_of_a_tool_names_its_call() -> None:
    assert [path for path, _ in faults_of(Message(Role.TOOL, "18"), is_template=False)] == ["tool_call_id"]
    assert not list(faults_of(Message(Role.TOOL, "18", tool_call_id="c1"), is_template=False))
    assert not list(faults_of(Message(Role.USER, "18"), is_template=False))
