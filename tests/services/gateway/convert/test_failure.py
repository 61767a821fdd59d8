from __future__ import annotations

from typing import Any

import orjson
import pytest

from kit import errors
from kit.errors import AppError, Violation
from services.gateway.convert import failure


def described(error: AppError) -> tuple[int, dict[str, str], dict[str, Any]]:
    failed = failure.failure_of(error)
    body: dict[str, Any] = orjson.loads(failed.body)["error"]
    assert {"message", "type", "param", "code", "reason"} <= set(body)
    return failed.status, failed.headers, body


def test_every_kind_of_error_has_a_status() -> None:
    assert set(failure.STATUSES) == set(errors.KINDS)


@pytest.mark.parametrize("kind", errors.KINDS.values())
def test_what_cannot_succeed_by_itself_is_never_tried_again(kind: type[AppError]) -> None:
    status, headers, _ = described(kind("no", reason="SOME_REASON"))
    tries_again = (status in (408, 409, 429) or status >= 500) and headers.get("x-should-retry") != "false"
    assert tries_again == (kind in (errors.Conflict, errors.Exhausted, errors.Unavailable))


@pytest.mark.parametrize(
    ("error", "status", "expected"),
    [
        (errors.Unauthenticated("no", reason="KEY_UNKNOWN"), 401, {"code": "invalid_api_key"}),
        (errors.Denied("no", reason="SCOPE_MISSING"), 403, {"code": "scope_missing", "type": "permission_error"}),
        (errors.NotFound("no", reason="ALIAS_NOT_FOUND"), 404, {"code": "model_not_found", "param": "model"}),
        (errors.NotFound("no", reason="URL_NOT_FOUND"), 404, {"code": "url_not_found", "param": None}),
        (errors.Invalid("no", reason="BODY_TOO_LARGE"), 413, {"code": "body_too_large"}),
        (errors.Precondition("no", reason="NO_ACTIVE_VARIANT"), 422, {"type": "invalid_request_error"}),
        (errors.Exhausted("no", reason="QUOTA"), 429, {"code": "rate_limit_exceeded", "reason": "QUOTA"}),
        (
            errors.Invalid("no", reason="PROVIDER_CONTEXT_LENGTH_EXCEEDED"),
            400,
            {"code": "context_length_exceeded", "type": "invalid_request_error", "param": "messages"},
        ),
        (errors.Precondition("no", reason="OUTPUT_INVALID"), 422, {"code": "output_invalid"}),
        (
            errors.Precondition("no", reason="CONTRACT_BROKEN", violations=(Violation("response_format.city", "no"),)),
            422,
            {"code": "contract_broken", "param": "response_format.city"},
        ),
        (
            errors.Exhausted("no", reason="PROVIDER_BUSY"),
            429,
            {"code": "rate_limit_exceeded", "type": "rate_limit_error", "reason": "PROVIDER_BUSY"},
        ),
        (errors.Deadline("no", reason="DEADLINE_EXCEEDED"), 504, {"type": "timeout_error"}),
        (errors.Unimplemented("no", reason="X"), 501, {"type": "server_error"}),
    ],
)
def test_an_error_has_openais_words(error: AppError, status: int, expected: dict[str, Any]) -> None:
    found, _, body = described(error)
    assert found == status
    assert {name: body[name] for name in expected} == expected


def test_when_to_try_again_is_told_in_seconds_and_milliseconds() -> None:
    _, headers, _ = described(errors.Exhausted("no", reason="X", retry_after_seconds=1.2))
    assert (headers["retry-after"], headers["retry-after-ms"]) == ("2", "1200")
    _, headers, _ = described(errors.Unavailable("no", reason="X"))
    assert (headers["retry-after"], headers["retry-after-ms"]) == ("1", "1000")
    _, headers, _ = described(errors.Exhausted("no", reason="KEY_RATE_EXCEEDED", retry_after_seconds=0.3))
    assert (headers["retry-after"], headers["retry-after-ms"]) == ("1", "300")
    assert "retry-after" not in described(errors.Exhausted("no", reason="X"))[1]


def test_the_parameter_is_the_place_of_the_first_violation() -> None:
    violations = (Violation("messages[2].content[0].type", "no"), Violation("input.b", "neither"))
    body = described(errors.Invalid("no", reason="X", violations=violations))[2]
    assert body["param"] == "messages[2].content[0].type"
    assert body["violations"][1] == {"param": "input.b", "message": "neither"}
    assert described(errors.Invalid("no", reason="X", violations=(Violation("body", "no"),)))[2]["param"] is None


def test_whatever_an_error_holds_its_answer_is_short_and_printable() -> None:
    text = "\x1b\n" + "x" * (1 << 20)
    failed = failure.failure_of(errors.Invalid(text, reason="X", violations=[Violation(text, text)] * 2))
    assert len(failed.body) < 8000
    body = orjson.loads(failed.body)["error"]
    for told in (body["message"], body["param"], body["violations"][1]["message"]):
        assert told.startswith("\\x1b\\nxxx")
        assert told.endswith("…")


def test_a_bug_tells_its_trace_and_nothing_else() -> None:
    failed = failure.internal_error("abc")
    assert (failed.status, failed.headers["x-should-retry"]) == (500, "false")
    assert orjson.loads(failed.body)["error"]["message"] == "internal error; trace abc"
