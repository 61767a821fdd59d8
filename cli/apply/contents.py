"""Between what a file says and the messages of the contracts, both ways."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

from google.protobuf import json_format

from cli import words
from cli.words import StructuredOutput
from kit.json import Json, dump, parse
from turnout.chat.v1 import message_pb2 as chat_pb
from turnout.registry.v1 import deployment_pb2 as pb
from turnout.registry.v1 import provider_pb2, version_pb2

_JSON_FIELDS: Final = ("tools", "tool_choice", "response_format", "variables_schema")
_TIMEOUTS: Final = ("attempt_timeout", "first_token_timeout", "idle_timeout")


def version(fields: dict[str, Any]) -> version_pb2.Version:
    """What a variant of a file runs, but for a prompt's messages.

    :raises json_format.ParseError: if a part of a message is both text and image, or neither
    """
    proto = version_pb2.Version(provider=fields["provider"], model=fields["model"])
    proto.messages.extend(messages(fields.get("messages", [])))
    for name in _JSON_FIELDS:
        if name in fields and (fields[name] or name != "tools"):
            setattr(proto, f"{name}_json", dump(fields[name]))
    if fields.get("parameters"):
        proto.parameters.CopyFrom(parameters(fields["parameters"]))
    return proto


def parameters(fields: dict[str, Any]) -> version_pb2.Parameters:
    """How a model is asked."""
    proto = version_pb2.Parameters()
    for name, value in fields.items():
        if name == "extra":
            proto.extra_json = dump(value)
        elif name == "stop":
            proto.stop.extend(value)
        else:
            setattr(proto, name, value)
    return proto


def parameters_document(proto: version_pb2.Parameters) -> dict[str, Json]:
    """The inverse of :func:`parameters`."""
    shown: dict[str, Json] = {}
    given = {field.name for field, _ in proto.ListFields()}
    for field in version_pb2.Parameters.DESCRIPTOR.fields:
        value = getattr(proto, field.name)
        if field.name == "extra_json":
            if value:
                shown["extra"] = parse(value, field="extra")
        elif field.name == "stop":
            if value:
                shown["stop"] = list(value)
        elif field.name in given:
            shown[field.name] = plain_number(value) if isinstance(value, float) else value
    return shown


def version_document(proto: version_pb2.Version, *, prompt: str = "") -> dict[str, Json]:
    """The inverse of :func:`version`.

    :param prompt: what it was made from, as `welcome@3`: this stands for its messages and its schema
    """
    shown: dict[str, Json] = {"prompt": prompt} if prompt else {"messages": message_documents(proto.messages)}
    for name in _JSON_FIELDS:
        text = getattr(proto, f"{name}_json")
        if text and not (prompt and name == "variables_schema"):
            shown[name] = parse(text, field=name)
    if given := parameters_document(proto.parameters):
        shown["parameters"] = given
    return {"provider": proto.provider, "model": proto.model, **shown}


def messages(documents: Iterable[Any]) -> list[chat_pb.Message]:
    """:raises json_format.ParseError: as :func:`version`"""
    return [
        json_format.ParseDict({**document, "role": words.ROLES[document["role"]]}, chat_pb.Message())
        for document in documents
    ]


def message_documents(protos: Iterable[chat_pb.Message]) -> list[Json]:
    """The inverse of :func:`messages`."""
    found: list[Json] = []
    for proto in protos:
        shown = json_format.MessageToDict(proto, preserving_proto_field_name=True)
        shown.pop("role", None)
        found.append({"role": words.word(words.ROLES, proto.role), **shown})
    return found


def completion(fields: dict[str, Any], *, prompt: str) -> pb.CompletionVariant:
    """How a variant of a file is served.

    :param prompt: with its number
    """
    proto = pb.CompletionVariant(
        max_retries=fields.get("max_retries", 0),
        fallbacks=map(_fallback, fields.get("fallbacks", ())),
        retry_statuses=sorted(fields.get("retry_statuses", ())),
        output_policy=words.OUTPUT_POLICIES[fields.get("output_policy", "mark")],
    )
    for name in _TIMEOUTS:
        _set_time(proto, name, fields)
    if "version" in fields:
        proto.version = fields["version"]
    else:
        proto.new_version.CopyFrom(version(fields))
        proto.prompt = prompt
    return proto


def _fallback(fields: dict[str, Any]) -> pb.Fallback:
    proto = pb.Fallback(provider=fields["provider"], model=fields["model"], max_retries=fields.get("max_retries", 0))
    if "parameters" in fields:
        # Empty ones are the provider's defaults; absent ones the version's.
        proto.parameters.CopyFrom(parameters(fields["parameters"]))
    _set_time(proto, "attempt_timeout", fields)
    return proto


def _set_time(proto: pb.CompletionVariant | pb.Fallback, name: str, fields: dict[str, Any]) -> None:
    if name in fields:
        getattr(proto, name).FromNanoseconds(round(fields[name] * 1_000_000_000))


def recommendation(fields: dict[str, Any]) -> pb.RecommendationVariant:
    """The same for a trained model."""
    given = fields["recommendation"]
    return pb.RecommendationVariant(
        model=given["model"], unknown_users=words.UNKNOWN_USERS[given.get("unknown_users", "popular")]
    )


def recommendation_document(proto: pb.RecommendationVariant) -> dict[str, Json]:
    """The inverse of :func:`recommendation`."""
    unknown_users = words.word(words.UNKNOWN_USERS, proto.unknown_users or pb.UNKNOWN_USERS_POPULAR)
    return {"model": proto.model, "unknown_users": unknown_users}


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
        shown["recommendation"] = recommendation_document(proto.recommendation)
        return shown
    if content is not None:
        shown |= version_document(content, prompt=proto.completion.prompt)
    return shown | trying(proto.completion)


def trying(proto: pb.CompletionVariant) -> dict[str, Json]:
    """How hard a completion is tried, as files say it."""
    shown: dict[str, Json] = {"max_retries": proto.max_retries} if proto.max_retries else {}
    shown |= _times(proto, _TIMEOUTS)
    if proto.fallbacks:
        shown["fallbacks"] = [_fallback_document(each) for each in proto.fallbacks]
    if proto.retry_statuses:
        shown["retry_statuses"] = list(proto.retry_statuses)
    if proto.output_policy not in (pb.OUTPUT_POLICY_UNSPECIFIED, pb.OUTPUT_POLICY_MARK):
        shown["output_policy"] = words.word(words.OUTPUT_POLICIES, proto.output_policy)
    return shown


def _fallback_document(proto: pb.Fallback) -> dict[str, Json]:
    shown: dict[str, Json] = {"provider": proto.provider, "model": proto.model}
    if proto.HasField("parameters"):
        shown["parameters"] = parameters_document(proto.parameters)
    if proto.max_retries:
        shown["max_retries"] = proto.max_retries
    return shown | _times(proto, ("attempt_timeout",))


def _times(proto: pb.CompletionVariant | pb.Fallback, names: Iterable[str]) -> dict[str, Json]:
    given = {field.name: value for field, value in proto.ListFields() if field.name in names}
    return {name: f"{(Decimal(given[name].ToNanoseconds()) / 1_000_000_000).normalize():f}s" for name in given}


def model_facts(documents: Iterable[dict[str, Any]]) -> list[provider_pb2.ModelFacts]:
    """What is known of a provider's models."""
    return [_model_facts(**fields) for fields in documents]


def _model_facts(structured_output: StructuredOutput | None = None, **fields: Any) -> provider_pb2.ModelFacts:
    facts = provider_pb2.ModelFacts(**fields)
    if structured_output is not None:
        facts.structured_output = words.STRUCTURED_OUTPUTS[structured_output]
    return facts


def model_facts_documents(protos: Iterable[provider_pb2.ModelFacts]) -> list[Json]:
    """The inverse of :func:`model_facts`."""
    return [_model_facts_document(proto) for proto in protos]


def _model_facts_document(proto: provider_pb2.ModelFacts) -> Json:
    shown: dict[str, Json] = {field.name: value for field, value in proto.ListFields()}
    if proto.structured_output:
        shown["structured_output"] = words.word(words.STRUCTURED_OUTPUTS, proto.structured_output)
    return shown


def plain_number(value: float) -> int | float:
    """`90` for 90.0."""
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
