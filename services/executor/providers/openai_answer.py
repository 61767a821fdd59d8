"""What OpenAI and its likes answer, read with distrust: it becomes an answer or a failure with a reason. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

import orjson

from completions.chat import Message, Role, TextPart, ToolCall
from kit.egress import EgressResponse
from kit.json import Json
from kit.secrets import redact
from services.executor.domain import FinishReason, ProviderAnswer, ProviderFailure, ProviderRequest, Reason, Usage

MAX_QUOTED_CHARACTERS: Final = 200
_MAX_READ_CHARACTERS: Final = 65_536
"""What of a provider's words is searched for what may not be quoted."""
_MIN_CONTENT_CHARACTERS: Final = 8
"""Shorter contents are ordinary words; looking for them would take every second quotation apart."""
_MAX_NAME_CHARACTERS: Final = 256
_MAX_COUNT: Final = 10**12
"""No call takes more tokens; a larger number is a mistake, and would not fit where costs are kept."""
_FINISH_REASONS: Final = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}


class Malformed(Exception):
    """What is wrong with an answer, as the end of the sentence "the provider's answer …"."""


def read(response: EgressResponse, request: ProviderRequest) -> ProviderAnswer | ProviderFailure:
    """An answer with status 200."""
    try:
        return _answer(response, request)
    except Malformed as problem:
        return malformed(str(problem), response.status)


def malformed(problem: str, http_status: int) -> ProviderFailure:
    """An answer that makes no sense.

    :param problem: the end of the sentence "the provider's answer …"
    """
    message = f"the provider's answer {problem}"
    return ProviderFailure(Reason.MALFORMED_RESPONSE, message, http_status, is_retryable=True)


def read_failure(
    response: EgressResponse, request: ProviderRequest, retry_statuses: frozenset[int], *, unix_seconds: float
) -> ProviderFailure:
    """An answer with any other status.

    :param unix_seconds: the time, for a `Retry-After` that names one
    """
    status = response.status
    words = quoted(words_of(_parsed(response.body)), request)
    return ProviderFailure(
        reason=_reason(status),
        message=f"the provider answered HTTP {status}{words}",
        http_status=status,
        is_retryable=status in retry_statuses,
        retry_after_seconds=_retry_after(response.headers, unix_seconds),
    )


def _reason(status: int) -> Reason:
    if status in (401, 403):
        return Reason.CREDENTIAL_REFUSED
    if status == 404:
        return Reason.MODEL_NOT_FOUND
    if status == 429:
        return Reason.RATE_LIMITED
    if 300 <= status < 400:
        return Reason.REDIRECTED
    # 408 and 409 are the provider's own trouble: the same request may succeed.
    if 400 <= status < 500 and status not in (408, 409):
        return Reason.REJECTED_REQUEST
    return Reason.ERROR if status >= 400 else Reason.MALFORMED_RESPONSE


def _answer(response: EgressResponse, request: ProviderRequest) -> ProviderAnswer:
    kind = response.headers.get("Content-Type", "")
    if kind and "json" not in kind.lower():
        raise Malformed(f"is not JSON{quoted(kind, request)}")
    try:
        answer: Json = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        raise Malformed("is not valid JSON") from None
    if not isinstance(answer, dict):
        raise Malformed("is not a JSON object")
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        if "error" in answer:
            raise Malformed(f"is an error with status 200{quoted(words_of(answer), request)}")
        raise Malformed("has no choices")
    choice = choices[0]
    if not isinstance(choice, dict):
        raise Malformed("has a choice that is not an object")
    message = choice.get("message")
    if not isinstance(message, dict):
        raise Malformed("has a choice without a message")
    return ProviderAnswer(
        message=_message(message),
        finish_reason=finish_reason_of(choice.get("finish_reason")),
        usage=usage_of(answer.get("usage")),
        model=model_of(answer.get("model"), request.model),
        http_status=response.status,
    )


def finish_reason_of(finish: Json) -> FinishReason | None:
    """Why the model stopped; None if the provider did not say."""
    return _FINISH_REASONS.get(finish, FinishReason.OTHER) if isinstance(finish, str) else None


def model_of(model: Json, otherwise: str) -> str:
    """What answered, in the provider's words."""
    return model[:_MAX_NAME_CHARACTERS] if isinstance(model, str) and model else otherwise


def _message(message: dict[str, Json]) -> Message:
    content, parts = _content(message.get("content"))
    refusal = message.get("refusal")
    if not content and not parts and isinstance(refusal, str):
        content = refusal
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    calls = message.get("tool_calls")
    return Message(
        Role.ASSISTANT,
        content=content,
        parts=parts,
        tool_calls=_tool_calls(calls) if calls else (),
        reasoning=reasoning if isinstance(reasoning, str) else "",
    )


def _content(content: Json) -> tuple[str, tuple[TextPart, ...]]:
    if content is None:
        return "", ()
    if isinstance(content, str):
        return content, ()
    if not isinstance(content, list):
        raise Malformed("has a message whose content is neither text nor a list")
    texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
    return "", tuple(TextPart(text) for text in texts if isinstance(text, str))


def _tool_calls(calls: Json) -> tuple[ToolCall, ...]:
    if not isinstance(calls, list):
        raise Malformed("has tool calls that are no list")
    found = []
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(call, dict) or not isinstance(function, dict):
            raise Malformed("has a tool call without a function")
        uid, name, arguments = call.get("id"), function.get("name"), function.get("arguments")
        if not isinstance(name, str) or not name:
            raise Malformed("has a tool call without a name")
        found.append(
            ToolCall(
                id=uid if isinstance(uid, str) else "",
                name=name,
                # Some servers answer the object where the contract wants its text.
                arguments_json=arguments if isinstance(arguments, str) else orjson.dumps(arguments or {}).decode(),
            )
        )
    return tuple(found)


def usage_of(usage: Json) -> Usage:
    """Tokens, as far as the provider told."""
    if not isinstance(usage, dict):
        return Usage()
    read_details, written_details = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    return Usage(
        input_tokens=_count(usage, "prompt_tokens"),
        output_tokens=_count(usage, "completion_tokens"),
        cached_input_tokens=_count(read_details, "cached_tokens"),
        reasoning_output_tokens=_count(written_details, "reasoning_tokens"),
    )


def _count(counts: Json, name: str) -> int | None:
    value = counts.get(name) if isinstance(counts, dict) else None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_COUNT:
        return value
    return None


def _parsed(body: bytes) -> Json:
    try:
        parsed: Json = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return parsed


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


def quoted(words: str, request: ProviderRequest) -> str:
    """A provider's words as the end of a sentence, without the credential and without what the call said."""
    words = words[:_MAX_READ_CHARACTERS]
    if request.credential is not None:
        words = redact(words, (request.credential,))
    for message in request.messages:
        texts = (message.content, *(part.text for part in message.parts if isinstance(part, TextPart)))
        for text in texts:
            if len(text) >= _MIN_CONTENT_CHARACTERS:
                words = words.replace(text, "<content>")
    words = _cut(words, MAX_QUOTED_CHARACTERS)
    return f': "{words}"' if words else ""


def _cut(text: str, limit: int) -> str:
    text = "".join([character if character.isprintable() else " " for character in text[: limit + 1]])
    return (text if len(text) <= limit else text[: limit - 1] + "…").strip()


def _retry_after(headers: Mapping[str, str], unix_seconds: float) -> float | None:
    """Seconds to wait, from a number of them or an HTTP date (RFC 9110, 10.2.3); None if absent or malformed."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.replace(".", "", 1).isdigit():
        return float(value) if len(value) <= 9 else None
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, when.timestamp() - unix_seconds)
