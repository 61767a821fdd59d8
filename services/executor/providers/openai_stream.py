"""A streamed answer of OpenAI and its likes, put together piece by piece and read with distrust. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import orjson

from completions.chat import Message, Role, ToolCall
from kit.json import Json
from services.executor.domain import (
    Delta,
    FinishReason,
    ProviderAnswer,
    ProviderFailure,
    ProviderRequest,
    ToolCallDelta,
    Usage,
)
from services.executor.providers.answers import Malformed, event_of, model_of
from services.executor.providers.failures import Told, malformed, told_failure
from services.executor.providers.openai_answer import finish_reason_of, usage_of

_DONE: Final = b"[DONE]"
_MAX_TOOL_CALLS: Final = 128


@dataclass(slots=True)
class _Call:
    id: str = ""
    tool: str = ""
    arguments: list[str] = field(default_factory=list)


class Assembly:
    """What has come so far."""

    __slots__ = (
        "_calls",
        "_content",
        "_finish_reason",
        "_is_refused",
        "_reasoning",
        "_request",
        "_usage",
        "is_done",
        "model",
    )

    def __init__(self, request: ProviderRequest) -> None:
        self._request = request
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[_Call] = []
        self._finish_reason: FinishReason | None = None
        self._is_refused = False
        self._usage = Usage()
        self.model = request.model
        """What answers, in the provider's words once it has said so."""
        self.is_done = False
        """Whether the provider said that this was all."""

    def take(self, data: bytes) -> Delta | None:
        """What one event adds; None if it adds nothing to say.

        :raises Malformed: if it makes no sense
        :raises Told: if it tells of a failure
        """
        if data == _DONE:
            self.is_done = True
            return None
        event = event_of(data)
        if event.get("error"):
            raise Told(told_failure(event, self._request))
        if (name := event.get("model")) != self.model:
            self.model = model_of(name, self.model)
        if isinstance(usage := event.get("usage"), dict):
            self._usage = usage_of(usage)
        choices = event.get("choices")
        if not isinstance(choices, list) or not choices:
            return None
        choice = choices[0]
        if not isinstance(choice, dict):
            raise Malformed("has a choice that is not an object")
        self._finish_reason = finish_reason_of(choice.get("finish_reason")) or self._finish_reason
        delta = choice.get("delta")
        return self._delta(delta) if isinstance(delta, dict) else None

    def _delta(self, delta: dict[str, Json]) -> Delta | None:
        content = delta.get("content")
        if not content and (content := delta.get("refusal")):
            self._is_refused = True
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        calls = delta.get("tool_calls")
        if isinstance(content, str) and content:
            self._content.append(content)
        else:
            content = ""
        if isinstance(reasoning, str) and reasoning:
            self._reasoning.append(reasoning)
        else:
            reasoning = ""
        pieces = self._tool_calls(calls) if isinstance(calls, list) else ()
        return Delta(content, reasoning, pieces) if content or reasoning or pieces else None

    def _tool_calls(self, calls: list[Json]) -> tuple[ToolCallDelta, ...]:
        pieces = []
        for call in calls:
            if not isinstance(call, dict):
                raise Malformed("has a tool call that is not an object")
            given, function = call.get("index"), call.get("function")
            # Some servers leave the index out and send each call whole.
            index = given if isinstance(given, int) else len(self._calls)
            if not 0 <= index <= len(self._calls) or index >= _MAX_TOOL_CALLS:
                raise Malformed("has tool calls out of order, or too many of them")
            if index == len(self._calls):
                self._calls.append(_Call())
            pieces.append(self._tool_call(index, call.get("id"), function if isinstance(function, dict) else {}))
        return tuple(pieces)

    def _tool_call(self, index: int, uid: Json, function: dict[str, Json]) -> ToolCallDelta:
        kept, name, arguments = self._calls[index], function.get("name"), function.get("arguments")
        text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode() if arguments else ""
        if text:
            kept.arguments.append(text)
        fresh_id = uid if isinstance(uid, str) and not kept.id else ""
        fresh_tool = name if isinstance(name, str) and not kept.tool else ""
        kept.id, kept.tool = kept.id or fresh_id, kept.tool or fresh_tool
        return ToolCallDelta(index, fresh_id, fresh_tool, text)

    def end(self, http_status: int) -> ProviderAnswer | ProviderFailure:
        """The whole answer when nothing more comes; a failure if it was not whole."""
        if not self.is_done and self._finish_reason is None:
            return malformed("ends in the middle", http_status)
        if any(not call.tool for call in self._calls):
            return malformed("has a tool call without a name", http_status)
        message = Message(
            Role.ASSISTANT,
            content="".join(self._content),
            tool_calls=tuple(ToolCall(call.id, call.tool, "".join(call.arguments) or "{}") for call in self._calls),
            reasoning="".join(self._reasoning),
        )
        finish_reason = FinishReason.CONTENT_FILTER if self._is_refused else self._finish_reason
        return ProviderAnswer(message, finish_reason, self._usage, self.model, http_status)
