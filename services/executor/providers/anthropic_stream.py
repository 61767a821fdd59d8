"""A streamed answer of Anthropic, put together piece by piece and read with distrust. Pure."""

from __future__ import annotations

from kit.json import Json
from services.executor.domain import Delta, FinishReason, ProviderAnswer, ProviderRequest
from services.executor.providers.answers import Malformed, arguments_json, event_of, model_of, text_of
from services.executor.providers.anthropic_answer import finish_reason_of, told, usage_of
from services.executor.providers.transcript import Transcript


class Assembly:
    """What has come so far."""

    __slots__ = (
        "_calls", "_finish_reason", "_inputs", "_request", "_retry_statuses", "_transcript", "_usage", "is_done",
        "is_finished", "model",
    )  # fmt: skip

    def __init__(self, request: ProviderRequest, retry_statuses: frozenset[int]) -> None:
        self._request = request
        self._retry_statuses = retry_statuses
        self._transcript = Transcript()
        self._calls: dict[int, int] = {}
        """From a block's index to the call's."""
        self._inputs: dict[int, str] = {}
        """Arguments that came whole with the beginning of their block."""
        self._finish_reason: FinishReason | None = None
        self._usage: dict[str, Json] = {}
        self.model = request.model
        """What answers, in the provider's words once it has said so."""
        self.is_finished = False
        """Whether the model has said all; the provider's mark may still come."""
        self.is_done = False
        """Whether the provider said that this was all."""

    def take(self, data: bytes) -> Delta | None:
        """What one event adds; None if it adds nothing to say.

        :raises Malformed: if it makes no sense
        :raises Told: if it tells of a failure
        """
        event = event_of(data)
        match event.get("type"):
            case "content_block_delta":
                return self._delta(event)
            case "content_block_start":
                return self._block(event)
            case "content_block_stop":
                return self._block_end(event)
            case "message_start":
                message = event.get("message")
                if isinstance(message, dict):
                    self.model = model_of(message.get("model"), self.model)
                    self._count(message.get("usage"))
            case "message_delta":
                if isinstance(delta := event.get("delta"), dict):
                    self._finish_reason = finish_reason_of(delta.get("stop_reason")) or self._finish_reason
                    self.is_finished = self._finish_reason is not None
                self._count(event.get("usage"))
            case "message_stop":
                self.is_done = True
            case "error":
                raise told(event, self._request, self._retry_statuses)
        # Pings, and kinds of events to come, say nothing.
        return None

    def _count(self, usage: Json) -> None:
        # Later counts hold the earlier ones; one that is left out did not change.
        if isinstance(usage, dict):
            self._usage.update((name, value) for name, value in usage.items() if value is not None)

    def _block(self, event: dict[str, Json]) -> Delta | None:
        index, block = event.get("index"), event.get("content_block")
        if not isinstance(index, int) or not isinstance(block, dict):
            raise Malformed("has a piece of content without a place")
        match block.get("type"):
            case "text":
                return self._transcript.say(text_of(block.get("text")))
            case "thinking":
                return self._transcript.say(reasoning=text_of(block.get("thinking")))
            case "tool_use":
                return self._call(index, block)
        return None

    def _delta(self, event: dict[str, Json]) -> Delta | None:
        delta = event.get("delta")
        if not isinstance(delta, dict):
            raise Malformed("has a piece of content that is not an object")
        match delta.get("type"):
            case "text_delta":
                return self._transcript.say(text_of(delta.get("text")))
            case "thinking_delta":
                return self._transcript.say(reasoning=text_of(delta.get("thinking")))
            case "input_json_delta":
                index = event.get("index")
                # The provider's own tools have arguments too, and nobody here to run them.
                if isinstance(index, int) and (call := self._calls.get(index)) is not None:
                    return self._argue(call, text_of(delta.get("partial_json")))
        return None

    def _block_end(self, event: dict[str, Json]) -> Delta | None:
        index = event.get("index")
        call = self._calls.get(index) if isinstance(index, int) else None
        if call is None or not isinstance(index, int) or self._transcript.has_arguments(call):
            return None
        # A call without arguments has none to stream, and is whole only with an empty object.
        return self._argue(call, self._inputs.pop(index, "{}"))

    def _call(self, index: int, block: dict[str, Json]) -> Delta | None:
        tool = text_of(block.get("name"))
        if not tool:
            raise Malformed("has a tool call without a name")
        call = self._transcript.call(self._transcript.call_count, text_of(block.get("id")), tool)
        self._calls[index] = call.index
        if block.get("input"):
            self._inputs[index] = arguments_json(block["input"])
        return self._transcript.say(calls=(call,))

    def _argue(self, call: int, arguments: str) -> Delta | None:
        return self._transcript.say(calls=(self._transcript.call(call, arguments=arguments),)) if arguments else None

    def end(self, http_status: int) -> ProviderAnswer:
        """The whole answer when nothing more comes.

        :raises Malformed: if it was not whole
        """
        if not self.is_done and not self.is_finished:
            raise Malformed("ends in the middle")
        return ProviderAnswer(
            self._transcript.message(), self._finish_reason, usage_of(self._usage), self.model, http_status
        )
