"""What was said in a call, as JSON text in pieces that the event stream can carry. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from completions.chat import Message, Part, TextPart, ToolCall
from kit.events.pieces import Pieces, in_pieces
from services.executor.domain import Run


def payload(run: Run) -> Pieces:
    """What the model said, if there was an answer, and what the caller sent."""
    text = run.call.variables_json
    said: dict[str, object] = {}
    if run.answer is not None:
        # First: a long question that is cut does not cost it.
        said["message"] = _document(run.answer.message)
    # What was found to be an object can stand as it is; else it may be anything.
    said["variables"] = orjson.Fragment(text or "{}") if run.has_variables else text
    said["messages"] = [_document(message) for message in run.said]
    return in_pieces(orjson.dumps(said))


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
