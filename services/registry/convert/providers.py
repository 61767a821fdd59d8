"""What providers offer, and how they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from services.registry.convert.text import time_to_proto
from services.registry.domain import CheckFailure, ModelList, ProviderModel, ProviderModelFacts, StructuredOutput
from turnout.registry.v1 import provider_pb2
from turnout.registry.v1 import provider_service_pb2 as pb

_PRICES: Final = (
    "input_usd_micros_per_million",
    "cached_input_usd_micros_per_million",
    "output_usd_micros_per_million",
)

_STRUCTURED_OUTPUTS: Final = {
    provider_pb2.STRUCTURED_OUTPUT_JSON_SCHEMA: StructuredOutput.JSON_SCHEMA,
    provider_pb2.STRUCTURED_OUTPUT_JSON_OBJECT: StructuredOutput.JSON_OBJECT,
    provider_pb2.STRUCTURED_OUTPUT_TEXT: StructuredOutput.TEXT,
}
_STRUCTURED_OUTPUTS_TO_PROTO: Final = {output: number for number, output in _STRUCTURED_OUTPUTS.items()}


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


def model_facts_from_proto(provider: provider_pb2.Provider) -> tuple[ProviderModelFacts, ...]:
    """What is known of its models, in the order given."""
    return tuple(
        ProviderModelFacts(
            model=facts.model,
            context_window_tokens=facts.context_window_tokens,
            structured_output=_STRUCTURED_OUTPUTS.get(facts.structured_output),
            **{name: getattr(facts, name) for name in _PRICES if facts.HasField(name)},
        )
        for facts in provider.model_facts
    )


def model_facts_to_proto(facts: Sequence[ProviderModelFacts]) -> list[provider_pb2.ModelFacts]:
    """The inverse of :func:`model_facts_from_proto`."""
    return [
        provider_pb2.ModelFacts(
            model=each.model,
            context_window_tokens=each.context_window_tokens,
            structured_output=_structured_output_to_proto(each.structured_output),
            **{name: getattr(each, name) for name in _PRICES},
        )
        for each in facts
    ]


def _structured_output_to_proto(output: StructuredOutput | None) -> provider_pb2.StructuredOutput.ValueType:
    return provider_pb2.STRUCTURED_OUTPUT_UNSPECIFIED if output is None else _STRUCTURED_OUTPUTS_TO_PROTO[output]


def pack_model_facts(facts: Sequence[ProviderModelFacts]) -> bytes | None:
    """As the store keeps it; None for nothing."""
    packed = provider_pb2.Provider(model_facts=model_facts_to_proto(facts)).SerializeToString(deterministic=True)
    return packed or None


def unpack_model_facts(packed: bytes | None) -> tuple[ProviderModelFacts, ...]:
    """The inverse of :func:`pack_model_facts`."""
    return model_facts_from_proto(provider_pb2.Provider.FromString(packed or b""))


def _model(model: ProviderModel) -> provider_pb2.ProviderModel:
    return provider_pb2.ProviderModel(
        model=model.model,
        display_name=model.display_name,
        create_time=time_to_proto(model.created_at),
        context_window_tokens=model.context_window_tokens,
    )
