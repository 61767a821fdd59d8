"""What happens when a completion cannot run where it should."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from catalog.view import Fallback, OutputPolicy, ProviderKind
from completions.chat import Message, Role
from kit.errors import Deadline, Exhausted, Invalid, Precondition, Unavailable
from services.executor.breaker import BreakerPolicy
from services.executor.domain import Delta, ProviderFailure, Reason, Started, Usage
from services.executor.output_check import feedback
from tests.services.executor.house import ANSWER, FLAKY, REFUSED, House

TOO_LONG = ProviderFailure(Reason.CONTEXT_LENGTH_EXCEEDED, "the prompt does not fit", 400, is_retryable=False)
BROKE = ProviderFailure(Reason.CREDENTIAL_REFUSED, "the provider answered HTTP 401", 401, is_retryable=False)


def fallback(model: str = "spare-model", **fields: Any) -> Fallback:
    given = {"provider": "prv_other", "parameters": None, "max_retries": 0, "attempt_timeout_seconds": None}
    return Fallback(model=model, **(given | fields))


def places(house: House) -> list[str]:
    """Where it was asked, in order."""
    return [f"{request.provider.slug}/{request.model}" for request in house.provider.requests]


@pytest.mark.parametrize("failure", [FLAKY, BROKE])
async def test_what_one_provider_does_not_answer_the_next_does(failure: ProviderFailure) -> None:
    house = House(failure, fallbacks=(fallback(),))
    run = await house.run()

    assert places(house) == ["main/test-model", "other/spare-model"]
    assert (run.provider, run.model, run.fallback_index) == ("other", "spare-model", 1)
    assert [(each.provider, each.fallback_index, each.reason) for each in house.recorded.attempts] == [
        ("main", 0, failure.reason),
        ("other", 1, ""),
    ]
    assert run.version == "ver_1"


async def test_retries_come_before_fallbacks_and_each_has_its_own() -> None:
    house = House(FLAKY, FLAKY, FLAKY, max_retries=1, fallbacks=(fallback(max_retries=1),))
    await house.run()
    assert places(house) == ["main/test-model"] * 2 + ["other/spare-model"] * 2


async def test_a_fallback_says_the_same_with_its_own_parameters() -> None:
    house = House(FLAKY, fallbacks=(fallback(parameters=b"0.5"),))
    await house.run()

    [first, second] = house.provider.requests
    assert second.messages == first.messages
    assert (first.prepared_body, second.prepared_body) == (
        b"('test-model', None, [])",
        b"('spare-model', 0.5, [])",
    )


async def test_what_the_client_did_wrong_goes_to_no_other_provider() -> None:
    house = House(REFUSED, fallbacks=(fallback(),))
    with pytest.raises(Invalid):
        await house.run()
    assert places(house) == ["main/test-model"]


async def test_if_all_fail_the_error_tells_every_attempt() -> None:
    house = House(FLAKY, BROKE, FLAKY, fallbacks=(fallback(), fallback("third")))
    with pytest.raises(Unavailable) as failure:
        await house.run()
    assert [each.target for each in failure.value.attempts] == ["main/test-model", "other/spare-model", "other/third"]


async def test_a_fallback_has_a_quarter_of_the_time_left() -> None:
    house = House(1000, fallbacks=(fallback(),))
    await house.run(deadline=100)
    assert house.provider.timeouts == [75, 25]


async def test_the_last_place_may_take_all_the_time_there_is() -> None:
    house = House(1000, 1000, fallbacks=(fallback(),))
    with pytest.raises(Deadline):
        await house.run(deadline=100)
    assert house.clock.time == 200


async def test_a_wait_that_would_use_up_the_fallbacks_time_is_not_waited() -> None:
    patient = replace(FLAKY, retry_after_seconds=80.0)
    house = House(patient, max_retries=3, fallbacks=(fallback(),))
    await house.run(deadline=100)
    assert places(house) == ["main/test-model", "other/spare-model"]
    assert not house.clock.slept


async def test_a_prompt_that_does_not_fit_goes_to_the_first_fallback_that_it_fits() -> None:
    spares = (fallback("a-40"), fallback("b-60"), fallback("c-70"))
    house = House(template="x" * 50, model="test-45", fallbacks=spares)
    run = await house.run()
    assert places(house) == ["other/b-60"]
    assert run.fallback_index == 2


async def test_a_prompt_that_seems_to_fit_nowhere_is_tried_where_it_belongs() -> None:
    house = House(template="x" * 50, model="test-45", fallbacks=(fallback("a-40"),))
    await house.run()
    assert places(house) == ["main/test-45"]


async def test_where_nothing_is_known_of_a_window_everything_fits() -> None:
    house = House(template="x" * 50, fallbacks=(fallback("a-40"),))
    await house.run()
    assert places(house) == ["main/test-model"]


async def test_a_prompt_that_is_told_not_to_fit_goes_to_what_may_be_larger() -> None:
    spares = (fallback("a-70"), fallback("b-60"), fallback("c-100"))
    house = House(TOO_LONG, template="x" * 50, model="test-70", fallbacks=spares)
    await house.run()
    # By our own count it fits all of them; but what 70 could not take, only more may.
    assert places(house) == ["main/test-70", "other/c-100"]


async def test_a_prompt_that_fits_nowhere_is_the_callers_to_shorten() -> None:
    house = House(TOO_LONG)
    with pytest.raises(Invalid) as failure:
        await house.run()
    assert failure.value.reason == "PROVIDER_CONTEXT_LENGTH_EXCEEDED"


async def test_a_provider_without_its_credential_is_passed_over_where_there_is_another() -> None:
    house = House(kind=ProviderKind.OPENAI, fallbacks=(fallback(), fallback("third")))
    with pytest.raises(Precondition):
        await house.run()
    assert not house.provider.requests
    assert [each.reason for each in house.recorded.attempts] == ["PROVIDER_CREDENTIAL_MISSING"] * 3


async def test_statuses_of_the_variants_own_go_with_the_request() -> None:
    house = House(retry_statuses=frozenset({418}))
    await house.run()
    assert house.provider.requests[0].retry_statuses == frozenset({418})


async def test_a_model_that_fails_again_and_again_is_not_asked_for_a_while() -> None:
    policy = BreakerPolicy(min_failures=3, ejection_seconds=10)
    house = House(*[FLAKY] * 3, breakers=policy)
    for _ in range(3):
        with pytest.raises(Unavailable):
            await house.run()
    with pytest.raises(Unavailable) as failure:
        await house.run()

    assert len(house.provider.requests) == 3
    assert [each.reason for each in failure.value.attempts] == ["PROVIDER_CIRCUIT_OPEN"]
    assert failure.value.retry_after_seconds == pytest.approx(9)
    house.clock.time += 10
    assert (await house.run()).answer is ANSWER
    assert (await house.run()).answer is ANSWER


async def test_a_call_that_retries_waits_for_an_ejected_model_as_long_as_its_deadline_allows() -> None:
    house = House(FLAKY, FLAKY, max_retries=2, breakers=BreakerPolicy(min_failures=1, ejection_seconds=10))
    run = await house.run()

    assert run.answer is ANSWER
    assert [each.reason for each in run.attempts if each.reason != "PROVIDER_CIRCUIT_OPEN"] == [
        "PROVIDER_ERROR"
    ] * 2 + [""]
    assert len(house.provider.requests) == 3, "waiting takes no retry"
    house = House(*[FLAKY] * 9, max_retries=9, breakers=BreakerPolicy(min_failures=1, ejection_seconds=10))
    with pytest.raises(Unavailable):
        await house.run(deadline=25)
    assert house.clock.time < 125


async def test_an_ejected_model_is_passed_over_at_once() -> None:
    house = House(*[FLAKY, ANSWER] * 3, breakers=BreakerPolicy(min_failures=3), fallbacks=(fallback(),))
    for _ in range(4):
        await house.run()
    assert places(house)[6:] == ["other/spare-model"]


async def test_a_stream_falls_back_until_something_was_said() -> None:
    house = House(FLAKY, [Started("m"), Delta("Par"), ANSWER], fallbacks=(fallback(),))
    pieces = await house.stream()
    assert pieces == [Started("m"), Delta("Par"), None]
    assert house.recorded.fallback_index == 1


async def test_a_stream_that_broke_off_is_not_begun_elsewhere() -> None:
    house = House([Started("m"), Delta("Par"), FLAKY], fallbacks=(fallback(),))
    with pytest.raises(Unavailable) as failure:
        await house.stream()
    assert failure.value.reason == "STREAM_BROKEN"
    assert places(house) == ["main/test-model"]


async def test_a_provider_has_no_more_calls_than_it_may_have() -> None:
    house = House("stall", max_concurrent_calls=1)
    held = asyncio.ensure_future(house.run())
    while not house.provider.requests:
        await asyncio.sleep(0)

    with pytest.raises(Exhausted) as failure:
        await house.run()

    assert (failure.value.reason, failure.value.retry_after_seconds) == ("PROVIDER_BUSY", 1.0)
    held.cancel()
    with pytest.raises(asyncio.CancelledError):
        await held
    assert (await house.run()).answer is ANSWER


async def test_a_busy_provider_is_passed_over_where_there_is_another() -> None:
    house = House("stall", max_concurrent_calls=1, fallbacks=(fallback(),))
    held = asyncio.ensure_future(house.run())
    while not house.provider.requests:
        await asyncio.sleep(0)
    run = await house.run()
    assert (run.provider, [each.reason for each in run.attempts]) == ("other", ["PROVIDER_BUSY", ""])
    held.cancel()


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


@pytest.mark.parametrize(("model", "cost"), [("test-model", 42 + 42), ("unpriced", None)])
async def test_answers_of_two_places_are_each_paid_at_their_own_price(model: str, cost: int | None) -> None:
    spare = fallback(model)
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


async def test_a_streamed_answer_is_marked_whatever_the_policy() -> None:
    house = House([Started("m"), Delta("paris"), LOWER], response_format=SCHEMA, output_policy=OutputPolicy.FAIL)
    await house.stream()
    assert house.recorded.output_violations == ("answer must begin with a capital letter",)


async def test_a_fallbacks_own_bound_of_its_answer_counts_for_its_window() -> None:
    roomy = Fallback("prv_other", "a-60", None, 0, None)
    greedy = replace(roomy, parameters=b"0.5", model="b-60")
    house = House(template="x" * 50, model="test-45", fallbacks=(greedy, roomy))
    house.unpack.answer_tokens = 20
    await house.run()
    assert places(house) == ["other/a-60"], "20 tokens of answer do not fit beside 50 of a prompt"


async def test_a_call_waits_for_an_ejected_model_as_often_as_it_retries_at_most() -> None:
    house = House(*[FLAKY] * 20, max_retries=2, breakers=BreakerPolicy(min_failures=1, ejection_seconds=10))
    with pytest.raises(Unavailable) as failure:
        await house.run(deadline=600)

    waits = [each for each in failure.value.attempts if each.reason == "PROVIDER_CIRCUIT_OPEN"]
    assert (len(house.provider.requests), len(waits)) == (3, 2)
