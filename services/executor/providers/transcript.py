"""An assistant's message while its pieces come. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from completions.chat import Message, Role, ToolCall
from services.executor.domain import Delta, ToolCallDelta
from services.executor.providers.answers import Malformed

_MAX_TOOL_CALLS: Final = 128


@dataclass(slots=True)
class _Call:
    id: str
    tool: str
    arguments: list[str] = field(default_factory=list)


class Transcript:
    """What was said so far. Each method gives the piece that it adds; None for an empty one."""

    __slots__ = ("_calls", "_content", "_reasoning")

    def __init__(self) -> None:
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[_Call] = []

    @property
    def has_calls(self) -> bool:
        """Whether a tool was called."""
        return bool(self._calls)

    def say(self, text: str) -> Delta | None:
        """A piece of the answer."""
        if not text:
            return None
        self._content.append(text)
        return Delta(text)

    def think(self, text: str) -> Delta | None:
        """A piece of what the model thinks before it answers."""
        if not text:
            return None
        self._reasoning.append(text)
        return Delta(reasoning=text)

    def call(self, uid: str, tool: str, arguments_json: str = "") -> ToolCallDelta:
        """The next tool call.

        :raises Malformed: if it has no name, or there are too many
        """
        if not tool:
            raise Malformed("has a tool call without a name")
        if len(self._calls) >= _MAX_TOOL_CALLS:
            raise Malformed("has too many tool calls")
        self._calls.append(_Call(uid, tool, [arguments_json] if arguments_json else []))
        return ToolCallDelta(len(self._calls) - 1, uid, tool, arguments_json)

    def argue(self, index: int, arguments_json: str) -> Delta | None:
        """A piece of the arguments of a call.

        :param index: of a call that was begun
        """
        if not arguments_json:
            return None
        self._calls[index].arguments.append(arguments_json)
        return Delta(tool_calls=(ToolCallDelta(index, arguments_json=arguments_json),))

    def has_arguments(self, index: int) -> bool:
        """Whether any of a call's arguments came."""
        return bool(self._calls[index].arguments)

    def message(self) -> Message:
        """All of it."""
        return Message(
            Role.ASSISTANT,
            content="".join(self._content),
            tool_calls=tuple(ToolCall(call.id, call.tool, "".join(call.arguments) or "{}") for call in self._calls),
            reasoning="".join(self._reasoning),
        )
