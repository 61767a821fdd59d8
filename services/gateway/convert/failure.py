"""Errors as HTTP statuses in OpenAI's shape: the one place where kinds meet them.

OpenAI's SDKs try 408, 409, 429 and everything from 500 again, unless `x-should-retry` says otherwise. So what cannot
succeed by itself has a status that they leave alone, or that header.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import orjson

from kit import errors
from kit.errors import AppError
from services.gateway import domain

CLIENT_LEFT: Final = 499
"""Never sent: what traces say of a request whose caller did not wait."""
INTERNAL: Final = 500

STATUSES: Final[dict[str, int]] = {
    errors.Invalid.kind: 400,
    errors.Unauthenticated.kind: 401,
    errors.Denied.kind: 403,
    errors.NotFound.kind: 404,
    errors.Exists.kind: 409,
    # Not 409, which would be tried again: somebody must change something first.
    errors.Precondition.kind: 422,
    errors.Conflict.kind: 409,
    errors.Exhausted.kind: 429,
    errors.Unavailable.kind: 503,
    errors.Deadline.kind: 504,
    errors.Unimplemented.kind: 501,
}
_STATUSES_OF_REASONS: Final = {
    "METHOD_NOT_ALLOWED": 405,
    "BODY_TOO_SLOW": 408,
    "BODY_TOO_LARGE": 413,
    "CONTENT_ENCODING_UNSUPPORTED": 415,
    "HEADERS_TOO_LARGE": 431,
}
_TYPES: Final = {
    errors.Denied.kind: "permission_error",
    errors.Exhausted.kind: "rate_limit_error",
    errors.Unavailable.kind: "server_error",
    errors.Deadline.kind: "timeout_error",
    errors.Unimplemented.kind: "server_error",
}
_CODES: Final = {
    errors.Unauthenticated.kind: "invalid_api_key",
    errors.Exhausted.kind: "rate_limit_exceeded",
}
_CODES_OF_REASONS: Final = {
    **dict.fromkeys(("MODEL_NOT_FOUND", "DEPLOYMENT_NOT_FOUND", "ALIAS_NOT_FOUND"), "model_not_found"),
    # What OpenAI's clients look for to shorten what they send.
    "PROVIDER_CONTEXT_LENGTH_EXCEEDED": "context_length_exceeded",
}
_PARAMS_OF_REASONS: Final = {
    **dict.fromkeys(("MODEL_NOT_FOUND", "DEPLOYMENT_NOT_FOUND", "ALIAS_NOT_FOUND"), "model"),
    "PROVIDER_CONTEXT_LENGTH_EXCEEDED": "messages",
}
_MAY_RETRY: Final = frozenset({errors.Conflict.kind, errors.Exhausted.kind, errors.Unavailable.kind})
_DEFAULT_RETRY_SECONDS: Final = 1.0
_MAX_MESSAGE_CHARACTERS: Final = 2000
_MAX_PARAM_CHARACTERS: Final = 256
"""Room for the longest path of ours and a name that was cut, and a bound on what others put there."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed answer."""

    status: int
    headers: dict[str, str]
    body: bytes


def failure_of(error: AppError) -> Failure:
    """What a caller gets for an error."""
    headers: dict[str, str] = {}
    if error.kind not in _MAY_RETRY:
        headers["x-should-retry"] = "false"
    elif (wait := _wait_seconds(error)) is not None:
        headers["retry-after"] = str(math.ceil(wait))
        headers["retry-after-ms"] = str(math.ceil(wait * 1000))
    if allowed := error.metadata.get("allow"):
        headers["allow"] = allowed
    if request_id := error.metadata.get("request_id"):
        headers["x-request-id"] = request_id
    status = _STATUSES_OF_REASONS.get(error.reason) or STATUSES.get(error.kind, INTERNAL)
    return Failure(status, headers, orjson.dumps({"error": _described(error)}))


def internal_error(trace_id: str) -> Failure:
    """What a caller gets for a bug of ours."""
    described = {
        "message": f"internal error; trace {trace_id}",
        "type": "server_error",
        "param": None,
        "code": "internal_error",
        "reason": "INTERNAL",
    }
    return Failure(INTERNAL, {"x-should-retry": "false"}, orjson.dumps({"error": described}))


def _described(error: AppError) -> dict[str, Any]:
    violations = [
        {"param": _param(each.field), "message": domain.shown(each.message, limit=_MAX_MESSAGE_CHARACTERS)}
        for each in error.violations
    ]
    described: dict[str, Any] = {
        "message": domain.shown(error.message, limit=_MAX_MESSAGE_CHARACTERS),
        "type": _TYPES.get(error.kind, "invalid_request_error"),
        "param": violations[0]["param"] if violations else _PARAMS_OF_REASONS.get(error.reason),
        "code": _CODES_OF_REASONS.get(error.reason) or _CODES.get(error.kind) or error.reason.lower(),
        "reason": error.reason,
    }
    if request_id := error.metadata.get("request_id"):
        described["request_id"] = request_id
    if len(violations) > 1:
        described["violations"] = violations
    return described


def _param(field: str) -> str | None:
    return None if field == "body" else domain.shown(field, limit=_MAX_PARAM_CHARACTERS)


def _wait_seconds(error: AppError) -> float | None:
    if error.retry_after_seconds is not None:
        return error.retry_after_seconds
    return _DEFAULT_RETRY_SECONDS if error.kind == errors.Unavailable.kind else None
