"""What Ollama answers, read with distrust: it becomes an answer or a failure with a reason."""

from __future__ import annotations

from typing import Final

from completions.chat import Message, Role, ToolCall
from kit.egress import EgressResponse
from kit.json import Json
from services.executor.domain import FinishReason, ProviderAnswer, ProviderRequest, Usage
from services.executor.providers import answers
from services.executor.providers.answers import Malformed, count_of, counts_in, json_object_of, model_of, text_of
from services.executor.providers.failures import Told, told_failure

_FINISH_REASONS: Final = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}


def read(response: EgressResponse, request: ProviderRequest, retry_statuses: frozenset[int]) -> ProviderAnswer:
    """An answer with status 200.

    :raises Malformed: if it makes no sense
    :raises Told: if it tells of a failure
    """
    answer = json_object_of(response, request)
    message = answer.get("message")
    if not isinstance(message, dict):
        if answer.get("error"):
            raise told(answer, request, retry_statuses)
        raise Malformed("has no message")
    calls = tool_calls_of(message)
    return ProviderAnswer(
        message=Message(
            Role.ASSISTANT,
            content=text_of(message.get("content")),
            tool_calls=tuple(calls),
            reasoning=text_of(message.get("thinking")),
        ),
        finish_reason=finish_reason_of(answer.get("done_reason"), has_calls=bool(calls)),
        usage=usage_of(answer),
        model=model_of(answer.get("model"), request.model),
        http_status=response.status,
    )


def told(answer: Json, request: ProviderRequest, retry_statuses: frozenset[int]) -> Told:
    """An error under the status 200, as a stream brings it, to be raised: it means what 500 does."""
    return Told(told_failure(answer, request, means=500, retry_statuses=retry_statuses))


def finish_reason_of(finish: Json, *, has_calls: bool) -> FinishReason | None:
    """Why the model stopped; None if the provider did not say. It calls the wish for a tool an end as any other."""
    if not isinstance(finish, str):
        return None
    reason = _FINISH_REASONS.get(finish, FinishReason.OTHER)
    return FinishReason.TOOL_CALLS if has_calls and reason is FinishReason.STOP else reason


def usage_of(answer: Json) -> Usage:
    """Tokens, as far as the provider told."""
    counts = counts_in(answer)
    return Usage(
        input_tokens=count_of(counts.get("prompt_eval_count")), output_tokens=count_of(counts.get("eval_count"))
    )


def tool_calls_of(message: dict[str, Json]) -> list[ToolCall]:
    """The calls of a message, each whole.

    :raises Malformed: if they make no sense
    """
    calls = message.get("tool_calls")
    return answers.tool_calls_of(calls) if calls else []
