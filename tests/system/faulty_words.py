"""What a provider says, in each of the three contracts."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

PIECES: Final = ("The capital ", "of France ", "is ", "Paris.")
ANSWER: Final = "".join(PIECES)


class Contract(ABC):
    """One provider's words."""

    path: ClassVar[str]
    stream_type: ClassVar[str] = "text/event-stream"
    streams_by_default: ClassVar[bool] = False
    too_long: ClassVar[bytes]
    """An error that says that the prompt does not fit."""

    @abstractmethod
    def whole(self, content: str, *, is_refused: bool = False) -> bytes:
        """An answer in one piece."""

    @abstractmethod
    def piece(self, content: str) -> bytes:
        """One event that says more."""

    @abstractmethod
    def ending(self, *, is_refused: bool = False) -> Sequence[bytes]:
        """The events after the last piece."""

    @abstractmethod
    def error(self, words: str) -> bytes:
        """An error, as a body and as an event."""

    def beginning(self) -> Sequence[bytes]:
        """The events before the first piece: they say nothing yet."""
        return ()

    def framed(self, data: bytes) -> bytes:
        """An event."""
        return b"data: %b\n\n" % data


class OpenAi(Contract):
    path = "/chat/completions"
    too_long = json.dumps(
        {
            "error": {
                "message": "This model's maximum context length is 8192 tokens. However, your messages resulted in "
                "9001 tokens. Please reduce the length of the messages.",
                "type": "invalid_request_error",
                "param": "messages",
                "code": "context_length_exceeded",
            }
        }
    ).encode()

    def whole(self, content: str, *, is_refused: bool = False) -> bytes:
        message = {"role": "assistant", "content": None if is_refused else content}
        if is_refused:
            message["refusal"] = "I cannot help with that."
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 24, "completion_tokens": 8, "total_tokens": 32}
        return _json(id="c", object="chat.completion", model="served", choices=[choice], usage=usage)

    def beginning(self) -> Sequence[bytes]:
        return (self._event({"role": "assistant", "content": ""}),)

    def piece(self, content: str) -> bytes:
        return self._event({"content": content})

    def ending(self, *, is_refused: bool = False) -> Sequence[bytes]:
        usage = {"prompt_tokens": 24, "completion_tokens": 8}
        return (
            self._event({}, "content_filter" if is_refused else "stop"),
            self.framed(_json(choices=[], usage=usage)),
            self.framed(b"[DONE]"),
        )

    def error(self, words: str) -> bytes:
        return _json(error={"message": words, "type": "server_error", "code": None})

    def _event(self, delta: Mapping[str, str], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return self.framed(_json(id="c", object="chat.completion.chunk", model="served", choices=[choice]))


class Anthropic(Contract):
    path = "/v1/messages"
    too_long = json.dumps(
        {
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "message": "prompt is too long: 215000 tokens > 200000 maximum",
            },
        }
    ).encode()

    def whole(self, content: str, *, is_refused: bool = False) -> bytes:
        return _json(
            id="msg",
            type="message",
            role="assistant",
            model="served",
            content=[] if is_refused else [{"type": "text", "text": content}],
            stop_reason="refusal" if is_refused else "end_turn",
            usage={"input_tokens": 24, "output_tokens": 8},
        )

    def beginning(self) -> Sequence[bytes]:
        message = {"model": "served", "role": "assistant", "content": [], "usage": {"input_tokens": 24}}
        block = {"type": "text", "text": ""}
        return (
            self._event("message_start", message=message),
            self._event("content_block_start", index=0, content_block=block),
            self._event("ping"),
        )

    def piece(self, content: str) -> bytes:
        return self._event("content_block_delta", index=0, delta={"type": "text_delta", "text": content})

    def ending(self, *, is_refused: bool = False) -> Sequence[bytes]:
        delta = {"stop_reason": "refusal" if is_refused else "end_turn"}
        return (
            self._event("content_block_stop", index=0),
            self._event("message_delta", delta=delta, usage={"output_tokens": 8}),
            self._event("message_stop"),
        )

    def error(self, words: str) -> bytes:
        return _json(type="error", error={"type": "api_error", "message": words})

    def framed(self, data: bytes) -> bytes:
        return b"event: error\ndata: %b\n\n" % data

    def _event(self, kind: str, **fields: Any) -> bytes:
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), _json(type=kind, **fields))


class Ollama(Contract):
    path = "/api/chat"
    stream_type = "application/x-ndjson"
    streams_by_default = True
    too_long = json.dumps({"error": "the prompt is too long: the input length exceeds the context length"}).encode()

    def whole(self, content: str, *, is_refused: bool = False) -> bytes:
        message = {"role": "assistant", "content": content}
        return _json(model="served", message=message, **self._done())

    def piece(self, content: str) -> bytes:
        message = {"role": "assistant", "content": content}
        return self.framed(_json(model="served", message=message, done=False))

    def ending(self, *, is_refused: bool = False) -> Sequence[bytes]:
        message = {"role": "assistant", "content": ""}
        return (self.framed(_json(model="served", message=message, **self._done())),)

    def error(self, words: str) -> bytes:
        return _json(error=words)

    def framed(self, data: bytes) -> bytes:
        return data + b"\n"

    def _done(self) -> dict[str, Any]:
        return {"done": True, "done_reason": "stop", "prompt_eval_count": 24, "eval_count": 8}


CONTRACTS: Final[Mapping[str, Contract]] = {"openai": OpenAi(), "anthropic": Anthropic(), "ollama": Ollama()}


def _json(**fields: Any) -> bytes:
    return json.dumps(fields).encode()
