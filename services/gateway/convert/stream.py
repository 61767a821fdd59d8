"""Answers in pieces: server-sent events in OpenAI's wire format."""

from __future__ import annotations

from typing import Any, Final

import orjson

from services.gateway.convert import answer
from turnout.executor.v1 import execution_service_pb2 as pb

DONE: Final = b"data: [DONE]\n\n"


class Events:
    """Makes the events of one stream. What is the same in all of them is written once.

    :param created: Unix time in seconds
    :param wants_usage: whether an event with the usage comes last; all others then say that it is not known yet
    :param is_mocked: whether the caller asked for this very answer
    """

    __slots__ = (
        "_after_choices",
        "_after_delta",
        "_before_choices",
        "_before_delta",
        "_has_tool_calls",
        "_is_mocked",
        "_started",
        "_wants_usage",
    )

    def __init__(self, started: pb.RunStarted, *, created: int, wants_usage: bool, is_mocked: bool = False) -> None:
        self._started = started
        self._is_mocked = is_mocked
        self._has_tool_calls = False
        head = orjson.dumps(
            {
                "id": started.request_id,
                "object": "chat.completion.chunk",
                "created": created,
                "model": started.model,
            }
        )
        self._before_choices = b"data: " + head[:-1] + b',"choices":['
        self._before_delta = self._before_choices + b'{"index":0,"delta":'
        self._wants_usage = wants_usage
        self._after_choices = b"]" + (b',"usage":null' if wants_usage else b"")
        self._after_delta = b',"logprobs":null,"finish_reason":null}' + self._after_choices + b"}\n\n"

    def start(self) -> bytes:
        """Who speaks."""
        return b"".join((self._before_delta, b'{"role":"assistant","content":"","refusal":null}', self._after_delta))

    def delta(self, delta: pb.RunDelta) -> bytes:
        """A piece."""
        if delta.content and not delta.tool_calls and not delta.reasoning:
            piece = b'{"content":' + orjson.dumps(delta.content) + b"}"
        else:
            piece = orjson.dumps(self._piece(delta))
        return b"".join((self._before_delta, piece, self._after_delta))

    def end(self, ended: pb.RunEnded) -> bytes:
        """Why it stopped and what it took; its usage if it is wanted and known; and that this was all."""
        reason = answer.finish_reason(ended.finish_reason, has_tool_calls=self._has_tool_calls)
        last = orjson.dumps({"index": 0, "delta": {}, "logprobs": None, "finish_reason": reason})
        turnout = orjson.dumps(answer.turnout(self._started, ended, is_mocked=self._is_mocked))
        events = [self._before_choices, last, self._after_choices, b',"turnout":', turnout, b"}\n\n"]
        if self._wants_usage and (usage := answer.usage(ended.usage)) is not None:
            events += [self._before_choices, b'],"usage":', orjson.dumps(usage), b"}\n\n"]
        events.append(DONE)
        return b"".join(events)

    def _piece(self, delta: pb.RunDelta) -> dict[str, Any]:
        said: dict[str, Any] = {}
        if delta.content:
            said["content"] = delta.content
        if delta.reasoning:
            said["reasoning_content"] = delta.reasoning
        if delta.tool_calls:
            self._has_tool_calls = True
            said["tool_calls"] = [_tool_call(call) for call in delta.tool_calls]
        return said


def failure(body: bytes) -> bytes:
    """The event of a stream that breaks; `[DONE]` does not follow.

    :param body: as of a failed answer
    """
    return b"data: " + body + b"\n\n"


def _tool_call(call: pb.ToolCallDelta) -> dict[str, Any]:
    function = {"arguments": call.arguments_json}
    said: dict[str, Any] = {"index": call.index}
    if call.id or call.tool:
        said |= {"id": call.id, "type": "function"}
        function = {"name": call.tool, **function}
    said["function"] = function
    return answer.with_extra_content(said, call.extra_content_json)
