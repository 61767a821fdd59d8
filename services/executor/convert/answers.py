"""Answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from catalog.configurations import fill_message, version_to_proto
from catalog.convert import fill_decision
from services.executor.domain import Delta, FinishReason, Outgoing, Run, Started, Usage
from services.executor.job import Job, Place
from turnout.chat.v1 import message_pb2
from turnout.events.v1 import request_pb2
from turnout.executor.v1 import execution_service_pb2

FINISH_REASONS: Final = {
    None: message_pb2.FINISH_REASON_UNSPECIFIED,
    FinishReason.STOP: message_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: message_pb2.FINISH_REASON_LENGTH,
    FinishReason.TOOL_CALLS: message_pb2.FINISH_REASON_TOOL_CALLS,
    FinishReason.CONTENT_FILTER: message_pb2.FINISH_REASON_CONTENT_FILTER,
    FinishReason.OTHER: message_pb2.FINISH_REASON_OTHER,
}


def run_to_proto(run: Run) -> execution_service_pb2.RunResponse:
    """The answer to a call that got one."""
    response = execution_service_pb2.RunResponse(
        request_id=run.request_id,
        provider=run.provider,
        version=run.version,
        latency_us=run.latency_us,
        fallback_index=run.fallback_index,
        output_violations=run.output_violations,
        mocked=bool(run.call.mock_response),
    )
    fill_attempts(response, run)
    if run.decision is not None:
        fill_decision(response.decision, run.decision)
    if run.answer is not None:
        fill_message(response.message, run.answer.message)
        response.finish_reason = FINISH_REASONS[run.answer.finish_reason]
        fill_usage(response.usage, run.answer.usage)
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
                index=call.index,
                id=call.id,
                tool=call.tool,
                arguments_json=call.arguments_json,
                extra_content_json=call.extra_content_json,
            )
    else:
        started = response.started
        started.request_id, started.version = run.request_id, run.version
        started.provider, started.model = run.provider, piece.model
        started.fallback_index = run.fallback_index
        if run.decision is not None:
            fill_decision(started.decision, run.decision)
    return response


def _fill_ended(ended: execution_service_pb2.RunEnded, run: Run) -> None:
    if run.answer is not None:
        ended.finish_reason = FINISH_REASONS[run.answer.finish_reason]
        ended.usage.SetInParent()
        fill_usage(ended.usage, run.answer.usage)
    if run.cost_usd_micros is not None:
        ended.cost_usd_micros = run.cost_usd_micros
    fill_attempts(ended, run)
    ended.latency_us = run.latency_us
    ended.time_to_first_token_us = run.time_to_first_token_us or 0
    ended.output_violations.extend(run.output_violations or ())


def config_to_proto(run: Run, job: Job, sent: Sequence[Outgoing | str]) -> execution_service_pb2.GetConfigResponse:
    """What a call would send."""
    response = execution_service_pb2.GetConfigResponse(
        version=run.version,
        configuration=version_to_proto(job.version, uid=run.version),
        targets=[_config_target(place, outgoing) for place, outgoing in zip(job.places, sent, strict=True)],
    )
    if run.decision is not None:
        fill_decision(response.decision, run.decision)
    for message in job.messages:
        fill_message(response.messages.add(), message)
    return response


def _config_target(place: Place, outgoing: Outgoing | str) -> execution_service_pb2.ConfigTarget:
    target = execution_service_pb2.ConfigTarget(provider=place.request.provider.slug, model=place.request.model)
    if isinstance(outgoing, str):
        target.problem = outgoing
    else:
        target.method_and_url = f"{outgoing.method} {outgoing.url}"
        target.body_json = outgoing.body.decode()
    return target


def fill_attempts(
    proto: execution_service_pb2.RunResponse | execution_service_pb2.RunEnded | request_pb2.RequestServed, run: Run
) -> None:
    """Write the calls to providers into a message in their place: one made apart would be copied when it is added."""
    for attempt in run.attempts:
        proto.attempts.add(
            provider=attempt.provider,
            model=attempt.model,
            http_status=attempt.http_status,
            reason=attempt.reason,
            message=attempt.message,
            start_offset_us=attempt.start_offset_us,
            latency_us=attempt.latency_us,
            fallback_index=attempt.fallback_index,
        )


def fill_usage(proto: message_pb2.Usage, usage: Usage) -> None:
    """In place."""
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
