"""What was said in a call, as JSON text in pieces that the event stream can carry. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from completions.chat import Message, Part, TextPart, ToolCall
from kit.events.pieces import Pieces, in_pieces
from services.executor.domain import Run


def payload(run: Run) -> Pieces:
    """What the model said, if there was an answer, and what the caller sent."""
    return in_pieces(_text(run))


def _text(run: Run) -> bytes:
    text = run.call.variables_json
    # What was found to be an object can stand as it is; else it may be anything.
    variables = (text.encode() or b"{}") if run.has_variables else orjson.dumps(text)
    messages = orjson.dumps([_document(message) for message in run.said])
    # The answer first: a long question that is cut does not cost it.
    opening = b"{"
    if run.answer is not None:
        opening = b'{"message":' + orjson.dumps(_document(run.answer.message)) + b","
    return b"".join((opening, b'"variables":', variables, b',"messages":', messages, b"}"))


def _document(message: Message) -> dict[str, object]:
    document: dict[str, object] = {"role": message.role}
    if message.content:
        document["content"] = message.content
    if message.parts:
        document["parts"] = _parts(message.parts)
    if message.name:
        document["name"] = message.name
    if message.tool_calls:
        document["tool_calls"] = [_tool_call(call) for call in message.tool_calls]
    if message.tool_call_id:
        document["tool_call_id"] = message.tool_call_id
    if message.reasoning:
        document["reasoning"] = message.reasoning
    return document


def _tool_call(call: ToolCall) -> dict[str, object]:
    document: dict[str, object] = {"id": call.id, "tool": call.name, "arguments_json": call.arguments_json}
    if call.extra_content_json:
        document["extra_content_json"] = call.extra_content_json
    return document


def _parts(parts: Sequence[Part]) -> list[dict[str, object]]:
    return [
        {"text": part.text} if isinstance(part, TextPart) else {"image": {"url": part.url, "detail": part.detail}}
        for part in parts
    ]
