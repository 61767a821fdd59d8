"""Contracts to domain and back. Pure."""

from __future__ import annotations

from typing import Final

import orjson

from catalog.convert import DEPLOYMENT_KINDS_TO_PROTO, fill_decision
from completions.chat import ImagePart, Message, Part, Role, TextPart, ToolCall
from completions.version import Parameters, Version
from kit.events.pieces import Pieces
from kit.json import Json
from services.executor.domain import Attempt, Delta, FinishReason, Run, RunCall, Source, Started, Status, Usage
from turnout.chat.v1 import message_pb2
from turnout.events.v1 import request_pb2
from turnout.executor.v1 import execution_pb2, execution_service_pb2
from turnout.registry.v1 import version_pb2

SDK_MARK: Final = "turnout-"
"""Turnout's own client libraries name themselves `turnout-<language>/<version>` in the user agent."""

_ROLES: Final = {
    message_pb2.ROLE_SYSTEM: Role.SYSTEM,
    message_pb2.ROLE_DEVELOPER: Role.DEVELOPER,
    message_pb2.ROLE_USER: Role.USER,
    message_pb2.ROLE_ASSISTANT: Role.ASSISTANT,
    message_pb2.ROLE_TOOL: Role.TOOL,
}
_ROLES_TO_PROTO: Final = {role: number for number, role in _ROLES.items()}
_FINISH_REASONS: Final = {
    None: message_pb2.FINISH_REASON_UNSPECIFIED,
    FinishReason.STOP: message_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: message_pb2.FINISH_REASON_LENGTH,
    FinishReason.TOOL_CALLS: message_pb2.FINISH_REASON_TOOL_CALLS,
    FinishReason.CONTENT_FILTER: message_pb2.FINISH_REASON_CONTENT_FILTER,
    FinishReason.OTHER: message_pb2.FINISH_REASON_OTHER,
}
_SOURCES: Final = {execution_pb2.SOURCE_API: Source.API, execution_pb2.SOURCE_SDK: Source.SDK}
_SOURCES_TO_PROTO: Final = {source: number for number, source in _SOURCES.items()}
_STATUSES: Final = {
    Status.OK: request_pb2.REQUEST_STATUS_OK,
    Status.ERROR: request_pb2.REQUEST_STATUS_ERROR,
    Status.CANCELLED: request_pb2.REQUEST_STATUS_CANCELLED,
    Status.LOST: request_pb2.REQUEST_STATUS_LOST,
}


def run_call_from_proto(
    request: execution_service_pb2.RunRequest,
    *,
    user_agent: str,
    tenant: str,
    key_id: str,
    trace_id: str,
    deadline: float,
    is_streamed: bool = False,
) -> RunCall:
    """A call and who makes it."""
    return RunCall(
        deployment=request.deployment,
        variables_json=request.variables_json,
        messages=tuple([message_from_proto(message) for message in request.messages]),
        routing_key=request.routing_key,
        identity=request.identity.id,
        thread=request.thread,
        user=request.user,
        metadata_json=request.metadata_json,
        caller_trace_id=request.trace_id,
        source=_SOURCES.get(request.source) or (Source.SDK if SDK_MARK in user_agent else Source.API),
        tenant=tenant,
        key_id=key_id,
        trace_id=trace_id,
        deadline=deadline,
        is_streamed=is_streamed,
    )


def message_from_proto(message: message_pb2.Message) -> Message:
    """A message that keeps the contract's rules."""
    return Message(
        role=_ROLES[message.role],
        content=message.content,
        parts=tuple([_part_from_proto(part) for part in message.parts]),
        name=message.name,
        tool_calls=tuple([ToolCall(call.id, call.tool, call.arguments_json) for call in message.tool_calls]),
        tool_call_id=message.tool_call_id,
        reasoning=message.reasoning,
    )


def _part_from_proto(part: message_pb2.Part) -> Part:
    if part.WhichOneof("kind") == "image":
        return ImagePart(part.image.url, part.image.detail)
    return TextPart(part.text)


def version_from_packed(packed: bytes) -> Version:
    """A version as the catalog keeps it; its provider is a uid. The registry has validated it."""
    version = version_pb2.Version.FromString(packed)
    return Version(
        provider=version.provider,
        model=version.model,
        messages=tuple(message_from_proto(message) for message in version.messages),
        parameters=_parameters(version.parameters),
        tools=orjson.loads(version.tools_json or "[]"),
        tool_choice=_loaded(version.tool_choice_json),
        response_format=_loaded(version.response_format_json),
        variables_schema=_loaded(version.variables_schema_json),
    )


def _loaded(text: str) -> dict[str, Json] | None:
    loaded: dict[str, Json] | None = orjson.loads(text) if text else None
    return loaded


def _parameters(given: version_pb2.Parameters) -> Parameters:
    return Parameters(
        temperature=given.temperature if given.HasField("temperature") else None,
        top_p=given.top_p if given.HasField("top_p") else None,
        top_k=given.top_k if given.HasField("top_k") else None,
        max_output_tokens=given.max_output_tokens if given.HasField("max_output_tokens") else None,
        presence_penalty=given.presence_penalty if given.HasField("presence_penalty") else None,
        frequency_penalty=given.frequency_penalty if given.HasField("frequency_penalty") else None,
        stop=tuple(given.stop),
        seed=given.seed if given.HasField("seed") else None,
        parallel_tool_calls=given.parallel_tool_calls if given.HasField("parallel_tool_calls") else None,
        reasoning_effort=given.reasoning_effort or None,
        reasoning_budget_tokens=given.reasoning_budget_tokens if given.HasField("reasoning_budget_tokens") else None,
        extra=_loaded(given.extra_json) or {},
    )


def run_to_proto(run: Run) -> execution_service_pb2.RunResponse:
    """The answer to a call that got one."""
    response = execution_service_pb2.RunResponse(
        request_id=run.request_id,
        provider=run.provider,
        version=run.version,
        attempts=[_attempt_to_proto(attempt) for attempt in run.attempts],
        latency_us=run.latency_us,
    )
    if run.decision is not None:
        fill_decision(response.decision, run.decision)
    if run.answer is not None:
        _fill_message(response.message, run.answer.message)
        response.finish_reason = _FINISH_REASONS[run.answer.finish_reason]
        _fill_usage(response.usage, run.answer.usage)
        response.model = run.answer.model
    if run.cost_usd_micros is not None:
        response.cost_usd_micros = run.cost_usd_micros
    return response


def stream_event_to_proto(run: Run, piece: Started | Delta | None) -> execution_service_pb2.RunStreamResponse:
    """One event of a streamed answer; None is its end."""
    response = execution_service_pb2.RunStreamResponse()
    if piece is None:
        _fill_ended(response.ended, run)
    elif isinstance(piece, Delta):
        response.delta.content = piece.content
        response.delta.reasoning = piece.reasoning
        for call in piece.tool_calls:
            response.delta.tool_calls.add(
                index=call.index, id=call.id, tool=call.tool, arguments_json=call.arguments_json
            )
    else:
        started = response.started
        started.request_id, started.version = run.request_id, run.version
        started.provider, started.model = run.provider, piece.model
        if run.decision is not None:
            fill_decision(started.decision, run.decision)
    return response


def _fill_ended(ended: execution_service_pb2.RunEnded, run: Run) -> None:
    if run.answer is not None:
        ended.finish_reason = _FINISH_REASONS[run.answer.finish_reason]
        ended.usage.SetInParent()
        _fill_usage(ended.usage, run.answer.usage)
    if run.cost_usd_micros is not None:
        ended.cost_usd_micros = run.cost_usd_micros
    for attempt in run.attempts:
        ended.attempts.append(_attempt_to_proto(attempt))
    ended.latency_us = run.latency_us
    ended.time_to_first_token_us = run.time_to_first_token_us or 0


def start_to_proto(run: Run, *, service_instance: str) -> request_pb2.RequestServed:
    """What is recorded if nothing more is heard of a call: all that is known now, with the status LOST."""
    call = run.call
    event = request_pb2.RequestServed(
        request_id=run.request_id,
        project=run.project.uid,
        project_slug=run.project.slug,
        deployment_slug=run.target.deployment.slug,
        status=request_pb2.REQUEST_STATUS_LOST,
        provider=run.provider,
        model=run.model,
        version=run.version,
        source=_SOURCES_TO_PROTO[call.source],
        api_key=call.key_id,
        identity=call.identity,
        thread=call.thread,
        metadata_json=call.metadata_json,
        caller_trace_id=call.caller_trace_id,
        trace_id=call.trace_id,
        service_instance=service_instance,
        kind=DEPLOYMENT_KINDS_TO_PROTO[run.target.deployment.kind],
        user=call.user,
        streamed=call.is_streamed,
    )
    event.start_time.seconds, event.start_time.nanos = divmod(run.start_unix_ns, 1_000_000_000)
    if run.decision is not None:
        fill_decision(event.decision, run.decision)
    return event


def fill_end(event: request_pb2.RequestServed, run: Run, *, payload_shed: bool) -> None:
    """Add to a start what is known at the end."""
    event.status = _STATUSES[run.status]
    event.reason = run.reason
    event.latency_us = run.latency_us
    event.payload_shed = payload_shed
    for attempt in run.attempts:
        event.attempts.append(_attempt_to_proto(attempt))
    if run.answer is not None:
        if run.decision is not None:
            event.served_variant = run.decision.variant.uid
        _fill_usage(event.usage, run.answer.usage)
        event.finish_reason = _FINISH_REASONS[run.answer.finish_reason]
    if run.cost_usd_micros is not None:
        event.cost_usd_micros = run.cost_usd_micros
    if run.time_to_first_token_us is not None:
        event.time_to_first_token_us = run.time_to_first_token_us


def payload_to_proto(run: Run, payload: Pieces) -> list[request_pb2.RequestPayload]:
    """The pieces of what was said in a call."""
    return [
        request_pb2.RequestPayload(
            request_id=run.request_id,
            project=run.project.uid,
            index=index,
            count=len(payload.pieces),
            data=piece,
            truncated=payload.truncated,
        )
        for index, piece in enumerate(payload.pieces)
    ]


def _attempt_to_proto(attempt: Attempt) -> execution_pb2.Attempt:
    return execution_pb2.Attempt(
        provider=attempt.provider,
        model=attempt.model,
        http_status=attempt.http_status,
        reason=attempt.reason,
        message=attempt.message,
        start_offset_us=attempt.start_offset_us,
        latency_us=attempt.latency_us,
    )


# The `fill` functions write into a message in its place: a message made apart is copied when it is set.
def _fill_message(proto: message_pb2.Message, message: Message) -> None:
    proto.role = _ROLES_TO_PROTO[message.role]
    proto.content = message.content
    proto.reasoning = message.reasoning
    for part in message.parts:
        if isinstance(part, TextPart):
            proto.parts.add(text=part.text)
        else:
            proto.parts.add(image=message_pb2.Image(url=part.url, detail=part.detail))
    for call in message.tool_calls:
        proto.tool_calls.add(id=call.id, tool=call.name, arguments_json=call.arguments_json)


def _fill_usage(proto: message_pb2.Usage, usage: Usage) -> None:
    # Present even if nothing is known: then all its counts are absent.
    proto.SetInParent()
    if usage.input_tokens is not None:
        proto.input_tokens = usage.input_tokens
    if usage.output_tokens is not None:
        proto.output_tokens = usage.output_tokens
    if usage.cached_input_tokens is not None:
        proto.cached_input_tokens = usage.cached_input_tokens
    if usage.reasoning_output_tokens is not None:
        proto.reasoning_output_tokens = usage.reasoning_output_tokens
