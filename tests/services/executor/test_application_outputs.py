"""Answers that have a JSON schema to keep to."""

from __future__ import annotations

from typing import Any

import pytest

from catalog.view import Fallback, OutputPolicy
from completions.chat import Message, Role, TextPart
from kit.errors import Precondition
from kit.values import replace
from services.executor.domain import Delta, Started, Usage
from services.executor.output_check import feedback
from tests.services.executor.house import ANSWER, FLAKY, Capital, House

SCHEMA: Any = {"type": "json_schema", "json_schema": {"schema": {"type": "string"}}}
LOWER = replace(ANSWER, message=Message(Role.ASSISTANT, "paris"), usage=Usage(10, 5))


async def test_an_answer_that_does_not_keep_to_its_schema_is_marked() -> None:
    run = await House(LOWER, response_format=SCHEMA).run()
    assert run.output_violations == ("answer must begin with a capital letter",)
    assert (await House(response_format=SCHEMA).run()).output_violations == ()
    assert (await House().run()).output_violations is None


async def test_a_model_is_told_what_is_wrong_and_asked_again() -> None:
    house = House(LOWER, response_format=SCHEMA, output_policy=OutputPolicy.RETRY, max_retries=1)
    run = await house.run()

    assert run.output_violations == ()
    assert [(each.role, each.content) for each in house.provider.requests[1].messages] == [
        ("user", "France?"),
        ("assistant", "paris"),
        ("user", feedback(("answer must begin with a capital letter",))),
    ]
    assert run.answer is not None
    assert run.answer.usage == Usage(34, 13), "both answers were paid for"
    assert run.cost_usd_micros == 84
    assert [(each.reason, each.message, each.http_status) for each in run.attempts] == [
        ("OUTPUT_INVALID", "answer must begin with a capital letter", 200),
        ("", "", 200),
    ]


@pytest.mark.parametrize("usages", [(Usage(), Usage(100, 50)), (Usage(100, 50), Usage())])
async def test_what_one_of_two_answers_did_not_cost_as_told_is_not_known_of_both(usages: tuple[Usage, Usage]) -> None:
    first, second = replace(LOWER, usage=usages[0]), replace(ANSWER, usage=usages[1])
    house = House(first, second, response_format=SCHEMA, output_policy=OutputPolicy.RETRY, max_retries=1)
    run = await house.run()
    assert run.answer is not None
    assert run.answer.usage == Usage()


async def test_an_answer_of_parts_is_held_against_its_schema_by_their_text() -> None:
    said = Message(Role.ASSISTANT, parts=(TextPart("pa"), TextPart("ris")))
    right = replace(ANSWER, message=Message(Role.ASSISTANT, parts=(TextPart("Pa"), TextPart("ris"))))
    assert (await House(right, response_format=SCHEMA).run()).output_violations == ()

    house = House(replace(LOWER, message=said), response_format=SCHEMA, output_policy=OutputPolicy.RETRY, max_retries=1)
    run = await house.run()
    assert run.output_violations == ()
    assert house.provider.requests[1].messages[1] == Message(Role.ASSISTANT, "paris"), "it is shown what it said"


@pytest.mark.parametrize(("model", "cost"), [("test-model", 42 + 42), ("unpriced", None)])
async def test_answers_of_two_places_are_each_paid_at_their_own_price(model: str, cost: int | None) -> None:
    spare = Fallback("prv_other", model, None, 0, None)
    house = House(
        LOWER, FLAKY, response_format=SCHEMA, output_policy=OutputPolicy.RETRY, max_retries=1, fallbacks=(spare,)
    )
    run = await house.run()
    assert run.fallback_index == 1
    assert run.cost_usd_micros == cost


@pytest.mark.parametrize(("policy", "asked"), [("retry", 3), ("fail", 1)])
async def test_an_answer_that_stays_wrong_is_not_taken_but_counted(policy: str, asked: int) -> None:
    house = House(LOWER, LOWER, LOWER, response_format=SCHEMA, output_policy=OutputPolicy(policy), max_retries=2)
    with pytest.raises(Precondition) as failure:
        await house.run()
    assert failure.value.reason == "OUTPUT_INVALID"
    assert len(house.provider.requests) == asked
    assert house.recorded.cost_usd_micros == 42 * asked, "every answer was paid for"
    assert house.recorded.answer is not None, "and the last one is told"
    told = [(each.target, each.reason, each.message, each.status) for each in failure.value.attempts]
    assert told == [("main/test-model", "OUTPUT_INVALID", "answer must begin with a capital letter", 200)] * asked
    assert [each.reason for each in house.recorded.attempts] == ["OUTPUT_INVALID"] * asked


async def test_a_streamed_answer_is_marked_whatever_the_policy() -> None:
    house = House([Started("m"), Delta("paris"), LOWER], response_format=SCHEMA, output_policy=OutputPolicy.FAIL)
    await house.stream()
    assert house.recorded.output_violations == ("answer must begin with a capital letter",)


async def test_what_is_wrong_with_an_answer_is_told_of_its_attempt_at_bounded_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Capital, "violations", lambda *_: ("x" * 100_000,))
    house = House(response_format=SCHEMA, output_policy=OutputPolicy.FAIL)
    with pytest.raises(Precondition):
        await house.run()
    assert [each.message for each in house.recorded.attempts] == ["x" * 500]
