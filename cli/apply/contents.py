"""Between what a file says and the messages of the contracts, both ways."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

from google.protobuf import json_format

from kit.json import Json, dump, parse
from turnout.chat.v1 import message_pb2 as chat_pb
from turnout.registry.v1 import deployment_pb2 as pb
from turnout.registry.v1 import version_pb2

_JSON_FIELDS: Final = ("tools", "tool_choice", "response_format", "variables_schema")
_UNKNOWN_USERS: Final = {"popular": pb.UNKNOWN_USERS_POPULAR, "refuse": pb.UNKNOWN_USERS_REFUSE}


def version(fields: dict[str, Any]) -> version_pb2.Version:
    """What a variant of a file runs, but for a prompt's messages.

    :raises json_format.ParseError: if a part of a message is both text and image, or neither
    """
    proto = version_pb2.Version(provider=fields["provider"], model=fields["model"])
    proto.messages.extend(messages(fields.get("messages", [])))
    for name in _JSON_FIELDS:
        if name in fields and (fields[name] or name != "tools"):
            setattr(proto, f"{name}_json", dump(fields[name]))
    for name, value in fields.get("parameters", {}).items():
        if name == "extra":
            proto.parameters.extra_json = dump(value)
        elif name == "stop":
            proto.parameters.stop.extend(value)
        else:
            setattr(proto.parameters, name, value)
    return proto


def version_document(proto: version_pb2.Version, *, prompt: str = "") -> dict[str, Json]:
    """The inverse of :func:`version`.

    :param prompt: what it was made from, as `welcome@3`: this stands for its messages and its schema
    """
    shown: dict[str, Json] = {"prompt": prompt} if prompt else {"messages": message_documents(proto.messages)}
    for name in _JSON_FIELDS:
        text = getattr(proto, f"{name}_json")
        if text and not (prompt and name == "variables_schema"):
            shown[name] = parse(text, field=name)
    parameters: dict[str, Json] = {}
    given = {field.name for field, _ in proto.parameters.ListFields()}
    for field in version_pb2.Parameters.DESCRIPTOR.fields:
        value = getattr(proto.parameters, field.name)
        if field.name == "extra_json":
            if value:
                parameters["extra"] = parse(value, field="extra")
        elif field.name == "stop":
            if value:
                parameters["stop"] = list(value)
        elif field.name in given:
            parameters[field.name] = plain_number(value) if isinstance(value, float) else value
    if parameters:
        shown["parameters"] = parameters
    return {"provider": proto.provider, "model": proto.model, **shown}


def messages(documents: Iterable[Any]) -> list[chat_pb.Message]:
    """:raises json_format.ParseError: as :func:`version`"""
    return [
        json_format.ParseDict({**document, "role": f"ROLE_{document['role'].upper()}"}, chat_pb.Message())
        for document in documents
    ]


def message_documents(protos: Iterable[chat_pb.Message]) -> list[Json]:
    """The inverse of :func:`messages`."""
    found: list[Json] = []
    for proto in protos:
        shown = json_format.MessageToDict(proto, preserving_proto_field_name=True)
        shown.pop("role", None)
        found.append({"role": chat_pb.Role.Name(proto.role).removeprefix("ROLE_").lower(), **shown})
    return found


def completion(fields: dict[str, Any], *, prompt: str) -> pb.CompletionVariant:
    """How a variant of a file is served.

    :param prompt: with its number
    """
    proto = pb.CompletionVariant(max_retries=fields.get("max_retries", 0))
    if "attempt_timeout" in fields:
        proto.attempt_timeout.FromNanoseconds(round(fields["attempt_timeout"] * 1_000_000_000))
    if "version" in fields:
        proto.version = fields["version"]
    else:
        proto.new_version.CopyFrom(version(fields))
        proto.prompt = prompt
    return proto


def recommendation(fields: dict[str, Any]) -> pb.RecommendationVariant:
    """The same for a trained model."""
    given = fields["recommendation"]
    return pb.RecommendationVariant(
        model=given["model"], unknown_users=_UNKNOWN_USERS[given.get("unknown_users", "popular")]
    )


def variant(fields: dict[str, Any], *, name: str, prompt: str) -> pb.Variant:
    """A whole variant of a file.

    :param name: the one under which the file has it, which is its display name if it has no other
    """
    proto = pb.Variant(
        display_name=fields.get("display_name") or name,
        notes=fields.get("notes", ""),
        active=fields.get("active"),
        weight=fields.get("weight"),
    )
    if "recommendation" in fields:
        proto.recommendation.CopyFrom(recommendation(fields))
    else:
        proto.completion.CopyFrom(completion(fields, prompt=prompt))
    return proto


def variant_document(proto: pb.Variant, content: version_pb2.Version | None) -> dict[str, Json]:
    """What a file that has it under its slug would say of a variant.

    :param content: its version
    """
    shown: dict[str, Json] = {} if proto.display_name == proto.slug else {"display_name": proto.display_name}
    if proto.notes:
        shown["notes"] = proto.notes
    shown["weight"] = plain_number(proto.weight)
    if not proto.active:
        shown["active"] = False
    if proto.HasField("recommendation"):
        users = {number: word for word, number in _UNKNOWN_USERS.items()}
        shown["recommendation"] = {
            "model": proto.recommendation.model,
            "unknown_users": users.get(proto.recommendation.unknown_users, "popular"),
        }
        return shown
    if content is not None:
        shown |= version_document(content, prompt=proto.completion.prompt)
    return shown | trying(proto.completion)


def trying(proto: pb.CompletionVariant) -> dict[str, Json]:
    """How hard a completion is tried, as files say it."""
    shown: dict[str, Json] = {"max_retries": proto.max_retries} if proto.max_retries else {}
    if proto.HasField("attempt_timeout"):
        seconds = Decimal(proto.attempt_timeout.ToNanoseconds()) / 1_000_000_000
        shown["attempt_timeout"] = f"{seconds.normalize():f}s"
    return shown


def plain_number(value: float) -> int | float:
    """`90` for 90.0."""
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
