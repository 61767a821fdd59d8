"""Typed chat messages, as every provider's adapter and every room understands them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Final, TypeAlias

from kit import json
from kit.errors import Invalid, Violation
from kit.values import Value

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?=:)")
_PICTURES: Final = frozenset(("https", "http", "data", "gs", "s3"))
"""Schemes of addresses that providers take pictures from, the last two in their own cloud."""


class Role(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class TextPart(Value):
    """Text among other parts."""

    text: str


class ImagePart(Value):
    """A picture by URL, `data:` URLs included."""

    url: str
    detail: str = ""
    """How closely to look, in the provider's words; empty leaves it to the provider."""


Part: TypeAlias = TextPart | ImagePart


class ToolCall(Value):
    """A model's wish to have a tool called."""

    id: str
    name: str
    arguments_json: str
    """As the model wrote it: text that should be JSON, and is not always."""
    extra_content_json: str = ""
    """A JSON object that the provider wants back with the call, such as Google's thought signature."""


class Message(Value):
    """One message. An empty field is an absent one.

    :raises Invalid: `MESSAGE_AMBIGUOUS` when both `content` and `parts` are given
    """

    role: Role
    content: str = ""
    parts: tuple[Part, ...] = ()
    name: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    """For role `tool`: the call that this message answers."""
    reasoning: str = ""
    """What a reasoning model thought before an assistant's message, where the provider wants it back."""

    def __post_init__(self) -> None:
        if self.content and self.parts:
            message = "must be empty when parts are given"
            raise Invalid(f"content {message}", reason="MESSAGE_AMBIGUOUS", violations=(Violation("content", message),))

    @property
    def text(self) -> str:
        """What is said in words: the content, or its text parts joined."""
        return self.content or "".join([part.text for part in self.parts if isinstance(part, TextPart)])


def faults_of(message: Message, *, is_template: bool) -> Iterator[tuple[str, str]]:
    """What no provider could take of a message that is well formed: the path in it, and what must be.

    Only messages with parts or tool calls, and those of the role `tool`, can have such faults.

    :param is_template: whether the address of a picture is whole only when it is filled in
    """
    if message.role is Role.TOOL and not message.tool_call_id:
        yield "tool_call_id", "must name the call that a tool message answers"
    for index, part in enumerate(message.parts):
        if isinstance(part, ImagePart):
            scheme = _SCHEME.match(part.url)
            # That of a template may come with its variables.
            may_be = is_template if scheme is None else scheme[0].lower() in _PICTURES
            if not may_be:
                yield f"parts[{index}].url", "must be an https address or a data: URL"
    for index, call in enumerate(message.tool_calls):
        if call.extra_content_json and not _is_object(call.extra_content_json):
            yield f"tool_calls[{index}].extra_content_json", "must be a JSON object"


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.parse(text, field=""), dict)
    except Invalid:
        return False
