"""The body of `POST /v1/chat/completions` to a call of ours, in one pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from kit import json
from kit.errors import Invalid
from kit.json import Json
from services.gateway import domain
from services.gateway.convert import overrides, parameters, refusal
from services.gateway.convert.message import add_messages
from turnout.executor.v1 import execution_pb2
from turnout.executor.v1 import execution_service_pb2 as pb

AGENT: Final = "agent_id"
"""The label under which metadata keep an agent."""
MAX_DIRECT_MESSAGES: Final = 256
"""As many as a configuration may have; the rest are the call's own."""


@dataclass(slots=True)
class Asked:
    """What a body asks for."""

    run: pb.RunRequest = field(default_factory=pb.RunRequest)
    model: str = ""
    """A model that is asked for without a deployment, as the caller wrote it: :func:`make_direct` is then to come."""
    provider: str = ""
    """The provider that the body names for it, if it does so beside the model."""
    is_stream: bool = False
    wants_usage: bool = False
    """Whether a stream ends with its usage."""


def read(body: bytes, *, user_agent: str, max_bytes: int) -> Asked:
    """A call, for the servicer to check further: what our contract bounds is not bounded here again.

    :raises Invalid: naming the first parameter that is malformed, or that no call can set
    """
    value = _parsed(body, max_bytes)
    if not isinstance(value, dict):
        raise refusal.wrong_type("body", "a JSON object", value)
    asked = Asked()
    others: dict[str, Json] | None = None
    for name, given in value.items():
        if given is None:
            continue
        take = FIELDS.get(name)
        if take is not None:
            take(asked, given)
        elif (own := OWN.get(name)) is not None:
            own(asked, given, name)
        else:
            others = others or {}
            others[name] = given
    if others is not None:
        _take_others(asked, others, value)
    run = asked.run
    if not run.deployment and not asked.model:
        raise refusal.missing("model", f"must name a deployment: write `{domain.MODEL_PREFIX}<name>`")
    if asked.provider and not asked.model:
        raise refusal.unsupported("provider", "is the variant's where a deployment is called: leave it out")
    if value.get("stream_options") is not None and not asked.is_stream:
        raise refusal.wrong_value("stream_options", "may be given only where stream is true: leave it out")
    run.source = execution_pb2.SOURCE_SDK if domain.is_sdk(user_agent) else execution_pb2.SOURCE_API
    return asked


def make_direct(asked: Asked, place: domain.Place) -> None:
    """Make it a call of a model without a deployment: what would be laid over one is then its configuration.

    :raises Invalid: `JSON_TOO_LARGE` of metadata
    """
    run = asked.run
    direct = run.direct
    direct.provider, direct.model = place.provider, place.model
    overrides.move_to(direct, run)
    # Templates are the configuration's; of data as much as fits goes there too, so that each keeps its place.
    count = len(run.messages) if run.variables_json else MAX_DIRECT_MESSAGES
    direct.messages.extend(run.messages[:count])
    del run.messages[:count]
    if place.agent:
        labelled = {AGENT: place.agent, **json.parse_object(run.metadata_json, field="metadata")}
        run.metadata_json = json.dump(labelled)


def _take_others(asked: Asked, others: dict[str, Json], body: dict[str, Json]) -> None:
    """All that plain calls do not have."""
    extra: dict[str, Json] = {}
    for name, given in others.items():
        take = overrides.FIELDS.get(name)
        if take is not None:
            take(asked.run, given)
        elif name in parameters.PARAMETERS:
            if (problem := parameters.refusal_of(name, given)) is not None:
                raise problem
        elif (rare := _RARE.get(name)) is not None:
            rare(asked, given, body)
        elif name == "provider" and isinstance(given, str):
            asked.provider = given
        elif name == "reasoning" and overrides.is_reasoning(given):
            overrides.reasoning(asked.run, given)
        elif not parameters.is_neutral(name, given):
            extra[name] = given
    if extra:
        overrides.add_extra(asked.run, extra)


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
    model = refusal.text("model", value)
    if (deployment := domain.deployment_named(model)) is not None:
        asked.run.deployment = deployment
    else:
        asked.model = domain.model_named(model)


def _messages(asked: Asked, value: Json) -> None:
    add_messages(asked.run.messages, value)


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
        raise refusal.wrong_type("metadata", "an object", value)
    if value:
        asked.run.metadata_json = json.dump(value)


def _deployment_id(asked: Asked, value: Json, body: dict[str, Json]) -> None:
    given = refusal.text("deployment_id", value)
    # It wins over the model, which OpenAI's clients cannot leave out.
    asked.run.deployment, asked.model = domain.deployment_named(given) or given, ""


def _agent_id(asked: Asked, value: Json, body: dict[str, Json]) -> None:
    metadata = body.get("metadata")
    given = metadata if isinstance(metadata, dict) else {}
    asked.run.metadata_json = json.dump({**given, AGENT: refusal.text(AGENT, value)})


def _conversation_id(asked: Asked, value: Json, body: dict[str, Json]) -> None:
    if body.get("thread") is not None:
        raise refusal.wrong_value("conversation_id", "must not stand beside thread: give one of them")
    asked.run.thread = refusal.text("conversation_id", value)


def _turnout(asked: Asked, value: Json, body: dict[str, Json]) -> None:
    if not isinstance(value, dict):
        raise refusal.wrong_type("turnout", "an object", value)
    for name, given in value.items():
        path = refusal.place("turnout", name)
        if given is None:
            continue
        own = OWN.get(name)
        if own is None:
            raise refusal.unknown(path)
        if body.get(name) is not None:
            raise refusal.wrong_value(path, f"must not stand beside {name}: give one of them")
        own(asked, given, path)


def _variables(asked: Asked, value: Json, path: str) -> None:
    if not isinstance(value, dict):
        raise refusal.wrong_type(path, "an object", value)
    if asked.run.variables_json:
        raise refusal.wrong_value(path, "must not stand beside its other name: give input or variables, not both")
    asked.run.variables_json = json.dump(value)


def _routing_key(asked: Asked, value: Json, path: str) -> None:
    asked.run.routing_key = refusal.text(path, value)


def _context(asked: Asked, value: Json, path: str) -> None:
    if not isinstance(value, dict):
        raise refusal.wrong_type(path, "an object", value)
    if value:
        asked.run.context_json = json.dump(value)


def _trace_id(asked: Asked, value: Json, path: str) -> None:
    asked.run.trace_id = refusal.text(path, value)


def _mock_response(asked: Asked, value: Json, path: str) -> None:
    asked.run.mock_response = refusal.text(path, value)


def _prefix_messages(asked: Asked, value: Json, path: str) -> None:
    add_messages(asked.run.prefix_messages, value, path)


def _identity(asked: Asked, value: Json, path: str) -> None:
    asked.run.identity.id = _id(path, value)


def _thread(asked: Asked, value: Json, path: str) -> None:
    asked.run.thread = _id(path, value)


def _id(path: str, value: Json) -> str:
    """An id, alone or as the only member of an object."""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise refusal.wrong_type(path, "a string or an object with an id", value)
    for member, given in value.items():
        if member != "id" and given is not None:
            raise refusal.unknown(refusal.place(path, member))
    return refusal.text(f"{path}.id", value.get("id"))


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
}
"""What says which call it is, by its name in OpenAI's body."""

OWN: Final[dict[str, Callable[[Asked, Json, str], None]]] = {
    "input": _variables,
    "variables": _variables,
    "routing_key": _routing_key,
    "context": _context,
    "identity": _identity,
    "thread": _thread,
    "trace_id": _trace_id,
    "mock_response": _mock_response,
    "prefix_messages": _prefix_messages,
}
"""Turnout's own, which OpenAI's SDKs send as `extra_body`: in the body itself, or in its member `turnout`."""

_RARE: Final[dict[str, Callable[[Asked, Json, dict[str, Json]], None]]] = {
    "turnout": _turnout,
    # Of clients that were written for AnotherAI.
    AGENT: _agent_id,
    "conversation_id": _conversation_id,
    "deployment_id": _deployment_id,
}
"""They look at the rest of the body too."""
