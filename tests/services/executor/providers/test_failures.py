from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from catalog.view import Provider, ProviderKind
from kit.egress import EgressResponse
from services.executor.domain import ProviderFailure, ProviderRequest, Reason
from services.executor.providers.failures import does_not_fit, read_failure, told_failure
from tests.services.executor.providers.wires import RETRY_STATUSES

REQUEST = ProviderRequest(Provider("p", "prj", "main", ProviderKind.OPENAI, "https://x"), None, "m", b"", ())
CASES = [json.loads(line) for line in Path(__file__).with_name("context_length.jsonl").read_text().splitlines()]
"""Errors in the words of those who write them: `who`, `status`, `body`, and the `reason` that each must get."""


def failed(status: int, body: Any) -> ProviderFailure:
    response = EgressResponse(status, CIMultiDictProxy(CIMultiDict()), json.dumps(body).encode())
    return read_failure(response, REQUEST, RETRY_STATUSES, unix_seconds=0)


@pytest.mark.parametrize("case", CASES, ids=[f"{case['who']}-{case['status']}" for case in CASES])
def test_a_prompt_that_does_not_fit_is_told_apart_in_every_wording(case: dict[str, Any]) -> None:
    failure = failed(case["status"], case["body"])
    assert (failure.reason.value, failure.http_status) == (case["reason"], case["status"])


def test_a_prompt_that_does_not_fit_is_not_sent_again() -> None:
    failure = failed(500, {"error": {"message": "the request exceeds the available context size"}})
    assert not failure.is_retryable
    assert failure.message == ('the prompt does not fit the model: "the request exceeds the available context size"')


def test_every_reason_is_among_the_cases() -> None:
    reasons = {case["reason"] for case in CASES}
    assert {Reason.CONTEXT_LENGTH_EXCEEDED, Reason.RATE_LIMITED, Reason.REJECTED_REQUEST, Reason.ERROR} <= reasons


def test_a_long_error_is_searched_in_no_time() -> None:
    assert not does_not_fit({"error": "input tokens " * 100_000})
    assert not does_not_fit({"error": "exceeds the maximum available " * 100_000})


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (402, {"error": {"message": "Insufficient Balance"}}),
        (402, {}),
        (429, {"error": {"message": "You exceeded your current quota", "type": "insufficient_quota", "code": None}}),
        (429, {"error": {"message": "no", "type": "x", "code": "insufficient_quota"}}),
        (429, {"error": {"message": "no", "code": "billing_not_active"}}),
        (400, {"error": {"message": "no", "code": "billing_hard_limit_reached"}}),
        (
            400,
            {"type": "error", "error": {"type": "invalid_request_error", "message": "Your credit balance is too low"}},
        ),
        (400, {"type": "error", "error": {"type": "billing_error", "message": "no"}}),
        (503, {"type": "billing_error", "message": "no"}),
        (
            400,
            {
                "type": "error",
                "error": {
                    "type": "invalid_request_error",
                    "message": "You have reached your specified API usage limits. You will regain access soon.",
                },
            },
        ),
        (429, {"error": {"message": "Your account is suspended", "type": "exceeded_current_quota_error"}}),
        (400, {"error": {"message": "Access denied", "type": "Arrearage", "code": "Arrearage"}}),
    ],
)
def test_an_account_without_money_is_the_operator_s_matter_and_not_asked_again(status: int, body: Any) -> None:
    failure = failed(status, body)
    assert (failure.reason, failure.http_status, failure.is_retryable) == (Reason.CREDENTIAL_REFUSED, status, False)


@pytest.mark.parametrize(
    "body",
    [
        [{"error": {"code": 400, "message": "API key not valid. Please pass one.", "status": "INVALID_ARGUMENT"}}],
        {"error": {"message": "API key expired. Please renew the API key."}},
        {"error": {"type": "invalid_request_error", "message": "This organization has been disabled."}},
        {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: na***ys."},
        {"code": "Client specified an invalid argument", "error": "Incorrect%20API%20key%20provided:%20na***ys."},
    ],
)
def test_a_key_that_is_refused_as_a_wrong_request_is_the_operator_s_matter(body: Any) -> None:
    failure = failed(400, body)
    assert (failure.reason, failure.http_status, failure.is_retryable) == (Reason.CREDENTIAL_REFUSED, 400, False)
    told = told_failure(body, REQUEST, means=400)
    assert (told.reason, told.http_status, told.is_retryable) == (Reason.CREDENTIAL_REFUSED, 200, False)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "The model `x` has been decommissioned.", "code": "model_decommissioned"}},
        {"error": {"message": "Model Not Exist", "type": "invalid_request_error", "code": "invalid_request_error"}},
        {"error": {"message": "x/y is not a valid model ID", "code": 400}},
        {"object": "error", "message": "Invalid model: x", "type": "invalid_model", "code": "1500"},
    ],
)
def test_a_model_that_is_gone_is_not_found_under_400_too(body: Any) -> None:
    failure = failed(400, body)
    assert (failure.reason, failure.http_status, failure.is_retryable) == (Reason.MODEL_NOT_FOUND, 400, False)
    assert failed(500, body).reason is Reason.ERROR
    assert told_failure(body, REQUEST, means=400).reason is Reason.MODEL_NOT_FOUND


def test_a_tier_that_is_full_is_the_provider_s_trouble() -> None:
    body = {"error": {"message": "capacity_exceeded"}}
    assert failed(498, body).reason is Reason.ERROR


def test_a_quota_that_comes_back_is_worth_waiting_for() -> None:
    # Google's words for so many requests a minute.
    failure = failed(429, {"error": {"code": 429, "message": "You exceeded your current quota, please wait"}})
    assert (failure.reason, failure.is_retryable) == (Reason.RATE_LIMITED, True)


def test_an_account_without_money_is_told_under_any_status() -> None:
    failure = told_failure({"error": {"message": "no", "code": "insufficient_quota"}}, REQUEST)
    assert (failure.reason, failure.http_status, failure.is_retryable) == (Reason.CREDENTIAL_REFUSED, 200, False)
