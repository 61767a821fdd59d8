"""What Anthropic answers, read with distrust: it becomes an answer or a failure with a reason."""

from __future__ import annotations

from typing import Final

from completions.chat import Message, Role, ToolCall
from kit.egress import EgressResponse
from kit.json import Json
from services.executor.domain import FinishReason, ProviderAnswer, ProviderRequest, Usage
from services.executor.providers.answers import (
    Malformed,
    arguments_json,
    count_of,
    counts_in,
    json_object_of,
    model_of,
    text_of,
)
from services.executor.providers.failures import Told, told_failure

_FINISH_REASONS: Final = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "refusal": FinishReason.CONTENT_FILTER,
}
"""`pause_turn`, a tool of the provider's own that wants more time, is another reason."""
_STATUSES: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""Which status a kind of error has, where it comes without one."""


def read(response: EgressResponse, request: ProviderRequest) -> ProviderAnswer:
    """An answer with status 200.

    :raises Malformed: if it makes no sense
    :raises Told: if it tells of a failure
    """
    answer = json_object_of(response, request)
    blocks = answer.get("content")
    if not isinstance(blocks, list):
        if "error" in answer:
            raise Told(told_failure(answer, request))
        raise Malformed("has no content")
    return ProviderAnswer(
        message=_message(blocks),
        finish_reason=finish_reason_of(answer.get("stop_reason")),
        usage=usage_of(answer.get("usage")),
        model=model_of(answer.get("model"), request.model),
        http_status=response.status,
    )


def told(answer: dict[str, Json], request: ProviderRequest, retry_statuses: frozenset[int]) -> Told:
    """An error under the status 200, as a stream brings it, to be raised."""
    error = answer.get("error")
    status = _STATUSES.get(text_of(error.get("type")) if isinstance(error, dict) else "", 500)
    return Told(told_failure(answer, request, means=status, retry_statuses=retry_statuses))


def finish_reason_of(finish: Json) -> FinishReason | None:
    """Why the model stopped; None if the provider did not say."""
    return _FINISH_REASONS.get(finish, FinishReason.OTHER) if isinstance(finish, str) and finish else None


def usage_of(usage: Json) -> Usage:
    """Tokens, as far as the provider told. It counts what the cache gave and took apart from the other input."""
    if not isinstance(usage, dict):
        return Usage()
    fresh, cached = count_of(usage.get("input_tokens")), count_of(usage.get("cache_read_input_tokens"))
    written = count_of(usage.get("cache_creation_input_tokens"))
    details, kept = counts_in(usage.get("output_tokens_details")), counts_in(usage.get("cache_creation"))
    return Usage(
        input_tokens=None if fresh is None else fresh + (cached or 0) + (written or 0),
        output_tokens=count_of(usage.get("output_tokens")),
        cached_input_tokens=cached,
        reasoning_output_tokens=count_of(details.get("thinking_tokens")),
        cache_write_input_tokens=written,
        cache_write_1h_input_tokens=count_of(kept.get("ephemeral_1h_input_tokens")),
    )


def _message(blocks: list[Json]) -> Message:
    content, reasoning, calls = [], [], []
    for block in blocks:
        if not isinstance(block, dict):
            raise Malformed("has a piece of content that is not an object")
        match block.get("type"):
            case "text":
                content.append(text_of(block.get("text")))
            case "thinking":
                reasoning.append(text_of(block.get("thinking")))
            case "tool_use":
                calls.append(_tool_call(block))
    return Message(Role.ASSISTANT, content="".join(content), tool_calls=tuple(calls), reasoning="".join(reasoning))


def _tool_call(block: dict[str, Json]) -> ToolCall:
    name, given = text_of(block.get("name")), block.get("input")
    if not name:
        raise Malformed("has a tool call without a name")
    return ToolCall(text_of(block.get("id")), name, arguments_json(given))
