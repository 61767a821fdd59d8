"""A streamed answer of OpenAI and its likes, put together piece by piece and read with distrust."""

from __future__ import annotations

from typing import Final

from kit.json import Json
from services.executor.domain import Delta, FinishReason, ProviderAnswer, ProviderRequest, ToolCallDelta, Usage
from services.executor.providers.answers import (
    Malformed,
    arguments_json,
    called_of,
    event_of,
    extra_content_of,
    missing_call_id,
    model_of,
    text_of,
)
from services.executor.providers.openai_answer import (
    as_called,
    finish_reason_of,
    first_choice,
    texts_of,
    told,
    usage_of,
)
from services.executor.providers.transcript import Transcript

_DONE: Final = b"[DONE]"


class Assembly:
    """What has come so far."""

    __slots__ = (
        "_finish_reason", "_is_refused", "_request", "_retry_statuses", "_transcript", "_usage", "is_done",
        "is_finished", "model",
    )  # fmt: skip

    def __init__(self, request: ProviderRequest, retry_statuses: frozenset[int]) -> None:
        self._request = request
        self._retry_statuses = retry_statuses
        self._transcript = Transcript(missing_call_id)
        self._finish_reason: FinishReason | None = None
        self._is_refused = False
        self._usage = Usage()
        self.model = request.model
        """What answers, in the provider's words once it has said so."""
        self.is_finished = False
        """Whether the model has said all; counts and the provider's mark may still come."""
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
            raise told(event, self._request, self._retry_statuses)
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
        if choice.get("index") and (choice := first_choice(choices)) is None:
            return None
        if choice.get("finish_reason"):
            self._finish_reason = finish_reason_of(choice, self._request, self._retry_statuses) or self._finish_reason
            self.is_finished = self._finish_reason is not None
        delta = choice.get("delta")
        return self._delta(delta) if isinstance(delta, dict) else None

    def _delta(self, delta: dict[str, Json]) -> Delta | None:
        content = delta.get("content")
        if isinstance(content, list):
            content = "".join(texts_of(content))
        if not content and (content := delta.get("refusal")):
            self._is_refused = True
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        calls = delta.get("tool_calls")
        return self._transcript.say(
            content if isinstance(content, str) else "",
            reasoning if isinstance(reasoning, str) else "",
            tuple(map(self._tool_call, calls)) if isinstance(calls, list) else (),
        )

    def _tool_call(self, call: Json) -> ToolCallDelta:
        if not isinstance(call, dict):
            raise Malformed("has a tool call that is not an object")
        given, called, uid = call.get("index"), called_of(call) or {}, text_of(call.get("id"))
        tool, arguments = text_of(called.get("name")), called.get("arguments")
        arguments = arguments_json(arguments) if arguments else ""
        index = self._transcript.place(given if isinstance(given, int) else None, uid, tool, arguments)
        return self._transcript.call(index, uid, tool, arguments, extra_content_of(call))

    def end(self, http_status: int) -> ProviderAnswer:
        """The whole answer when nothing more comes.

        :raises Malformed: if it was not whole
        """
        if not self.is_done and not self.is_finished:
            raise Malformed("ends in the middle")
        message = self._transcript.message()
        if self._finish_reason is None and not (message.content or message.reasoning or message.tool_calls):
            raise Malformed("has no choices")
        finish_reason = as_called(self._finish_reason, has_calls=bool(message.tool_calls))
        if self._is_refused:
            finish_reason = FinishReason.CONTENT_FILTER
        return ProviderAnswer(message, finish_reason, self._usage, self.model, http_status)
