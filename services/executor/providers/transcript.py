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
    id: str = ""
    tool: str = ""
    arguments: list[str] = field(default_factory=list)


class Transcript:
    """What was said so far."""

    __slots__ = ("_calls", "_content", "_places", "_reasoning")

    def __init__(self) -> None:
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[_Call] = []
        self._places: dict[int, int] | None = None
        """From a provider's index to the call's, once it has called a tool."""

    @property
    def call_count(self) -> int:
        """How many tools were called; the index of the next call."""
        return len(self._calls)

    def say(self, content: str = "", reasoning: str = "", calls: tuple[ToolCallDelta, ...] = ()) -> Delta | None:
        """A piece of the answer and of what the model thinks before it; None for an empty one.

        :param calls: pieces that :meth:`call` gave
        """
        if content:
            self._content.append(content)
        if reasoning:
            self._reasoning.append(reasoning)
        return Delta(content, reasoning, calls) if content or reasoning or calls else None

    def place(self, given: int | None, uid: str, tool: str) -> int:
        """Which call a piece belongs to: the provider's indices may begin anywhere, have gaps, or be the same for all.

        :param given: the provider's index; None if it left that out, because it sends each call whole
        :return: for :meth:`call`
        """
        new = len(self._calls)
        if self._places is None:
            self._places = {}
        index = self._places.setdefault(new if given is None else given, new)
        if given is None or index == new:
            return new
        known = self._calls[index].id
        if not uid or not known or uid == known:
            return index
        # Another call in the same place, if it has a name: some servers give each piece an id of its own.
        other = next((at for at, call in enumerate(self._calls) if call.id == uid), new if tool else index)
        self._places[given] = other
        return other

    def call(self, index: int, uid: str = "", tool: str = "", arguments: str = "") -> ToolCallDelta:
        """A piece of a tool call; its id and its name may come with any, and the first of each stays.

        :param index: of a call that was begun, or :attr:`call_count` for the next
        :param arguments: a piece of their JSON
        :raises Malformed: if there is no such call yet, or there are too many
        """
        if not 0 <= index <= len(self._calls):
            raise Malformed("has tool calls out of order")
        if index >= _MAX_TOOL_CALLS:
            raise Malformed("has too many tool calls")
        if index == len(self._calls):
            self._calls.append(_Call())
        call = self._calls[index]
        uid, tool = "" if call.id else uid, "" if call.tool else tool
        call.id, call.tool = call.id or uid, call.tool or tool
        if arguments:
            call.arguments.append(arguments)
        return ToolCallDelta(index, uid, tool, arguments)

    def has_arguments(self, index: int) -> bool:
        """Whether any of a call's arguments came."""
        return bool(self._calls[index].arguments)

    def message(self) -> Message:
        """All of it.

        :raises Malformed: if a call never got its name
        """
        if not all(call.tool for call in self._calls):
            raise Malformed("has a tool call without a name")
        return Message(
            Role.ASSISTANT,
            content="".join(self._content),
            tool_calls=tuple(ToolCall(call.id, call.tool, "".join(call.arguments) or "{}") for call in self._calls),
            reasoning="".join(self._reasoning),
        )
