"""Idempotency keys, and what they were answered."""

from __future__ import annotations

from kit.errors import Invalid, Violation
from services.executor import idempotency
from services.executor.domain import RunCall
from services.executor.idempotency import Claim
from turnout.executor.v1 import execution_service_pb2


def claim_from_proto(request: execution_service_pb2.RunRequest, call: RunCall) -> Claim:
    """The claim of a call under an idempotency key.

    :raises Invalid: `TEXT_NOT_STORABLE`
    """
    body = execution_service_pb2.RunRequest()
    body.CopyFrom(request)
    body.ClearField("idempotency_key")
    return idempotency.claim(
        project=call.tenant,
        api_key=call.key_id,
        key=request.idempotency_key,
        body=body.SerializeToString(deterministic=True),
        deadline=call.deadline,
    )


def repeated_run_to_proto(answer: bytes) -> execution_service_pb2.RunResponse:
    """The answer that an earlier call under the same key got."""
    response = execution_service_pb2.RunResponse.FromString(answer)
    response.repeated_answer = True
    return response


def refuse_key_of_stream(request: execution_service_pb2.RunRequest) -> None:
    """:raises Invalid: `IDEMPOTENCY_KEY_OF_STREAM`: pieces that were sent are not kept"""
    if request.idempotency_key:
        problem = Violation(
            "run.idempotency_key", "must be left out: the pieces of a stream are not kept; Run takes one"
        )
        raise Invalid(f"{problem.field} {problem.message}", reason="IDEMPOTENCY_KEY_OF_STREAM", violations=(problem,))
