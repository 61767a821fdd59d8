"""Complete answers in OpenAI's wire format."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import orjson

from services.gateway.domain import Model
from turnout.chat.v1 import message_pb2
from turnout.executor.v1 import execution_service_pb2 as pb
from turnout.router.v1 import decision_pb2

FINISH_REASONS: Final = {
    message_pb2.FINISH_REASON_STOP: "stop",
    message_pb2.FINISH_REASON_LENGTH: "length",
    message_pb2.FINISH_REASON_TOOL_CALLS: "tool_calls",
    message_pb2.FINISH_REASON_CONTENT_FILTER: "content_filter",
}
EVALUATIONS: Final = {
    decision_pb2.EVALUATION_MATCHED: "MATCHED",
    decision_pb2.EVALUATION_DEFAULT_MATCHED: "DEFAULT_MATCHED",
}


def completion(response: pb.RunResponse, created: int) -> bytes:
    """A `chat.completion`.

    :param created: Unix time in seconds
    """
    message = response.message
    return orjson.dumps(
        {
            "id": response.request_id,
            "object": "chat.completion",
            "created": created,
            "model": response.model,
            "choices": [
                {
                    "index": 0,
                    "message": _message(message),
                    "logprobs": None,
                    "finish_reason": finish_reason(response.finish_reason, has_tool_calls=bool(message.tool_calls)),
                }
            ],
            "usage": usage(response.usage),
            "turnout": turnout(response, response, is_mocked=response.mocked),
        }
    )


def finish_reason(number: message_pb2.FinishReason.ValueType, *, has_tool_calls: bool) -> str:
    """OpenAI's word. Where it has none, or the provider gave none, the most likely: its clients know no other."""
    return FINISH_REASONS.get(number) or ("tool_calls" if has_tool_calls else "stop")


def usage(counted: message_pb2.Usage) -> dict[str, Any] | None:
    """Tokens; None unless both sums are known, because clients add them up and unknown is not zero."""
    if not (counted.HasField("input_tokens") and counted.HasField("output_tokens")):
        return None
    said: dict[str, Any] = {
        "prompt_tokens": counted.input_tokens,
        "completion_tokens": counted.output_tokens,
        "total_tokens": counted.input_tokens + counted.output_tokens,
    }
    if counted.HasField("cached_input_tokens"):
        said["prompt_tokens_details"] = {"cached_tokens": counted.cached_input_tokens}
    if counted.HasField("reasoning_output_tokens"):
        said["completion_tokens_details"] = {"reasoning_tokens": counted.reasoning_output_tokens}
    return said


def turnout(
    start: pb.RunResponse | pb.RunStarted, end: pb.RunResponse | pb.RunEnded, *, is_mocked: bool
) -> dict[str, Any]:
    """What OpenAI's format has no word for: which variant served, and what it took."""
    decision = start.decision
    return {
        "request_id": start.request_id,
        "deployment": decision.deployment or None,
        "alias": decision.alias or None,
        "revision": decision.revision or None,
        "revision_number": decision.revision_number or None,
        "variant": decision.variant_slug or None,
        "variant_uid": decision.variant or None,
        "evaluation": EVALUATIONS.get(decision.evaluation),
        "provider": start.provider,
        "version": start.version,
        "cost_usd": end.cost_usd_micros / 1e6 if end.HasField("cost_usd_micros") else None,
        "attempts": len(end.attempts),
        "fallback_index": start.fallback_index,
        "output_violations": list(end.output_violations),
        "mocked": is_mocked,
        "latency_ms": end.latency_us / 1000,
    }


def headers(start: pb.RunResponse | pb.RunStarted) -> dict[str, str]:
    """What the answer's headers say of it; of a call without a deployment there is no variant."""
    found = {"x-request-id": start.request_id}
    if isinstance(start, pb.RunResponse) and start.repeated_answer:
        found["Idempotency-Replayed"] = "true"
    if variant := start.decision.variant_slug:
        found["x-turnout-variant"] = variant
    return found


def models(listed: Iterable[Model]) -> bytes:
    """A list of models."""
    return orjson.dumps({"object": "list", "data": [_model(each) for each in listed]})


def model(one: Model) -> bytes:
    """One model."""
    return orjson.dumps(_model(one))


def _model(one: Model) -> dict[str, Any]:
    return {"id": one.id, "object": "model", "created": one.created_seconds, "owned_by": one.owner}


def with_extra_content(said: dict[str, Any], extra_content_json: str) -> dict[str, Any]:
    """A tool call, with what the provider wants back beside it."""
    if extra_content_json:
        said["extra_content"] = orjson.Fragment(extra_content_json)
    return said


def _tool_call(call: message_pb2.ToolCall) -> dict[str, Any]:
    function = {"name": call.tool, "arguments": call.arguments_json}
    return with_extra_content({"id": call.id, "type": "function", "function": function}, call.extra_content_json)


def _message(message: message_pb2.Message) -> dict[str, Any]:
    content = message.content
    if message.parts:
        content = "".join(part.text for part in message.parts)
    said: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
    if message.tool_calls:
        said["content"] = content or None
        said["tool_calls"] = [_tool_call(call) for call in message.tool_calls]
    if message.reasoning:
        said["reasoning_content"] = message.reasoning
    return said
