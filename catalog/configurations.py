"""Messages and completion configurations, as contracts say them and as `completions` knows them."""

from __future__ import annotations

from typing import Final

import orjson

from completions.chat import ImagePart, Message, Part, Role, TextPart, ToolCall
from completions.version import Parameters, Version
from kit.errors import Invalid, Violation
from kit.json import Json, dump, parse, parse_object
from turnout.chat.v1 import message_pb2
from turnout.registry.v1 import version_pb2

_ROLES: Final = {
    message_pb2.ROLE_SYSTEM: Role.SYSTEM,
    message_pb2.ROLE_DEVELOPER: Role.DEVELOPER,
    message_pb2.ROLE_USER: Role.USER,
    message_pb2.ROLE_ASSISTANT: Role.ASSISTANT,
    message_pb2.ROLE_TOOL: Role.TOOL,
}
_ROLES_TO_PROTO: Final = {role: number for number, role in _ROLES.items()}
_OPTIONAL_NUMBERS: Final = (
    "temperature",
    "top_p",
    "top_k",
    "max_output_tokens",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "parallel_tool_calls",
    "reasoning_budget_tokens",
)


def message_from_proto(message: message_pb2.Message) -> Message:
    """A message that keeps the contract's rules."""
    return Message(
        role=_ROLES[message.role],
        content=message.content,
        parts=tuple([_part(part) for part in message.parts]),
        name=message.name,
        tool_calls=tuple([_tool_call(call) for call in message.tool_calls]),
        tool_call_id=message.tool_call_id,
        reasoning=message.reasoning,
    )


def _tool_call(call: message_pb2.ToolCall) -> ToolCall:
    return ToolCall(call.id, call.tool, call.arguments_json, call.extra_content_json)


def fill_message(proto: message_pb2.Message, message: Message) -> None:
    """The inverse of :func:`message_from_proto`, in place: a message made apart would be copied when it is set."""
    proto.role = _ROLES_TO_PROTO[message.role]
    proto.content = message.content
    proto.name = message.name
    proto.tool_call_id = message.tool_call_id
    proto.reasoning = message.reasoning
    for part in message.parts:
        if isinstance(part, TextPart):
            proto.parts.add(text=part.text)
        else:
            proto.parts.add(image=message_pb2.Image(url=part.url, detail=part.detail))
    for call in message.tool_calls:
        proto.tool_calls.add(
            id=call.id,
            tool=call.name,
            arguments_json=call.arguments_json,
            extra_content_json=call.extra_content_json,
        )


def version_from_proto(version: version_pb2.Version, *, field: str) -> Version:
    """A configuration as somebody wrote it, who may be anybody; output-only fields are ignored.

    :param field: its path in the request, for violations
    :raises Invalid: `MESSAGE_AMBIGUOUS`; `JSON_…` as `kit.json` says; `JSON_OF_WRONG_KIND`
    """
    for index, message in enumerate(version.messages):
        if message.content and message.parts:
            path = f"{field}.messages[{index}].content"
            raise _wrong("MESSAGE_AMBIGUOUS", path, "must be empty when parts are given")
    return Version(
        provider=version.provider,
        model=version.model,
        messages=tuple(map(message_from_proto, version.messages)),
        parameters=parameters_from_proto(version.parameters, field=f"{field}.parameters"),
        tools=tools_from_text(version.tools_json, field=f"{field}.tools_json") or [],
        tool_choice=tool_choice_from_text(version.tool_choice_json, field=f"{field}.tool_choice_json"),
        response_format=object_from_text(version.response_format_json, field=f"{field}.response_format_json"),
        variables_schema=object_from_text(version.variables_schema_json, field=f"{field}.variables_schema_json"),
    )


def version_from_packed(packed: bytes) -> Version:
    """A configuration that was checked when it was packed, as the catalog keeps it."""
    version = version_pb2.Version.FromString(packed)
    return Version(
        provider=version.provider,
        model=version.model,
        messages=tuple(map(message_from_proto, version.messages)),
        parameters=_parameters(version.parameters, _loaded(version.parameters.extra_json) or {}),
        tools=orjson.loads(version.tools_json or "[]"),
        tool_choice=_loaded(version.tool_choice_json),
        response_format=_loaded(version.response_format_json),
        variables_schema=_loaded(version.variables_schema_json),
    )


def version_to_proto(version: Version, *, uid: str = "", provider: str = "") -> version_pb2.Version:
    """The configuration, without what the registry adds.

    :param uid: its id, where the reader wants it
    :param provider: the slug or the uid, as the reader needs it; empty for the version's own word
    """
    proto = version_pb2.Version(
        uid=uid,
        provider=provider or version.provider,
        model=version.model,
        parameters=None if version.parameters == Parameters() else parameters_to_proto(version.parameters),
        tools_json=dump(version.tools) if version.tools else "",
        tool_choice_json="" if version.tool_choice is None else dump(version.tool_choice),
        response_format_json="" if version.response_format is None else dump(version.response_format),
        variables_schema_json="" if version.variables_schema is None else dump(version.variables_schema),
    )
    for message in version.messages:
        fill_message(proto.messages.add(), message)
    return proto


def parameters_from_proto(given: version_pb2.Parameters, *, field: str) -> Parameters:
    """Parameters as somebody wrote them.

    :raises Invalid: `JSON_…` as `kit.json` says
    """
    return _parameters(given, parse_object(given.extra_json, field=f"{field}.extra_json"))


def parameters_from_packed(packed: bytes) -> Parameters:
    """Parameters that were checked when they were packed."""
    given = version_pb2.Parameters.FromString(packed)
    return _parameters(given, _loaded(given.extra_json) or {})


def parameters_to_proto(parameters: Parameters) -> version_pb2.Parameters:
    """The inverse of :func:`parameters_from_proto`."""
    proto = version_pb2.Parameters(
        stop=parameters.stop,
        reasoning_effort=parameters.reasoning_effort or "",
        extra_json=dump(parameters.extra) if parameters.extra else "",
    )
    for name in _OPTIONAL_NUMBERS:
        if (value := getattr(parameters, name)) is not None:
            setattr(proto, name, value)
    return proto


def tools_from_text(text: str, *, field: str) -> list[Json] | None:
    """None for the empty text.

    :raises Invalid: as :func:`version_from_proto`
    """
    value = parse(text, field=field) if text else None
    if value is not None and not isinstance(value, list):
        raise _wrong("JSON_OF_WRONG_KIND", field, "must be a JSON list")
    return value


def tool_choice_from_text(text: str, *, field: str) -> str | dict[str, Json] | None:
    """As :func:`tools_from_text`."""
    value = parse(text, field=field) if text else None
    if value is not None and not isinstance(value, (str, dict)):
        raise _wrong("JSON_OF_WRONG_KIND", field, "must be a JSON string or object")
    return value


def object_from_text(text: str, *, field: str) -> dict[str, Json] | None:
    """As :func:`tools_from_text`."""
    return parse_object(text, field=field) if text else None


def _part(part: message_pb2.Part) -> Part:
    if part.WhichOneof("kind") == "image":
        return ImagePart(part.image.url, part.image.detail)
    return TextPart(part.text)


def _parameters(given: version_pb2.Parameters, extra: dict[str, Json]) -> Parameters:
    return Parameters(
        stop=tuple(given.stop),
        reasoning_effort=given.reasoning_effort or None,
        extra=extra,
        **{name: getattr(given, name) for name in _OPTIONAL_NUMBERS if given.HasField(name)},
    )


def _loaded(text: str) -> dict[str, Json] | None:
    loaded: dict[str, Json] | None = orjson.loads(text) if text else None
    return loaded


def _wrong(reason: str, field: str, message: str) -> Invalid:
    return Invalid(f"{field} {message}", reason=reason, violations=(Violation(field, message),))
