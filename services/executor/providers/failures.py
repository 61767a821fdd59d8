"""What a provider says went wrong, made a failure with a reason, whoever the provider is. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

import orjson

from kit.egress import EgressResponse
from kit.errors import AppError
from kit.json import Json
from services.executor.domain import ProviderFailure, ProviderRequest, Reason
from services.executor.providers.quotation import quoted

_MAX_READ_CHARACTERS: Final = 65_536
"""What of a provider's words is searched for what they mean."""
_MAX_RETRY_AFTER_SECONDS: Final = 86_400.0
"""Longer nobody waits, and a clock that is years ahead is a mistake."""

_CONTEXT_CODES: Final = frozenset(
    (
        "context_length_exceeded",  # OpenAI, Azure, Groq, Cerebras
        "string_above_max_length",  # OpenAI, one message alone
        "exceed_context_size_error",  # llama.cpp
        "model_context_window_exceeded",
    )
)
_CONTEXT_WORDS: Final = re.compile(
    # One line per wording, with who says so; numbers and names between are theirs.
    r"context_?(?: |_)?length_?(?: |_)?exceeded|exceed_context_size_error"
    r"|maximum context length"  # OpenAI, vLLM, DeepSeek, OpenRouter, Mistral, Fireworks
    r"|(?:exceeds?|exceeded|larger than|longer than|greater than) (?:the |its |this )?"
    r"(?:model'?s? )?(?:available |maximum |max |input )*(?:context|model) (?:length|size|window|limit)"
    # ↑ OpenAI's Responses, llama.cpp, SGLang, Together, LM Studio, Ollama, vLLM's "maximum model length"
    r"|longer than the model's context|maximum model length"
    r"|context window ?exceeded|contextwindowexceeded"  # LiteLLM
    r"|prompt is too long|prompt too long|input is too long"  # Anthropic, Ollama's cloud, Bedrock
    r"|exceed (?:the )?context limit"  # Anthropic, prompt and max_tokens together
    r"|reduce the length of the (?:messages|prompt|input)"  # OpenAI, Groq
    r"|context (?:the )?overflows?"  # LM Studio
    r"|too large for model with"  # Mistral
    r"|maximum prompt length is"  # xAI
    r"|exceeded model token limit"  # Moonshot
    r"|(?:token count|number of tokens|input tokens?)[^.]{0,40} exceeds? the (?:maximum|limit)"  # Google
    r"|exceeds the maximum number of tokens"
    r"|must be <= ?\d+\. given: \d+ `?inputs`? tokens"  # Together and TGI
    r"|`?inputs`? tokens? \+ `?max_new_tokens`? must be",
    re.IGNORECASE,
)
_RATE_WORDS: Final = re.compile(r"rate.?limit|throttl|quota|per (?:minute|hour|day)", re.IGNORECASE)
"""A prompt that is too large for this minute fits the model."""
_NOT_ABOUT_CONTEXT: Final = frozenset((401, 402, 403, 404, 408, 409, 429))
_UNPAID_CODES: Final = frozenset(
    (
        "insufficient_quota",  # OpenAI, with 429: waiting does not help
        "billing_hard_limit_reached",  # OpenAI, with 400
        "billing_not_active",  # OpenAI, with 429
        "billing_error",  # Anthropic
        "exceeded_current_quota_error",  # Moonshot, with 429
        "Arrearage",  # Alibaba, with 400
    )
)
_UNPAID_WORDS: Final = re.compile(
    # Anthropic's, which it calls an invalid request: no money left, and the limit that its owner has set.
    r"credit balance is too low|reached your specified [\w ]{1,30}usage limits",
    re.IGNORECASE,
)
_KEY_WORDS: Final = re.compile(
    # Google, xAI, Anthropic: with 400, as if the request were wrong.
    r"API key (?:not valid|not found|expired)|incorrect(?: |%20)API(?: |%20)key(?: |%20)provided"
    r"|organization has been disabled",
    re.IGNORECASE,
)

_NO_MODEL_CODES: Final = frozenset(
    (
        "model_decommissioned",  # Groq
        "model_not_found",
    )
)
_NO_MODEL_WORDS: Final = re.compile(
    # DeepSeek, OpenRouter, Mistral: with 400, as if the request were wrong.
    r"model not exist|is not a valid model id|^invalid model: ",
    re.IGNORECASE,
)

_FORMAT: Final = "response_format"
"""What servers of OpenAI's kind call it in their words, too."""


class Told(Exception):
    """A failure that came as a piece of a streamed answer."""

    def __init__(self, failure: ProviderFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def malformed(problem: str, http_status: int) -> ProviderFailure:
    """An answer that makes no sense.

    :param problem: the end of the sentence "the provider's answer …"
    """
    message = f"the provider's answer {problem}"
    return ProviderFailure(Reason.MALFORMED_RESPONSE, message, http_status, is_retryable=True)


def failure_of_egress(error: AppError) -> ProviderFailure:
    """What it means that no answer came, or not the whole of one."""
    match error.reason:
        case "EGRESS_TIMEOUT":
            return ProviderFailure(Reason.TIMEOUT, error.message, 0, is_retryable=True)
        case "EGRESS_CONNECTION_FAILED" | "EGRESS_NAME_UNRESOLVED":
            return ProviderFailure(Reason.UNREACHABLE, error.message, 0, is_retryable=True)
        case "EGRESS_MALFORMED_RESPONSE" | "EGRESS_RESPONSE_TOO_LARGE":
            return ProviderFailure(Reason.MALFORMED_RESPONSE, error.message, 0, is_retryable=True)
        case "EGRESS_REQUEST_INVALID":
            # Nothing but the credential in the headers comes from outside.
            return ProviderFailure(
                Reason.CREDENTIAL_REFUSED, "the credential cannot be sent in an HTTP header", 0, is_retryable=False
            )
    return ProviderFailure(Reason.ADDRESS_REFUSED, error.message, 0, is_retryable=False)


def read_failure(
    response: EgressResponse, request: ProviderRequest, retry_statuses: frozenset[int], *, unix_seconds: float
) -> ProviderFailure:
    """An answer with any status but 200.

    :param unix_seconds: the time, for a `Retry-After` that names one
    """
    status, answer = response.status, _parsed(response.body)
    words = quoted(words_of(answer), request)
    if status >= 400 and status not in _NOT_ABOUT_CONTEXT and does_not_fit(answer):
        return ProviderFailure(
            Reason.CONTEXT_LENGTH_EXCEEDED, f"the prompt does not fit the model{words}", status, is_retryable=False
        )
    said = _reason_in_words(answer, status)
    reason = said or reason_of(status)
    if reason is Reason.REJECTED_REQUEST and b'"response_format":' in request.prepared_body and _FORMAT in words:
        words += "; if the model takes no such format, say so in its provider's model_facts (structured_output)"
    return ProviderFailure(
        reason=reason,
        message=f"the provider answered HTTP {status}{words}",
        http_status=status,
        is_retryable=status in retry_statuses and said is None,
        retry_after_seconds=_retry_after(response.headers, unix_seconds),
    )


def told_failure(
    answer: Json, request: ProviderRequest, *, means: int | None = None, retry_statuses: frozenset[int] = frozenset()
) -> ProviderFailure:
    """An error under the status 200: that the prompt does not fit, or what the status that it should have had means.

    :param means: that status; None if nothing says, and so the answer makes no sense
    """
    words = quoted(words_of(answer), request)
    if does_not_fit(answer):
        message = f"the prompt does not fit the model{words}"
        return ProviderFailure(Reason.CONTEXT_LENGTH_EXCEEDED, message, 200, is_retryable=False)
    message = f"the provider told of an error in its answer{words}"
    if (said := _reason_in_words(answer, means)) is not None:
        return ProviderFailure(said, message, 200, is_retryable=False)
    if means is None:
        return malformed(f"is an error with status 200{words}", 200)
    return ProviderFailure(reason_of(means), message, 200, is_retryable=means in retry_statuses)


def reason_of(status: int) -> Reason:
    """What an HTTP status other than 200 means."""
    # An account without money is the operator's matter as its credential is.
    if status in (401, 402, 403):
        return Reason.CREDENTIAL_REFUSED
    if status == 404:
        return Reason.MODEL_NOT_FOUND
    if status == 429:
        return Reason.RATE_LIMITED
    if 300 <= status < 400:
        return Reason.REDIRECTED
    # These are the provider's own trouble: the same request may succeed. 498 is Groq's, of a tier that is full.
    if 400 <= status < 500 and status not in (408, 409, 498):
        return Reason.REJECTED_REQUEST
    return Reason.ERROR if status >= 400 else Reason.MALFORMED_RESPONSE


def _reason_in_words(answer: Json, status: int | None) -> Reason | None:
    """What an error's codes and words say that its status does not; None if nothing. No repetition helps against it."""
    if is_unpaid(answer) or (status == 400 and _refuses_key(answer)):
        return Reason.CREDENTIAL_REFUSED
    return Reason.MODEL_NOT_FOUND if status == 400 and _knows_no_model(answer) else None


def does_not_fit(answer: Json) -> bool:
    """Whether an error says that the prompt is longer than the model's context, by its code or in its words."""
    words = words_of(answer)[:_MAX_READ_CHARACTERS]
    if not _CONTEXT_CODES.isdisjoint(_codes(answer)):
        return True
    return _CONTEXT_WORDS.search(words) is not None and _RATE_WORDS.search(words) is None


def is_unpaid(answer: Json) -> bool:
    """Whether an error says that the account has no money left, or may spend no more, by its code or in its words."""
    if not _UNPAID_CODES.isdisjoint(_codes(answer)):
        return True
    return _UNPAID_WORDS.search(words_of(answer)[:_MAX_READ_CHARACTERS]) is not None


def _refuses_key(answer: Json) -> bool:
    return _KEY_WORDS.search(words_of(answer)[:_MAX_READ_CHARACTERS]) is not None


def _knows_no_model(answer: Json) -> bool:
    if not _NO_MODEL_CODES.isdisjoint(_codes(answer)):
        return True
    return _NO_MODEL_WORDS.search(words_of(answer)[:_MAX_READ_CHARACTERS]) is not None


def _codes(answer: Json) -> list[str]:
    """How an error calls itself."""
    error = answer.get("error") if isinstance(answer, dict) else None
    found = [each.get(name) for each in (answer, error) if isinstance(each, dict) for name in ("code", "type")]
    return [code for code in found if isinstance(code, str)]


def words_of(answer: Json) -> str:
    """What a provider says about its failure. Only fields made for that: a whole body may repeat the request."""
    for _ in range(3):
        if isinstance(answer, str):
            return answer
        if isinstance(answer, list):
            answer = answer[0] if answer else None
        if isinstance(answer, dict):
            answer = next((answer[name] for name in ("error", "message", "detail", "msg") if answer.get(name)), None)
    return answer if isinstance(answer, str) else ""


def _parsed(body: bytes) -> Json:
    try:
        parsed: Json = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return parsed


def _is_number(text: str) -> bool:
    return text.isascii() and text.replace(".", "", 1).isdigit()


def _retry_after(headers: Mapping[str, str], unix_seconds: float) -> float | None:
    """Seconds to wait, a day at most, from a number of them or an HTTP date (RFC 9110, 10.2.3), or from OpenAI's and
    Azure's more exact milliseconds; None if absent or malformed."""
    milliseconds = headers.get("retry-after-ms", "").strip()
    if _is_number(milliseconds):
        return min(float(milliseconds) / 1000, _MAX_RETRY_AFTER_SECONDS)
    value = headers.get("Retry-After", "").strip()
    if _is_number(value):
        return min(float(value), _MAX_RETRY_AFTER_SECONDS)
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        # Numbers that no calendar has overflow.
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return min(max(0.0, when.timestamp() - unix_seconds), _MAX_RETRY_AFTER_SECONDS)
