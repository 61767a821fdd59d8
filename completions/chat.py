"""Typed chat messages, as every provider's adapter and every room understands them."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from kit.errors import Invalid, Violation
from kit.values import value


class Role(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@value
class TextPart:
    """Text among other parts."""

    text: str


@value
class ImagePart:
    """A picture by URL, `data:` URLs included."""

    url: str
    detail: str = ""
    """How closely to look, in the provider's words; empty leaves it to the provider."""


Part: TypeAlias = TextPart | ImagePart


@value
class ToolCall:
    """A model's wish to have a tool called."""

    id: str
    name: str
    arguments_json: str
    """As the model wrote it: text that should be JSON, and is not always."""


@value
class Message:
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
