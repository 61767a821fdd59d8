"""An assistant's message while its pieces come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import orjson

from completions.chat import Message, Role, ToolCall
from services.executor.domain import Delta, ToolCallDelta
from services.executor.providers.answers import Malformed

_MAX_TOOL_CALLS: Final = 128
_MAX_LOOKS: Final = 64
"""Each reads all of a call's arguments; a provider could have them read without end."""


@dataclass(slots=True)
class _Call:
    id: str = ""
    has_own_id: bool = False
    """Whether the id is not the provider's."""
    tool: str = ""
    arguments: list[str] = field(default_factory=list)
    extra_content: str = ""
    looks: int = 0

    def is_over(self, first: str = "") -> bool:
        """Whether its arguments are whole, or cannot go on with this character if there is one."""
        if self.looks == _MAX_LOOKS:
            return False
        self.looks += 1
        text = "".join(self.arguments)
        try:
            orjson.loads(text + first)
        except orjson.JSONDecodeError as error:
            # What is only not whole yet is wrong at its end, and what went wrong before, before.
            return bool(first) and error.pos == len(text)
        return True


class Transcript:
    """What was said so far.

    :param missing_id: makes one for a call whose name comes without
    """

    __slots__ = ("_calls", "_content", "_missing_id", "_places", "_reasoning")

    def __init__(self, missing_id: Callable[[], str] = str) -> None:
        self._missing_id = missing_id
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

    def place(self, given: int | None, uid: str, tool: str, arguments: str) -> int:
        """Which call a piece belongs to: the provider's indices may begin anywhere, have gaps, or be the same for all.

        :param given: the provider's index; None if it left that out: then a call begins with its name
        :param arguments: the piece of their JSON
        :return: for :meth:`call`
        """
        new = len(self._calls)
        if given is None and not tool and new:
            return next((at for at, call in enumerate(self._calls) if uid and call.id == uid), new - 1)
        if self._places is None:
            self._places = {}
        index = self._places.setdefault(new if given is None else given, new)
        if given is None or index == new:
            return new
        if not uid and not tool:
            return index
        other = self._other(self._calls[index], uid, tool, arguments)
        if other is None:
            return index
        self._places[given] = other
        return other

    def _other(self, known: _Call, uid: str, tool: str, arguments: str) -> int | None:
        """Which call a piece in the place of a known one belongs to if not to that; some servers repeat the name with
        each piece, or give each an id of its own."""
        is_new = bool(uid and known.id and uid != known.id and not known.has_own_id)
        if is_new:
            for at, call in enumerate(self._calls):
                if call.id == uid and ("" in (tool, call.tool) or tool == call.tool):
                    return at
        if not tool or not known.tool:
            return None
        first = arguments.lstrip()[:1]
        # What begins otherwise comes from the middle of an object.
        can_begin = first in ("", "{")
        if tool != known.tool:
            begins = can_begin or known.is_over()
        else:
            begins = can_begin and (is_new or first != "") and known.is_over(first if is_new else "")
        return len(self._calls) if begins else None

    def call(
        self, index: int, uid: str = "", tool: str = "", arguments: str = "", extra_content: str = ""
    ) -> ToolCallDelta:
        """A piece of a tool call; its id, name and extra content may come with any, and the first of each stays.

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
        if not call.id and call.tool:
            uid = call.id = self._missing_id()
            call.has_own_id = True
        if arguments:
            call.arguments.append(arguments)
        extra_content = "" if call.extra_content else extra_content
        call.extra_content = call.extra_content or extra_content
        return ToolCallDelta(index, uid, tool, arguments, extra_content)

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
            tool_calls=tuple(
                ToolCall(call.id, call.tool, "".join(call.arguments) or "{}", call.extra_content)
                for call in self._calls
            ),
            reasoning="".join(self._reasoning),
        )
