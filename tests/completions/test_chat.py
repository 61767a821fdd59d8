import pytest

from completions.chat import ImagePart, Message, Role, TextPart
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
