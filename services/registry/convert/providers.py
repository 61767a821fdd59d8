"""What providers offer, and how they are."""

from __future__ import annotations

from services.registry.convert.text import time_to_proto
from services.registry.domain import CheckFailure, ModelList, ProviderModel
from turnout.registry.v1 import provider_pb2
from turnout.registry.v1 import provider_service_pb2 as pb


def model_list_to_proto(listed: ModelList) -> pb.ListProviderModelsResponse:
    """As callers see it."""
    return pb.ListProviderModelsResponse(
        models=map(_model, listed.models), retrieve_time=time_to_proto(listed.retrieved_at)
    )


def check_to_proto(outcome: ModelList | CheckFailure, latency_us: int) -> pb.CheckProviderResponse:
    """How asking went.

    :param latency_us: in microseconds
    """
    match outcome:
        case ModelList(models):
            return pb.CheckProviderResponse(ok=True, latency_us=latency_us, model_count=len(models))
        case CheckFailure(reason, sentence):
            return pb.CheckProviderResponse(reason=reason, sentence=sentence, latency_us=latency_us)


def _model(model: ProviderModel) -> provider_pb2.ProviderModel:
    return provider_pb2.ProviderModel(
        model=model.model,
        display_name=model.display_name,
        create_time=time_to_proto(model.created_at),
        context_window_tokens=model.context_window_tokens,
    )
