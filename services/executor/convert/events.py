"""Events."""

from __future__ import annotations

from typing import Final

from catalog.configurations import version_to_proto
from catalog.convert import DEPLOYMENT_KINDS_TO_PROTO, fill_decision, fill_undecided
from catalog.view import DeploymentKind
from kit.events.pieces import Pieces
from services.executor.convert.answers import FINISH_REASONS, fill_attempts, fill_usage
from services.executor.convert.calls import SOURCES
from services.executor.domain import Run, Status
from turnout.events.v1 import request_pb2, version_pb2

_SOURCES_TO_PROTO: Final = {source: number for number, source in SOURCES.items()}
_STATUSES: Final = {
    Status.OK: request_pb2.REQUEST_STATUS_OK,
    Status.ERROR: request_pb2.REQUEST_STATUS_ERROR,
    Status.CANCELLED: request_pb2.REQUEST_STATUS_CANCELLED,
    Status.LOST: request_pb2.REQUEST_STATUS_LOST,
}


def start_to_proto(run: Run, *, service_instance: str) -> request_pb2.RequestServed:
    """What is recorded if nothing more is heard of a call: all that is known now, with the status LOST."""
    call, target, found = run.call, run.target, run.decision or run.refusal
    deployment = None if target is None else target.deployment
    event = request_pb2.RequestServed(
        request_id=run.request_id,
        project=run.project.uid,
        project_slug=run.project.slug,
        deployment_slug="" if deployment is None else deployment.slug,
        status=request_pb2.REQUEST_STATUS_LOST,
        provider=run.provider,
        model=run.model,
        version=run.version,
        base_version=run.base_version,
        source=_SOURCES_TO_PROTO[call.source],
        api_key=call.key_id,
        identity=call.identity,
        thread=call.thread,
        routing_key=call.routing_key,
        metadata_json=call.metadata_json,
        caller_trace_id=call.caller_trace_id,
        trace_id=call.trace_id,
        service_instance=service_instance,
        kind=DEPLOYMENT_KINDS_TO_PROTO[DeploymentKind.COMPLETION if deployment is None else deployment.kind],
        user=call.user,
        streamed=call.is_streamed,
    )
    event.start_time.seconds, event.start_time.nanos = divmod(run.start_unix_ns, 1_000_000_000)
    if target is not None:
        if run.decision is not None:
            fill_decision(event.decision, run.decision)
        else:
            fill_undecided(event.decision, target, run.refusal)
        # Before a decision it may be anything, of any size.
        if found is not None and target.revision.routing.rules:
            event.context_json = call.context_json
    return event


def fill_end(event: request_pb2.RequestServed, run: Run, *, payload_shed: bool) -> None:
    """Add to a start what is known at the end."""
    event.status = _STATUSES[run.status]
    event.reason = run.reason
    event.latency_us = run.latency_us
    event.payload_shed = payload_shed
    # Where it was tried last, which need not be where it began.
    event.provider, event.model, event.fallback_index = run.provider, run.model, run.fallback_index
    if run.output_violations is not None:
        event.output_violation_count = len(run.output_violations)
    fill_attempts(event, run)
    if run.decision is not None and run.status is Status.OK:
        event.served_variant = run.decision.variant.uid
    if run.answer is not None:
        # Also one that was not taken: it was paid for.
        fill_usage(event.usage, run.answer.usage)
        event.finish_reason = FINISH_REASONS[run.answer.finish_reason]
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


def version_seen_to_proto(run: Run) -> version_pb2.VersionSeen:
    """What ran, for the registry to keep."""
    event = version_pb2.VersionSeen(
        project=run.project.uid,
        project_slug=run.project.slug,
        version=None if run.seen_version is None else version_to_proto(run.seen_version, uid=run.version),
        request_id=run.request_id,
    )
    event.seen_time.seconds, event.seen_time.nanos = divmod(run.start_unix_ns, 1_000_000_000)
    return event
