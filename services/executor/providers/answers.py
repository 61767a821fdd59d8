"""What every provider's answer has in common, read with distrust."""

from __future__ import annotations

from typing import Final

import orjson

from completions.chat import ToolCall
from kit import ids
from kit.egress import EgressResponse
from kit.json import Json
from services.executor.domain import ProviderRequest
from services.executor.providers.quotation import quoted

_MAX_NAME_CHARACTERS: Final = 256
_MAX_COUNT: Final = 10**12
"""No call takes more tokens; a larger number is a mistake, and would not fit where costs are kept."""


_NO_COUNTS: Final[dict[str, Json]] = {}


class Malformed(Exception):
    """What is wrong with an answer, as the end of the sentence "the provider's answer …"."""


def json_object_of(response: EgressResponse, request: ProviderRequest) -> dict[str, Json]:
    """The body of an answer with status 200.

    :raises Malformed: if it is no JSON object
    """
    kind = response.headers.get("Content-Type", "")
    if kind and "json" not in kind.lower():
        raise Malformed(f"is not JSON{quoted(kind, request)}")
    try:
        answer: Json = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        raise Malformed("is not valid JSON") from None
    if not isinstance(answer, dict):
        raise Malformed("is not a JSON object")
    return answer


def event_of(data: bytes) -> dict[str, Json]:
    """One event of a streamed answer.

    :raises Malformed: if it is no JSON object
    """
    try:
        event: Json = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise Malformed("has an event that is not valid JSON") from None
    if not isinstance(event, dict):
        raise Malformed("has an event that is not a JSON object")
    return event


def text_of(value: Json) -> str:
    """A text; empty for whatever else stands there."""
    return value if isinstance(value, str) else ""


def model_of(model: Json, otherwise: str) -> str:
    """What answered, in the provider's words."""
    return model[:_MAX_NAME_CHARACTERS] if isinstance(model, str) and model else otherwise


def arguments_json(given: Json) -> str:
    """A call's arguments as text, which they are already where a server sends the text instead of the object, or the
    object instead of the text.

    :raises Malformed: if they are nested deeper than can be written
    """
    if isinstance(given, str):
        return given
    try:
        return orjson.dumps(given or {}).decode()
    except orjson.JSONEncodeError:
        # What orjson reads it may not write: it reads 1,024 levels, and writes 254.
        raise Malformed("has a tool call whose arguments are nested too deeply") from None


def missing_call_id() -> str:
    """For a tool call that came without: an answer to it must name it."""
    return ids.new_uid("call")


def tool_calls_of(calls: Json) -> list[ToolCall]:
    """The calls of a message in OpenAI's shape, each whole. One without an id gets a new one.

    :raises Malformed: if they make no sense
    """
    if not isinstance(calls, list):
        raise Malformed("has tool calls that are no list")
    found = []
    for call in calls:
        if not isinstance(call, dict) or (called := called_of(call)) is None:
            raise Malformed("has a tool call without a function")
        name = text_of(called.get("name"))
        if not name:
            raise Malformed("has a tool call without a name")
        arguments = arguments_json(called.get("arguments"))
        uid = text_of(call.get("id")) or missing_call_id()
        found.append(ToolCall(uid, name, arguments, extra_content_of(call)))
    return found


def extra_content_of(call: dict[str, Json]) -> str:
    """What a server of OpenAI's kind wants back with a call, such as Google's thought signature; empty for nothing.

    :raises Malformed: if it is nested too deeply
    """
    extra = call.get("extra_content")
    return arguments_json(extra) if isinstance(extra, dict) and extra else ""


def called_of(call: dict[str, Json]) -> dict[str, Json] | None:
    """What a call in OpenAI's shape calls: its `name` and `arguments`; None if no function and no custom tool."""
    if isinstance(function := call.get("function"), dict):
        return function
    if isinstance(custom := call.get("custom"), dict):
        return {"name": custom.get("name"), "arguments": text_of(custom.get("input"))}
    return None


def count_of(value: Json) -> int | None:
    """A count; None for whatever else stands there."""
    # Not isinstance: True is no count.
    return value if type(value) is int and 0 <= value <= _MAX_COUNT else None


def counts_in(value: Json) -> dict[str, Json]:
    """An object of counts; an empty one for whatever else stands there."""
    return value if isinstance(value, dict) else _NO_COUNTS
