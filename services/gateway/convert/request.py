"""The body of `POST /v1/chat/completions` to a call of ours, in one pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from kit import json
from kit.errors import Invalid
from kit.json import Json
from services.gateway import domain
from services.gateway.convert import parameters, refusal
from services.gateway.convert.message import add_messages
from turnout.executor.v1 import execution_pb2
from turnout.executor.v1 import execution_service_pb2 as pb


@dataclass(slots=True)
class Asked:
    """What a body asks for."""

    run: pb.RunRequest = field(default_factory=pb.RunRequest)
    is_stream: bool = False
    wants_usage: bool = False
    """Whether a stream ends with its usage."""


def read(body: bytes, *, user_agent: str, max_bytes: int) -> Asked:
    """A call, for the servicer to check further: what our contract bounds is not bounded here again.

    :raises Invalid: naming the first parameter that is malformed, unknown, or not a call's to set
    :raises NotFound: `MODEL_NOT_FOUND`
    """
    value = _parsed(body, max_bytes)
    if not isinstance(value, dict):
        raise refusal.wrong_type("body", "a JSON object", value)
    asked = Asked()
    for name, given in value.items():
        if given is None:
            continue
        take = FIELDS.get(name)
        if take is not None:
            take(asked, given)
        elif (problem := parameters.refusal_of(name, given)) is not None:
            raise problem
    run = asked.run
    if not run.deployment:
        raise refusal.missing("model", f"must name a deployment: write `{domain.MODEL_PREFIX}<name>`")
    if value.get("stream_options") is not None and not asked.is_stream:
        raise refusal.wrong_value("stream_options", "may be given only where stream is true: leave it out")
    run.source = execution_pb2.SOURCE_SDK if domain.is_sdk(user_agent) else execution_pb2.SOURCE_API
    return asked


def _parsed(body: bytes, max_bytes: int) -> Json:
    try:
        return json.parse(body, field="body", max_bytes=max_bytes)
    except Invalid as refused:
        if refused.reason != "JSON_MALFORMED":
            raise
        try:
            body.decode()
        except UnicodeDecodeError as error:
            # The parser tells this in words of Python, and at the wrong place.
            raise refusal.malformed("body", f"is not UTF-8 from byte {error.start} on (the first is 0)") from None
        raise


def _model(asked: Asked, value: Json) -> None:
    asked.run.deployment = domain.deployment_of(refusal.text("model", value))


def _messages(asked: Asked, value: Json) -> None:
    add_messages(asked.run, value)


def _stream(asked: Asked, value: Json) -> None:
    asked.is_stream = _boolean("stream", value)


def _stream_options(asked: Asked, value: Json) -> None:
    if not isinstance(value, dict):
        raise refusal.wrong_type("stream_options", "an object", value)
    for name, given in value.items():
        path = refusal.place("stream_options", name)
        if given is None:
            continue
        if name == "include_usage":
            asked.wants_usage = _boolean(path, given)
        elif name != "include_obfuscation":
            raise refusal.unknown(path)
        elif _boolean(path, given):
            raise refusal.unsupported(path, "is not offered by this endpoint: leave it out")


def _user(asked: Asked, value: Json) -> None:
    asked.run.user = refusal.text("user", value)


def _metadata(asked: Asked, value: Json) -> None:
    if not isinstance(value, dict):
        raise refusal.wrong_type("metadata", "an object of strings", value)
    for name, given in value.items():
        if not isinstance(given, str):
            raise refusal.wrong_type(refusal.place("metadata", name), "a string", given)
    if value:
        asked.run.metadata_json = json.dump(value)


def _input(asked: Asked, value: Json) -> None:
    _take_variables(asked, "input", value)


def _variables(asked: Asked, value: Json) -> None:
    _take_variables(asked, "variables", value)


def _take_variables(asked: Asked, name: str, value: Json) -> None:
    if not isinstance(value, dict):
        raise refusal.wrong_type(name, "an object", value)
    if asked.run.variables_json:
        raise refusal.wrong_value(name, "must not stand beside its other name: give input or variables, not both")
    asked.run.variables_json = json.dump(value)


def _routing_key(asked: Asked, value: Json) -> None:
    asked.run.routing_key = refusal.text("routing_key", value)


def _trace_id(asked: Asked, value: Json) -> None:
    asked.run.trace_id = refusal.text("trace_id", value)


def _identity(asked: Asked, value: Json) -> None:
    asked.run.identity.id = _id("identity", value)


def _thread(asked: Asked, value: Json) -> None:
    asked.run.thread = _id("thread", value)


def _id(name: str, value: Json) -> str:
    """An id, alone or as the only member of an object."""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise refusal.wrong_type(name, "a string or an object with an id", value)
    for member, given in value.items():
        if member != "id" and given is not None:
            raise refusal.unknown(refusal.place(name, member))
    return refusal.text(f"{name}.id", value.get("id"))


def _boolean(path: str, value: Json) -> bool:
    if not isinstance(value, bool):
        raise refusal.wrong_type(path, "a boolean", value)
    return value


FIELDS: Final[dict[str, Callable[[Asked, Json], None]]] = {
    "model": _model,
    "messages": _messages,
    "stream": _stream,
    "stream_options": _stream_options,
    "user": _user,
    "metadata": _metadata,
    # Turnout's own, which OpenAI's SDKs send as `extra_body`:
    "input": _input,
    "variables": _variables,
    "routing_key": _routing_key,
    "identity": _identity,
    "thread": _thread,
    "trace_id": _trace_id,
}
"""What a call may set, by its name in the body."""
