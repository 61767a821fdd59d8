"""How hard variants try."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from catalog.configurations import parameters_from_proto, parameters_to_proto
from services.registry.convert.text import duration
from services.registry.domain import USUAL, Execution, Fallback, OutputPolicy
from turnout.registry.v1 import deployment_pb2 as pb

_POLICIES: Final = {
    pb.OUTPUT_POLICY_UNSPECIFIED: OutputPolicy.MARK,
    pb.OUTPUT_POLICY_MARK: OutputPolicy.MARK,
    pb.OUTPUT_POLICY_RETRY: OutputPolicy.RETRY,
    pb.OUTPUT_POLICY_FAIL: OutputPolicy.FAIL,
}
OUTPUT_POLICIES_TO_PROTO: Final = {
    OutputPolicy.MARK: pb.OUTPUT_POLICY_MARK,
    OutputPolicy.RETRY: pb.OUTPUT_POLICY_RETRY,
    OutputPolicy.FAIL: pb.OUTPUT_POLICY_FAIL,
}


def execution_from_proto(completion: pb.CompletionVariant, *, field: str) -> Execution:
    """What a caller gives.

    :param field: path of the completion in the request, for violations
    :raises Invalid: for parameters whose JSON is none
    """
    return Execution(
        fallbacks=tuple(
            _fallback(fallback, f"{field}.fallbacks[{index}]") for index, fallback in enumerate(completion.fallbacks)
        ),
        retry_statuses=tuple(sorted(completion.retry_statuses)),
        first_token_timeout=completion.first_token_timeout.ToTimedelta()
        if completion.HasField("first_token_timeout")
        else None,
        idle_timeout=completion.idle_timeout.ToTimedelta() if completion.HasField("idle_timeout") else None,
        output_policy=_POLICIES[completion.output_policy],
    )


def execution_to_proto(execution: Execution) -> pb.CompletionVariant:
    """As callers see it: a completion variant with nothing else."""
    return pb.CompletionVariant(
        fallbacks=[fallback_to_proto(fallback, provider=fallback.provider) for fallback in execution.fallbacks],
        retry_statuses=execution.retry_statuses,
        first_token_timeout=duration(execution.first_token_timeout),
        idle_timeout=duration(execution.idle_timeout),
        output_policy=OUTPUT_POLICIES_TO_PROTO[execution.output_policy],
    )


def fallback_to_proto(fallback: Fallback, *, provider: str) -> pb.Fallback:
    """:param provider: the slug or the uid, as the reader needs it"""
    return pb.Fallback(
        provider=provider,
        model=fallback.model,
        parameters=None if fallback.parameters is None else parameters_to_proto(fallback.parameters),
        max_retries=fallback.max_retries,
        attempt_timeout=duration(fallback.attempt_timeout),
    )


def pack_execution(execution: Execution) -> bytes | None:
    """As the store keeps it; the uids of its providers are beside it. None for what nobody asked for."""
    return None if execution == USUAL else execution_to_proto(execution).SerializeToString(deterministic=True)


def unpack_execution(packed: bytes | None, provider_uids: Iterable[str]) -> Execution:
    """The inverse of :func:`pack_execution`.

    :param provider_uids: of its fallbacks, in order
    """
    if packed is None:
        return USUAL
    execution = execution_from_proto(pb.CompletionVariant.FromString(packed), field="completion")
    pairs = zip(execution.fallbacks, provider_uids, strict=True)
    return replace(execution, fallbacks=tuple(replace(fallback, provider_uid=uid) for fallback, uid in pairs))


def fallback_names(packed: bytes) -> list[tuple[str, str]]:
    """The slugs of providers and the names of models, of what :func:`pack_execution` made."""
    return [(each.provider, each.model) for each in pb.CompletionVariant.FromString(packed).fallbacks]


def _fallback(fallback: pb.Fallback, field: str) -> Fallback:
    return Fallback(
        provider=fallback.provider,
        model=fallback.model,
        parameters=parameters_from_proto(fallback.parameters, field=f"{field}.parameters")
        if fallback.HasField("parameters")
        else None,
        max_retries=fallback.max_retries,
        attempt_timeout=fallback.attempt_timeout.ToTimedelta() if fallback.HasField("attempt_timeout") else None,
    )
