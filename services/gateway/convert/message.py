"""OpenAI's messages to ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from kit import json
from kit.json import Json
from services.gateway.convert import refusal
from turnout.chat.v1 import message_pb2

ROLES: Final = {
    "system": message_pb2.ROLE_SYSTEM,
    "developer": message_pb2.ROLE_DEVELOPER,
    "user": message_pb2.ROLE_USER,
    "assistant": message_pb2.ROLE_ASSISTANT,
    "tool": message_pb2.ROLE_TOOL,
}

_SKIPPED: Final = frozenset(("role", "parsed"))
"""The role is taken first; `parsed` is what OpenAI's SDK has read in the content, and sends back beside it."""


class Messages(Protocol):
    """A list of messages of a contract."""

    def add(self) -> message_pb2.Message:
        """One more."""
        ...


def add_messages(messages: Messages, value: Json, path: str = "messages") -> None:
    """Add all of a body's list to the call's.

    :param path: of the list in the body
    :raises Invalid: naming the path of what is wrong, such as `messages[2].content[0].type`
    """
    if not isinstance(value, list):
        raise refusal.wrong_type(path, "an array of messages", value)
    add = messages.add
    for index, each in enumerate(value):
        _fill(add(), each, f"{path}[{index}]")


def _fill(message: message_pb2.Message, value: Json, place: str) -> None:
    if not isinstance(value, dict):
        raise refusal.wrong_type(place, "an object", value)
    role = value.get("role")
    number = ROLES.get(role) if isinstance(role, str) else None
    if number is None:
        raise _wrong_role(role, place)
    message.role = number
    content = value.get("content")
    if len(value) == 2 and isinstance(content, str):
        # Nothing but who says what, as most.
        message.content = content
    else:
        _take_members(message, value, place)
    if number == message_pb2.ROLE_TOOL and not message.tool_call_id:
        raise refusal.missing(f"{place}.tool_call_id", "must name the call that a tool message answers")


def _take_members(message: message_pb2.Message, value: dict[str, Json], place: str) -> None:
    for name, given in value.items():
        if given is None or name in _SKIPPED:
            continue
        take = _FIELDS.get(name)
        if take is not None:
            take(message, given, place)
        elif given not in ([], {}, ""):
            # An empty list of annotations and the like come back with a message that was an answer before.
            raise refusal.unsupported(refusal.place(place, name), "is not taken by this endpoint")


def _wrong_role(role: Json, place: str) -> Exception:
    path = f"{place}.role"
    if role is None:
        return refusal.missing(path, f"must be one of {', '.join(ROLES)}")
    if not isinstance(role, str):
        return refusal.wrong_type(path, "a string", role)
    return refusal.wrong_value(path, f"must be one of {', '.join(ROLES)}")


def _content(message: message_pb2.Message, value: Json, place: str) -> None:
    if isinstance(value, str):
        if value:
            message.content = value
        return
    path = f"{place}.content"
    if not isinstance(value, list):
        raise refusal.wrong_type(path, "a string or an array of parts", value)
    if value:
        # Instead of a refusal that stood before it.
        message.content = ""
    for number, part in enumerate(value):
        _part(message, part, f"{path}[{number}]")
    if len(message.parts) == 1 and message.parts[0].WhichOneof("kind") == "text":
        # The same to every model, and servers that know no parts understand it.
        message.content = message.parts[0].text
        del message.parts[:]


def _part(message: message_pb2.Message, value: Json, path: str) -> None:
    if not isinstance(value, dict):
        raise refusal.wrong_type(path, "an object", value)
    kind = value.get("type")
    if kind == "text":
        message.parts.add(text=_member(value, "text", path))
        _refuse_others(value, ("type", "text"), path)
    elif kind == "image_url":
        _image(message, value, path)
        _refuse_others(value, ("type", "image_url"), path)
    elif kind == "refusal":
        message.parts.add(text=_member(value, "refusal", path))
        _refuse_others(value, ("type", "refusal"), path)
    elif kind is None:
        raise refusal.missing(f"{path}.type", "must be text or image_url")
    else:
        raise refusal.wrong_value(f"{path}.type", "must be text or image_url")


def _image(message: message_pb2.Message, value: dict[str, Json], path: str) -> None:
    path = f"{path}.image_url"
    image = value.get("image_url")
    if not isinstance(image, dict):
        raise refusal.wrong_type(path, "an object with a url", image)
    url, detail = _member(image, "url", path), image.get("detail")
    if not url:
        raise refusal.missing(f"{path}.url", "must be an https address or a data: URL")
    if detail not in (None, "auto", "low", "high"):
        raise refusal.wrong_value(f"{path}.detail", "must be auto, low or high")
    _refuse_others(image, ("url", "detail"), path)
    message.parts.add(image=message_pb2.Image(url=url, detail=detail if isinstance(detail, str) else ""))


def _name(message: message_pb2.Message, value: Json, place: str) -> None:
    message.name = refusal.text(f"{place}.name", value)


def _tool_call_id(message: message_pb2.Message, value: Json, place: str) -> None:
    message.tool_call_id = refusal.text(f"{place}.tool_call_id", value)


def _reasoning(message: message_pb2.Message, value: Json, place: str) -> None:
    message.reasoning = refusal.text(f"{place}.reasoning_content", value)


def _refusal(message: message_pb2.Message, value: Json, place: str) -> None:
    text = refusal.text(f"{place}.refusal", value)
    # What the model said instead of an answer is what it said.
    if not message.content and not message.parts:
        message.content = text


def _tool_calls(message: message_pb2.Message, value: Json, place: str) -> None:
    path = f"{place}.tool_calls"
    if not isinstance(value, list):
        raise refusal.wrong_type(path, "an array of tool calls", value)
    for number, each in enumerate(value):
        at = f"{path}[{number}]"
        if not isinstance(each, dict):
            raise refusal.wrong_type(at, "an object", each)
        if each.get("type", "function") != "function":
            raise refusal.wrong_value(f"{at}.type", "must be function")
        function = each.get("function")
        if not isinstance(function, dict):
            raise refusal.wrong_type(f"{at}.function", "an object", function)
        # `index` is what a call pieced together from a stream still carries; `parsed_arguments` is what OpenAI's SDK
        # has read in the arguments.
        _refuse_others(each, ("id", "type", "function", "index", "extra_content"), at)
        _refuse_others(function, ("name", "arguments", "parsed_arguments"), f"{at}.function")
        message.tool_calls.add(
            id=_member(each, "id", at),
            tool=_member(function, "name", f"{at}.function"),
            arguments_json=_member(function, "arguments", f"{at}.function"),
            extra_content_json=_extra_content(each.get("extra_content"), at),
        )


def _extra_content(value: Json, path: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, dict):
        raise refusal.wrong_type(f"{path}.extra_content", "an object", value)
    return json.dump(value)


def _member(value: dict[str, Json], name: str, path: str) -> str:
    member = value.get(name)
    if member is None:
        raise refusal.missing(f"{path}.{name}", "must be given")
    return refusal.text(f"{path}.{name}", member)


def _refuse_others(value: dict[str, Json], known: tuple[str, ...], path: str) -> None:
    for name, member in value.items():
        if name not in known and member is not None:
            raise refusal.unsupported(refusal.place(path, name), "is not taken by this endpoint")


_FIELDS: Final[dict[str, Callable[[message_pb2.Message, Json, str], None]]] = {
    "content": _content,
    "name": _name,
    "tool_calls": _tool_calls,
    "tool_call_id": _tool_call_id,
    "refusal": _refusal,
    "reasoning_content": _reasoning,
}
