"""Contracts to domain and back. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from catalog.convert import DEPLOYMENT_KINDS_TO_PROTO, fill_decision, fill_undecided
from kit import storable
from kit.events.pieces import Pieces
from kit.resource_names import parse
from services.inference.domain import (
    LoadedModel,
    LoadState,
    NewModel,
    Recommendation,
    RecommendCall,
    Source,
    Status,
    UploadChunk,
    UploadHeader,
)
from turnout.events.v1 import request_pb2
from turnout.executor.v1 import execution_pb2
from turnout.inference.v1 import artifact_service_pb2, recommendation_service_pb2
from turnout.registry.v1 import model_pb2, model_service_pb2

SDK_MARK: Final = "turnout-"
"""Turnout's own client libraries name themselves `turnout-<language>/<version>` in the user agent."""

_SOURCES: Final = {execution_pb2.SOURCE_API: Source.API, execution_pb2.SOURCE_SDK: Source.SDK}
_SOURCES_TO_PROTO: Final = {source: number for number, source in _SOURCES.items()}
_STATUSES: Final = {
    Status.OK: request_pb2.REQUEST_STATUS_OK,
    Status.ERROR: request_pb2.REQUEST_STATUS_ERROR,
    Status.CANCELLED: request_pb2.REQUEST_STATUS_CANCELLED,
    Status.LOST: request_pb2.REQUEST_STATUS_LOST,
}
_LOAD_STATES: Final = {
    LoadState.LOADING: recommendation_service_pb2.LOADED_MODEL_STATE_LOADING,
    LoadState.READY: recommendation_service_pb2.LOADED_MODEL_STATE_READY,
    LoadState.FAILED: recommendation_service_pb2.LOADED_MODEL_STATE_FAILED,
}


def recommend_call_from_proto(
    request: recommendation_service_pb2.RecommendRequest,
    *,
    user_agent: str,
    tenant: str,
    key_id: str,
    trace_id: str,
    deadline: float,
) -> RecommendCall:
    """A call and who makes it."""
    return RecommendCall(
        deployment=request.deployment,
        user_id=request.user_id,
        limit=request.limit,
        include_seen=request.include_seen,
        routing_key=request.routing_key,
        identity=request.identity.id,
        thread=request.thread,
        metadata_json=request.metadata_json,
        caller_trace_id=request.trace_id,
        source=_SOURCES.get(request.source) or (Source.SDK if SDK_MARK in user_agent else Source.API),
        tenant=tenant,
        key_id=key_id,
        trace_id=trace_id,
        deadline=deadline,
        context_json=request.context_json,
    )


def recommendation_to_proto(recommendation: Recommendation) -> recommendation_service_pb2.RecommendResponse:
    """The answer to a call that got one."""
    response = recommendation_service_pb2.RecommendResponse(
        request_id=recommendation.request_id, latency_us=recommendation.latency_us
    )
    if recommendation.decision is not None:
        fill_decision(response.decision, recommendation.decision)
    if recommendation.model is not None:
        response.model, response.model_number = recommendation.model.uid, recommendation.model.number
    if recommendation.answer is not None:
        response.cold_start = recommendation.answer.cold_start
        for item in recommendation.answer.items:
            response.items.add(item_id=item.item_id, score=item.score, title=item.title)
    return response


def start_to_proto(recommendation: Recommendation, *, service_instance: str) -> request_pb2.RequestServed:
    """What is recorded if nothing more is heard of a call: all that is known now, with the status LOST."""
    call, target = recommendation.call, recommendation.target
    event = request_pb2.RequestServed(
        request_id=recommendation.request_id,
        project=target.project.uid,
        project_slug=target.project.slug,
        deployment_slug=target.deployment.slug,
        status=request_pb2.REQUEST_STATUS_LOST,
        source=_SOURCES_TO_PROTO[call.source],
        api_key=call.key_id,
        identity=call.identity,
        thread=call.thread,
        routing_key=call.routing_key,
        metadata_json=call.metadata_json,
        caller_trace_id=call.caller_trace_id,
        trace_id=call.trace_id,
        service_instance=service_instance,
        kind=DEPLOYMENT_KINDS_TO_PROTO[target.deployment.kind],
        user=call.user_id,
    )
    event.start_time.seconds, event.start_time.nanos = divmod(recommendation.start_unix_ns, 1_000_000_000)
    decision, refusal = recommendation.decision, recommendation.refusal
    if decision is not None:
        fill_decision(event.decision, decision)
    else:
        fill_undecided(event.decision, target, refusal)
    # Before a decision it may be anything, of any size.
    if target.revision.routing.rules and (decision is not None or refusal is not None):
        event.context_json = call.context_json
    return event


def fill_end(event: request_pb2.RequestServed, recommendation: Recommendation, *, payload_shed: bool) -> None:
    """Add to a start what is known at the end."""
    event.status = _STATUSES[recommendation.status]
    event.reason = recommendation.reason
    event.latency_us = recommendation.latency_us
    event.payload_shed = payload_shed
    answer, model, decision = recommendation.answer, recommendation.model, recommendation.decision
    if answer is not None and model is not None and decision is not None:
        event.served_variant = decision.variant.uid
        event.recommendation.model = model.uid
        event.recommendation.item_count = len(answer.items)
        event.recommendation.cold_start = answer.cold_start


def payload_to_proto(recommendation: Recommendation, payload: Pieces) -> list[request_pb2.RequestPayload]:
    """The pieces of what was recommended in a call."""
    return [
        request_pb2.RequestPayload(
            request_id=recommendation.request_id,
            project=recommendation.project.uid,
            index=index,
            count=len(payload.pieces),
            data=piece,
            truncated=payload.truncated,
        )
        for index, piece in enumerate(payload.pieces)
    ]


def loaded_models_to_proto(
    models: Iterable[LoadedModel],
) -> recommendation_service_pb2.ListLoadedModelsResponse:
    """What a process holds."""
    response = recommendation_service_pb2.ListLoadedModelsResponse()
    for loaded in models:
        proto = response.models.add(
            model=loaded.model.uid,
            model_number=loaded.model.number,
            digest=loaded.model.digest,
            state=_LOAD_STATES[loaded.state],
            reason=loaded.reason,
            message=loaded.message,
            size_bytes=loaded.size_bytes,
        )
        if loaded.load_unix_ns:
            proto.load_time.seconds, proto.load_time.nanos = divmod(loaded.load_unix_ns, 1_000_000_000)
    return response


def piece_from_proto(request: artifact_service_pb2.UploadModelRequest) -> UploadHeader | UploadChunk:
    """A piece of an upload that keeps the contract's rules.

    :raises Invalid: `RESOURCE_NAME_MALFORMED`, `TEXT_NOT_STORABLE`
    """
    if request.WhichOneof("piece") == "chunk":
        return UploadChunk(request.chunk.file, request.chunk.data)
    header = request.header
    (project,) = parse(header.parent, "projects/*", field="header.parent")
    storable.check_texts((("header.display_name", header.display_name), ("header.description", header.description)))
    return UploadHeader(project, header.display_name, header.description, header.manifest)


def register_request(model: NewModel) -> model_service_pb2.RegisterModelRequest:
    """What the registry is told of a model."""
    return model_service_pb2.RegisterModelRequest(
        parent=f"projects/{model.project.slug}",
        on_behalf_of=model.on_behalf_of,
        model=model_pb2.Model(
            display_name=model.display_name,
            description=model.description,
            digest=model.digest,
            algorithm=model.algorithm,
            parameters_json=model.parameters_json,
            metrics_json=model.metrics_json,
            user_count=model.user_count,
            item_count=model.item_count,
            interaction_count=model.interaction_count,
            size_bytes=model.size_bytes,
        ),
    )
