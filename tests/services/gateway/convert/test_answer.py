from __future__ import annotations

from typing import Any

import orjson
import pytest
from openai.types.chat import ChatCompletion

from services.gateway.convert import answer
from services.gateway.domain import Model
from tests.services.gateway.executors import response
from turnout.chat.v1 import message_pb2
from turnout.chat.v1.message_pb2 import FinishReason, Message, Part, Usage
from turnout.executor.v1 import execution_service_pb2 as pb
from turnout.router.v1.decision_pb2 import EVALUATION_UNSPECIFIED, Evaluation


def completion(made: pb.RunResponse) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(answer.completion(made, 1_800_000_000))
    # Strictly: the SDK itself takes almost anything.
    ChatCompletion.model_validate(body, strict=False)
    return body


def test_a_completion_has_openais_shape() -> None:
    body = completion(response())
    assert (body["object"], body["created"], body["id"]) == ("chat.completion", 1_800_000_000, "req_1")
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Paris.", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]


@pytest.mark.parametrize("number", FinishReason.values())
@pytest.mark.parametrize("has_tool_calls", [False, True])
def test_every_reason_to_stop_is_one_of_openais(number: FinishReason.ValueType, *, has_tool_calls: bool) -> None:
    word = answer.finish_reason(number, has_tool_calls=has_tool_calls)
    assert word in {"stop", "length", "tool_calls", "content_filter"}
    if number in (message_pb2.FINISH_REASON_UNSPECIFIED, message_pb2.FINISH_REASON_OTHER):
        assert word == ("tool_calls" if has_tool_calls else "stop")
    else:
        assert FinishReason.Name(number) == f"FINISH_REASON_{word.upper()}"


@pytest.mark.parametrize("number", Evaluation.values())
def test_every_evaluation_has_its_word(number: Evaluation.ValueType) -> None:
    if number != EVALUATION_UNSPECIFIED:
        assert Evaluation.Name(number) == f"EVALUATION_{answer.EVALUATIONS[number]}"


def test_unknown_is_never_zero() -> None:
    made = response(usage=Usage(input_tokens=3))
    made.ClearField("cost_usd_micros")
    body = completion(made)
    assert (body["usage"], body["turnout"]["cost_usd"]) == (None, None)
    assert answer.usage(Usage(input_tokens=3, output_tokens=0)) == {
        "prompt_tokens": 3,
        "completion_tokens": 0,
        "total_tokens": 3,
    }


def test_an_answer_in_parts_and_its_reasoning_are_told() -> None:
    message = Message(parts=[Part(text="a"), Part(text="b")], reasoning="hm")
    said = completion(response(message=message))["choices"][0]["message"]
    assert (said["content"], said["reasoning_content"]) == ("ab", "hm")


def test_what_became_of_the_answer_is_told() -> None:
    made = response(fallback_index=2, output_violations=["city must be a string"], mocked=True, repeated_answer=True)
    said = completion(made)["turnout"]
    assert (said["fallback_index"], said["output_violations"], said["mocked"]) == (2, ["city must be a string"], True)
    assert answer.headers(made)["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in answer.headers(response())


def test_a_call_without_a_deployment_has_no_variant() -> None:
    made = response()
    made.ClearField("decision")
    said = completion(made)["turnout"]
    assert {said[name] for name in ("deployment", "alias", "revision", "variant", "variant_uid")} == {None}
    assert "x-turnout-variant" not in answer.headers(made)


def test_models_have_openais_shape() -> None:
    one = {"id": "turnout/deployment/a", "object": "model", "created": 7, "owned_by": "shop"}
    model = Model("turnout/deployment/a", "shop", 7)
    assert orjson.loads(answer.model(model)) == one
    assert orjson.loads(answer.models([model])) == {"object": "list", "data": [one]}
