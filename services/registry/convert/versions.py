"""Completion configurations."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from completions.chat import ImagePart, Message, Part, Role, TextPart, ToolCall
from completions.version import Parameters
from completions.version import Version as Content
from kit.errors import Invalid
from kit.json import Json, dump, parse, parse_object
from services.registry.domain import Version, violated
from turnout.chat.v1 import message_pb2 as chat_pb
from turnout.registry.v1 import version_pb2 as pb

_ROLES: Final = {
    chat_pb.ROLE_SYSTEM: Role.SYSTEM,
    chat_pb.ROLE_DEVELOPER: Role.DEVELOPER,
    chat_pb.ROLE_USER: Role.USER,
    chat_pb.ROLE_ASSISTANT: Role.ASSISTANT,
    chat_pb.ROLE_TOOL: Role.TOOL,
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


def content_from_proto(version: pb.Version, *, field: str) -> Content:
    """What a caller gives; output-only fields are ignored.

    :param field: path of the version in the request, for violations
    :raises Invalid: for JSON that is none, or not of the kind that its field takes
    """
    return Content(
        provider=version.provider,
        model=version.model,
        messages=tuple(_message(message, f"{field}.messages[{i}]") for i, message in enumerate(version.messages)),
        parameters=parameters_from_proto(version.parameters, f"{field}.parameters"),
        tools=_list(version.tools_json, f"{field}.tools_json"),
        tool_choice=_tool_choice(version.tool_choice_json, f"{field}.tool_choice_json"),
        response_format=_optional_object(version.response_format_json, f"{field}.response_format_json"),
        variables_schema=_optional_object(version.variables_schema_json, f"{field}.variables_schema_json"),
    )


def content_to_proto(content: Content, *, provider: str) -> pb.Version:
    """The configuration without what the registry adds.

    :param provider: the slug or the uid, as the reader needs it
    """
    return pb.Version(
        provider=provider,
        model=content.model,
        messages=[_message_to_proto(message) for message in content.messages],
        parameters=None if content.parameters == Parameters() else parameters_to_proto(content.parameters),
        tools_json=dump(content.tools) if content.tools else "",
        tool_choice_json="" if content.tool_choice is None else dump(content.tool_choice),
        response_format_json="" if content.response_format is None else dump(content.response_format),
        variables_schema_json="" if content.variables_schema is None else dump(content.variables_schema),
    )


def version_to_proto(version: Version, expires_at: datetime | None = None) -> pb.Version:
    """As callers see it."""
    proto = _identified(content_to_proto(version.content, provider=version.content.provider), version)
    if expires_at is not None:
        proto.expire_time.FromDatetime(expires_at)
    return proto


def catalog_version(version: Version) -> pb.Version:
    """As other services see it: the provider by uid, which never needs a look-up by project."""
    return _identified(content_to_proto(version.content, provider=version.provider), version)


def _identified(proto: pb.Version, version: Version) -> pb.Version:
    proto.name, proto.uid = version.name, version.uid
    proto.create_time.FromDatetime(version.created_at)
    return proto


def pack_content(content: Content) -> bytes:
    """As the store keeps it."""
    return content_to_proto(content, provider=content.provider).SerializeToString(deterministic=True)


def unpack_content(packed: bytes) -> Content:
    """The inverse of :func:`pack_content`."""
    return content_from_proto(pb.Version.FromString(packed), field="version")


def model_of_content(packed: bytes) -> str:
    """The provider's name for the model, of what :func:`pack_content` made."""
    return pb.Version.FromString(packed).model


def _message(message: chat_pb.Message, field: str) -> Message:
    parts = tuple(_part(part) for part in message.parts)
    if message.content and parts:
        raise violated("MESSAGE_AMBIGUOUS", f"{field}.content", "must be empty when parts are given")
    return Message(
        role=_ROLES[message.role],
        content=message.content,
        parts=parts,
        name=message.name,
        tool_calls=tuple(ToolCall(call.id, call.tool, call.arguments_json) for call in message.tool_calls),
        tool_call_id=message.tool_call_id,
        reasoning=message.reasoning,
    )


def _part(part: chat_pb.Part) -> Part:
    if part.WhichOneof("kind") == "image":
        return ImagePart(part.image.url, part.image.detail)
    return TextPart(part.text)


def _message_to_proto(message: Message) -> chat_pb.Message:
    return chat_pb.Message(
        role=_ROLES_TO_PROTO[message.role],
        content=message.content,
        parts=[
            chat_pb.Part(text=part.text)
            if isinstance(part, TextPart)
            else chat_pb.Part(image=chat_pb.Image(url=part.url, detail=part.detail))
            for part in message.parts
        ],
        name=message.name,
        tool_calls=[
            chat_pb.ToolCall(id=call.id, tool=call.name, arguments_json=call.arguments_json)
            for call in message.tool_calls
        ],
        tool_call_id=message.tool_call_id,
        reasoning=message.reasoning,
    )


def parameters_from_proto(parameters: pb.Parameters, field: str) -> Parameters:
    """:raises Invalid: for extra parameters that are no JSON object"""
    given = {name: getattr(parameters, name) for name in _OPTIONAL_NUMBERS if parameters.HasField(name)}
    return Parameters(
        stop=tuple(parameters.stop),
        reasoning_effort=parameters.reasoning_effort or None,
        extra=parse_object(parameters.extra_json, field=f"{field}.extra_json"),
        **given,
    )


def parameters_to_proto(parameters: Parameters) -> pb.Parameters:
    """The inverse of :func:`parameters_from_proto`."""
    proto = pb.Parameters(
        stop=parameters.stop,
        reasoning_effort=parameters.reasoning_effort or "",
        extra_json=dump(parameters.extra) if parameters.extra else "",
    )
    for name in _OPTIONAL_NUMBERS:
        if (value := getattr(parameters, name)) is not None:
            setattr(proto, name, value)
    return proto


def _list(text: str, field: str) -> list[Json]:
    value = parse(text, field=field) if text else []
    if not isinstance(value, list):
        raise _not_a(field, "list")
    return value


def _tool_choice(text: str, field: str) -> str | dict[str, Json] | None:
    value = parse(text, field=field) if text else None
    if value is not None and not isinstance(value, (str, dict)):
        raise _not_a(field, "string or object")
    return value


def _optional_object(text: str, field: str) -> dict[str, Json] | None:
    return parse_object(text, field=field) if text else None


def _not_a(field: str, kind: str) -> Invalid:
    return violated("JSON_OF_WRONG_KIND", field, f"must be a JSON {kind}")
