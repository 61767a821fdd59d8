"""A streamed answer of Ollama, put together piece by piece and read with distrust."""

from __future__ import annotations

from kit.json import Json
from services.executor.domain import Delta, ProviderAnswer, ProviderRequest, Usage
from services.executor.providers.answers import Malformed, event_of, model_of, text_of
from services.executor.providers.ollama_answer import finish_reason_of, told, tool_calls_of, usage_of
from services.executor.providers.transcript import Transcript


class Assembly:
    """What has come so far."""

    __slots__ = ("_finish", "_request", "_retry_statuses", "_transcript", "_usage", "is_done", "is_finished", "model")

    def __init__(self, request: ProviderRequest, retry_statuses: frozenset[int]) -> None:
        self._request = request
        self._retry_statuses = retry_statuses
        self._transcript = Transcript()
        self._finish: Json = None
        self._usage = Usage()
        self.model = request.model
        """What answers, in the provider's words once it has said so."""
        self.is_finished = False
        """As :attr:`is_done`: its last line says everything."""
        self.is_done = False
        """Whether the provider said that this was all."""

    def take(self, data: bytes) -> Delta | None:
        """What one line adds; None if it adds nothing to say.

        :raises Malformed: if it makes no sense
        :raises Told: if it tells of a failure
        """
        if self.is_done:
            # A last line may have words of its own, so whoever reads on is told here.
            return None
        event = event_of(data)
        if event.get("error"):
            raise told(event, self._request, self._retry_statuses)
        self.model = model_of(event.get("model"), self.model)
        if event.get("done") is True:
            self.is_done = self.is_finished = True
            self._finish, self._usage = event.get("done_reason"), usage_of(event)
        message = event.get("message")
        if message is None:
            return None
        if not isinstance(message, dict):
            raise Malformed("has a message that is not an object")
        said = self._transcript
        calls = tuple(
            said.call(said.call_count, call.id, call.name, call.arguments_json) for call in tool_calls_of(message)
        )
        return said.say(text_of(message.get("content")), text_of(message.get("thinking")), calls)

    def end(self, http_status: int) -> ProviderAnswer:
        """The whole answer when nothing more comes.

        :raises Malformed: if it was not whole
        """
        if not self.is_done:
            raise Malformed("ends in the middle")
        return ProviderAnswer(
            self._transcript.message(),
            finish_reason_of(self._finish, has_calls=self._transcript.call_count > 0),
            self._usage,
            self.model,
            http_status,
        )
