"""Errors as gRPC statuses and back: the one place where kinds meet codes.

Details are `google.rpc` messages, packed within 6 KiB: gRPC drops a whole answer whose trailers pass 16 KiB, and the
details travel in base64. What does not fit is counted in the metadata as `omitted_…`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final, Protocol

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from kit import errors
from kit.errors import AppError, FailedAttempt, Violation

DOMAIN: Final = "turnout"
DETAILS_KEY: Final = "grpc-status-details-bin"
MAX_DETAILS_BYTES: Final = 6 * 1024
_MAX_TEXT = 512

CODES: Final[dict[str, grpc.StatusCode]] = {
    errors.Invalid.kind: grpc.StatusCode.INVALID_ARGUMENT,
    errors.Unauthenticated.kind: grpc.StatusCode.UNAUTHENTICATED,
    errors.Denied.kind: grpc.StatusCode.PERMISSION_DENIED,
    errors.NotFound.kind: grpc.StatusCode.NOT_FOUND,
    errors.Exists.kind: grpc.StatusCode.ALREADY_EXISTS,
    errors.Precondition.kind: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Conflict.kind: grpc.StatusCode.ABORTED,
    errors.Exhausted.kind: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable.kind: grpc.StatusCode.UNAVAILABLE,
    errors.Deadline.kind: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Unimplemented.kind: grpc.StatusCode.UNIMPLEMENTED,
}
_KINDS = {code: errors.KINDS[kind] for kind, code in CODES.items()}


def code_of(error: AppError) -> grpc.StatusCode:
    """The status code of an error's kind."""
    return CODES[error.kind]


def text_of(error: AppError) -> str:
    """The sentence that travels as the status message: bounded, since it is a trailer too."""
    return _cut(error.message)


def details_of(error: AppError) -> bytes:
    """The serialised `google.rpc.Status` of an error, at most 6 KiB."""
    status = status_pb2.Status(code=code_of(error).value[0], message=text_of(error))
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    for key, value in error.metadata.items():
        info.metadata[key] = _cut(value)
    if error.retry_after_seconds is not None:
        _add(status, error_details_pb2.RetryInfo(retry_delay=_duration(error.retry_after_seconds)))
    if resource := error.metadata.get("resource"):
        _add(status, error_details_pb2.ResourceInfo(resource_name=_cut(resource), description=text_of(error)))
    budget = MAX_DETAILS_BYTES - status.ByteSize() - info.ByteSize() - 512
    if error.violations:
        budget -= _add_violations(status, info, error, budget)
    if error.attempts:
        _add_attempts(status, info, error, budget)
    _add(status, info, first=True)
    packed: bytes = status.SerializeToString()
    return packed


class Failure(Protocol):
    """A status that arrived: `grpc.aio.AioRpcError`, or the `grpc.RpcError` of the blocking client."""

    def code(self) -> grpc.StatusCode:
        """The status code."""
        ...

    def details(self) -> str | None:
        """The status message."""
        ...

    def trailing_metadata(self) -> Iterable[Any] | None:
        """What came with it."""
        ...


def from_rpc_error(failure: Failure, *, peer: str) -> AppError:
    """The error that a peer meant by a status, as the same class it raised.

    A status that carries none of our details (the network's own, or a proxy's) becomes `Unavailable` or the kind of its
    code with the reason `PEER_<CODE>`; other codes, INTERNAL among them, become `Unavailable` `PEER_FAILED`.
    """
    code, text = failure.code(), failure.details() or ""
    kind = _KINDS.get(code)
    for key, value in failure.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes) and kind is not None:
            return _unpack(kind, text, value)
    if kind is None or kind is errors.Unauthenticated:
        return errors.Unavailable(f"{peer} failed: {code.name}", reason="PEER_FAILED", peer=peer, code=code.name)
    return kind(f"{peer}: {text}" if text else f"{peer} failed", reason=f"PEER_{code.name}", peer=peer)


def reason_of(failure: Failure) -> str:
    """The stable reason in a status; empty if there is none."""
    for key, value in failure.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                    return str(error_details_pb2.ErrorInfo.FromString(detail.value).reason)
    return ""


def _add_violations(status: status_pb2.Status, info: error_details_pb2.ErrorInfo, error: AppError, budget: int) -> int:
    bad, failed, used = error_details_pb2.BadRequest(), error_details_pb2.PreconditionFailure(), 0
    for index, violation in enumerate(error.violations):
        field, text = _cut(violation.field), _cut(violation.message)
        used += len(field.encode()) + len(text.encode()) + 16
        if used > budget:
            info.metadata["omitted_violations"] = str(len(error.violations) - index)
            break
        if isinstance(error, errors.Precondition):
            failed.violations.add(type=error.reason, subject=field, description=text)
        else:
            bad.field_violations.add(field=field, description=text)
    _add(status, failed if isinstance(error, errors.Precondition) else bad)
    return used


def _add_attempts(status: status_pb2.Status, info: error_details_pb2.ErrorInfo, error: AppError, budget: int) -> None:
    # google.rpc has no message for attempts; DebugInfo's list of lines is the one that every client already prints.
    debug, used = error_details_pb2.DebugInfo(detail="attempts"), 0
    for index, attempt in enumerate(error.attempts):
        line = _line(attempt)
        used += len(line.encode()) + 8
        if used > budget:
            info.metadata["omitted_attempts"] = str(len(error.attempts) - index)
            break
        debug.stack_entries.append(line)
    info.metadata["attempts"] = str(len(error.attempts))
    _add(status, debug)


def _line(attempt: FailedAttempt) -> str:
    status = f" (HTTP {attempt.status})" if attempt.status else ""
    return _cut(f"{attempt.target}: {attempt.reason}{status}: {attempt.message}")


def _unpack(kind: type[AppError], text: str, packed: bytes) -> AppError:
    reason, metadata, violations, retry_after = "", {}, [], None
    for detail in status_pb2.Status.FromString(packed).details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest.FromString(detail.value)
            violations += [Violation(v.field, v.description) for v in bad.field_violations]
        elif detail.Is(error_details_pb2.PreconditionFailure.DESCRIPTOR):
            failed = error_details_pb2.PreconditionFailure.FromString(detail.value)
            violations += [Violation(v.subject, v.description) for v in failed.violations]
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            delay = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
            retry_after = delay.seconds + delay.nanos / 1e9
    for name in ("reason", "violations", "attempts", "retry_after_seconds", "message"):
        # A peer's metadata may not shadow the constructor's own parameters.
        if name in metadata:
            metadata[f"{name}_"] = metadata.pop(name)
    return kind(text, reason=reason, violations=violations, retry_after_seconds=retry_after, **metadata)


def _add(status: status_pb2.Status, message: object, *, first: bool = False) -> None:
    packed = any_pb2.Any()
    packed.Pack(message)  # type: ignore[arg-type]  # google.rpc's modules ship without types
    if first:
        status.details.insert(0, packed)
    else:
        status.details.append(packed)


def _duration(seconds: float) -> duration_pb2.Duration:
    whole = math.floor(seconds)
    return duration_pb2.Duration(seconds=whole, nanos=int((seconds - whole) * 1e9))


def _cut(text: str) -> str:
    clean = text.encode("utf-8", "replace").decode()
    return clean if len(clean) <= _MAX_TEXT else clean[: _MAX_TEXT - 1] + "…"
