from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from kit import errors, status
from kit.errors import AppError, FailedAttempt, Invalid, Precondition, Unavailable, Violation

KINDS = sorted(errors.KINDS)


def _failure(error: AppError) -> grpc.aio.AioRpcError:
    trailers = grpc.aio.Metadata((status.DETAILS_KEY, status.details_of(error)))
    return grpc.aio.AioRpcError(status.code_of(error), grpc.aio.Metadata(), trailers, status.text_of(error))


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_crosses_a_hop_as_itself(kind: str) -> None:
    error = errors.KINDS[kind](
        "what went wrong",
        reason="SOMETHING_WRONG",
        violations=(Violation("a.b[0]", "is bad"),),
        retry_after_seconds=1.5,
        name="value",
    )

    received = status.from_rpc_error(_failure(error), peer="registry")

    assert type(received) is type(error)
    assert (received.message, received.reason) == ("what went wrong", "SOMETHING_WRONG")
    assert received.violations == error.violations
    assert received.retry_after_seconds == 1.5
    assert received.metadata["name"] == "value"


@given(
    st.sampled_from(KINDS),
    st.text(max_size=3000),
    st.lists(st.builds(Violation, st.text(max_size=900), st.text(max_size=900)), max_size=50),
    st.lists(
        st.builds(FailedAttempt, st.text(max_size=100), st.just("PROVIDER_FAILED"), st.text(max_size=900)), max_size=30
    ),
)
def test_details_fit_in_their_bound_whatever_is_said(
    kind: str, text: str, violations: list[Violation], attempts: list[FailedAttempt]
) -> None:
    error = errors.KINDS[kind](text, reason="R", violations=violations, attempts=attempts, quoted=text)

    assert len(status.details_of(error)) <= status.MAX_DETAILS_BYTES
    assert status.reason_of(_failure(error)) == "R"


def test_what_does_not_fit_is_counted() -> None:
    error = Invalid("bad", reason="R", violations=[Violation(f"field[{i}]", "x" * 200) for i in range(100)])

    packed = status_pb2.Status.FromString(status.details_of(error))
    info = error_details_pb2.ErrorInfo.FromString(packed.details[0].value)
    bad = error_details_pb2.BadRequest.FromString(packed.details[1].value)

    assert len(bad.field_violations) + int(info.metadata["omitted_violations"]) == 100


def test_attempts_are_told_one_by_one() -> None:
    error = Unavailable(
        "no provider answered",
        reason="PROVIDER_FAILED",
        attempts=[FailedAttempt("openai/gpt-4o", "PROVIDER_TIMEOUT", "no answer", 0)],
    )

    packed = status_pb2.Status.FromString(status.details_of(error))
    lines = [
        line
        for detail in packed.details
        if detail.Is(error_details_pb2.DebugInfo.DESCRIPTOR)
        for line in error_details_pb2.DebugInfo.FromString(detail.value).stack_entries
    ]

    assert lines == ["openai/gpt-4o: PROVIDER_TIMEOUT: no answer"]


def test_a_missing_resource_is_named_in_the_details() -> None:
    error = errors.NotFound("none", reason="DEPLOYMENT_NOT_FOUND", resource="projects/shop/deployments/x")

    packed = status_pb2.Status.FromString(status.details_of(error))

    assert any(detail.Is(error_details_pb2.ResourceInfo.DESCRIPTOR) for detail in packed.details)


def test_violations_of_a_precondition_stay_one() -> None:
    error = Precondition("not now", reason="IN_USE", violations=[Violation("deployments/a", "uses it")])

    assert status.from_rpc_error(_failure(error), peer="p").violations == error.violations


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS])
def test_a_peers_bug_is_unavailability_to_us(code: grpc.StatusCode) -> None:
    failure = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "boom")

    assert status.from_rpc_error(failure, peer="registry").reason == "PEER_FAILED"


def test_a_peers_metadata_cannot_shadow_our_own_words() -> None:
    details = status_pb2.Status()
    info = error_details_pb2.ErrorInfo(reason="R")
    info.metadata["reason"] = "OTHER"
    details.details.add().Pack(info)
    trailers = grpc.aio.Metadata((status.DETAILS_KEY, details.SerializeToString()))
    failure = grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), trailers, "none")

    assert status.from_rpc_error(failure, peer="p").reason == "R"
