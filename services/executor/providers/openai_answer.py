"""What OpenAI and its likes answer, read with distrust: it becomes an answer or a failure with a reason."""

from __future__ import annotations

import re
from typing import Final

from completions.chat import Message, Role, TextPart
from kit.egress import EgressResponse
from kit.json import Json
from services.executor.domain import FinishReason, ProviderAnswer, ProviderRequest, Usage
from services.executor.providers.answers import Malformed, count_of, json_object_of, model_of, tool_calls_of
from services.executor.providers.failures import Told, told_failure

_FINISH_REASONS: Final = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
    "model_length": FinishReason.LENGTH,  # Mistral
    "model_context_window_exceeded": FinishReason.LENGTH,  # Z.ai
    "sensitive": FinishReason.CONTENT_FILTER,  # Z.ai
    "end_turn": FinishReason.STOP,  # xAI
}
_BROKEN: Final = frozenset(
    (
        "error",  # OpenRouter, Mistral, Together
        "network_error",  # Z.ai
        "insufficient_system_resource",  # DeepSeek
    )
)
"""Why a model stopped that had not finished."""


def read(response: EgressResponse, request: ProviderRequest, retry_statuses: frozenset[int]) -> ProviderAnswer:
    """An answer with status 200.

    :raises Malformed: if it makes no sense
    :raises Told: if it tells of a failure
    """
    answer = json_object_of(response, request)
    if answer.get("error"):
        raise told(answer, request, retry_statuses)
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        raise Malformed("has no choices")
    alone = choices[0] if len(choices) == 1 else None
    choice = alone if isinstance(alone, dict) else first_choice(choices)
    if choice is None:
        raise Malformed("has no first choice")
    finish_reason = finish_reason_of(choice, request, retry_statuses)
    message = choice.get("message")
    if not isinstance(message, dict):
        raise Malformed("has a choice without a message")
    said = _message(message)
    if message.get("refusal"):
        # It ends as any other answer does; only its place says what it is.
        finish_reason = FinishReason.CONTENT_FILTER
    elif said.tool_calls:
        finish_reason = as_called(finish_reason, has_calls=True)
    return ProviderAnswer(
        message=said,
        finish_reason=finish_reason,
        usage=usage_of(answer.get("usage")),
        model=model_of(answer.get("model"), request.model),
        http_status=response.status,
    )


def first_choice(choices: list[Json]) -> dict[str, Json] | None:
    """The choice that is the answer, wherever it stands: that with index 0, or with none. None if it is not there.

    :raises Malformed: if one is not an object
    """
    for choice in choices:
        if not isinstance(choice, dict):
            raise Malformed("has a choice that is not an object")
        if not choice.get("index"):
            return choice
    return None


def told(answer: dict[str, Json], request: ProviderRequest, retry_statuses: frozenset[int]) -> Told:
    """An error under the status 200, to be raised. Gateways that sent it before their model failed say as the error's
    code which status it would have been."""
    error = answer.get("error")
    code = str(error.get("code")) if isinstance(error, dict) else ""
    means = int(code) if re.fullmatch("[45][0-9][0-9]", code) else None
    return Told(told_failure(answer, request, means=means, retry_statuses=retry_statuses))


def finish_reason_of(
    choice: dict[str, Json], request: ProviderRequest, retry_statuses: frozenset[int]
) -> FinishReason | None:
    """Why the model stopped; None if the provider did not say.

    :raises Malformed: if it had not finished
    :raises Told: if the provider says what happened
    """
    finish = choice.get("finish_reason")
    if not isinstance(finish, str) or not finish:
        return None
    if finish in _BROKEN:
        if choice.get("error"):
            raise told(choice, request, retry_statuses)
        raise Malformed("ends in an error")
    return _FINISH_REASONS.get(finish, FinishReason.OTHER)


def as_called(reason: FinishReason | None, *, has_calls: bool) -> FinishReason | None:
    """Why the model stopped. OpenAI, of a tool that it was told to call, and Google, in a stream, call the wish for one
    an end as any other."""
    return FinishReason.TOOL_CALLS if has_calls and reason is FinishReason.STOP else reason


def texts_of(parts: list[Json]) -> list[str]:
    """The texts among the parts of a content."""
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    return [text for text in texts if isinstance(text, str)]


def _message(message: dict[str, Json]) -> Message:
    given = message.get("content")
    content, parts = (given, ()) if isinstance(given, str) else _content(given)
    refusal = message.get("refusal")
    if not content and not parts and isinstance(refusal, str):
        content = refusal
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    calls = message.get("tool_calls")
    return Message(
        Role.ASSISTANT,
        content=content,
        parts=parts,
        tool_calls=tuple(tool_calls_of(calls)) if calls else (),
        reasoning=reasoning if isinstance(reasoning, str) else "",
    )


def _content(content: Json) -> tuple[str, tuple[TextPart, ...]]:
    if content is None:
        return "", ()
    if not isinstance(content, list):
        raise Malformed("has a message whose content is neither text nor a list")
    texts = texts_of(content)
    if len(texts) == len(content):
        return "".join(texts), ()
    return "", tuple(map(TextPart, texts))


def usage_of(usage: Json) -> Usage:
    """Tokens, as far as the provider told."""
    if not isinstance(usage, dict):
        return Usage()
    prompt, completion = count_of(usage.get("prompt_tokens")), count_of(usage.get("completion_tokens"))
    total, output = count_of(usage.get("total_tokens")), completion
    cached = cache_write = reasoning = None
    if isinstance(read := usage.get("prompt_tokens_details"), dict):
        cached, cache_write = count_of(read.get("cached_tokens")), count_of(read.get("cache_write_tokens"))
    if isinstance(written := usage.get("completion_tokens_details"), dict):
        reasoning = count_of(written.get("reasoning_tokens"))
    if prompt is not None and completion is not None and total is not None:
        # xAI and Google leave thoughts out of the completion; they stand in the total, and Google tells of them nowhere
        # else. All that is billed as output is meant.
        thoughts = total - prompt - completion
        if thoughts > 0 and reasoning in (None, thoughts):
            output = completion + thoughts
    return Usage(
        input_tokens=prompt,
        output_tokens=output,
        cached_input_tokens=cached,
        reasoning_output_tokens=reasoning,
        cache_write_input_tokens=cache_write,
    )
