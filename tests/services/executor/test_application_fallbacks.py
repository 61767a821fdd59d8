"""What happens when a completion cannot run where it should."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from catalog.view import Fallback, ProviderKind
from kit import values
from kit.errors import Deadline, Invalid, Precondition, Unavailable
from services.executor.breaker import BreakerPolicy
from services.executor.domain import Delta, ProviderFailure, Reason, Started
from tests.services.executor.house import ANSWER, FLAKY, REFUSED, House

TOO_LONG = ProviderFailure(Reason.CONTEXT_LENGTH_EXCEEDED, "the prompt does not fit", 400, is_retryable=False)
UNSAYABLE = ProviderFailure(Reason.REJECTED_REQUEST, "pictures must be data: URLs", 0, is_retryable=False)
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


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_what_a_place_cannot_carry_another_may(is_streamed: bool) -> None:
    house = House(UNSAYABLE, fallbacks=(fallback(),))
    await (house.stream() if is_streamed else house.run())
    assert (house.recorded.provider, house.recorded.fallback_index) == ("other", 1)
    assert [each.reason for each in house.recorded.attempts] == ["PROVIDER_REJECTED_REQUEST", ""]


async def test_what_no_place_can_carry_is_the_callers_to_mend() -> None:
    house = House(UNSAYABLE, UNSAYABLE, max_retries=3, fallbacks=(fallback(),))
    with pytest.raises(Invalid, match="pictures must be data: URLs") as failure:
        await house.run()
    assert failure.value.reason == "PROVIDER_REJECTED_REQUEST"
    assert places(house) == ["main/test-model", "other/spare-model"]


async def test_a_fallback_whose_contract_has_no_word_for_a_version_is_the_callers_to_mend_too() -> None:
    house = House(UNSAYABLE, fallbacks=(fallback(),))
    house.provider.speechless = "spare-model"
    with pytest.raises(Invalid, match="the tool choice must be left out") as failure:
        await house.run()
    assert failure.value.reason == "PROVIDER_REJECTED_REQUEST"
    assert places(house) == ["main/test-model"]


@pytest.mark.parametrize("last", [UNSAYABLE, TOO_LONG])
async def test_a_place_that_cannot_take_a_call_does_not_hide_why_another_failed(last: ProviderFailure) -> None:
    house = House(values.replace(FLAKY, retry_after_seconds=7.0), last, fallbacks=(fallback(),))
    with pytest.raises(
        Unavailable, match=r"^main/test-model after 2 attempts: the provider answered HTTP 503"
    ) as failure:
        await house.run()
    assert (failure.value.reason, failure.value.retry_after_seconds) == ("PROVIDER_FAILED", 7.0)
    assert [each.target for each in failure.value.attempts] == ["main/test-model", "other/spare-model"]


async def test_what_a_provider_says_at_last_is_told_of_it() -> None:
    with pytest.raises(Invalid, match="the prompt does not fit"):
        await House(FLAKY, TOO_LONG, max_retries=1).run()
    house = House(FLAKY, FLAKY, TOO_LONG, fallbacks=(fallback(max_retries=1),))
    with pytest.raises(Unavailable, match=r"^main/test-model after 3 attempts"):
        await house.run()


async def test_of_places_that_cannot_take_a_call_the_last_is_told() -> None:
    house = House(UNSAYABLE, TOO_LONG, fallbacks=(fallback(),))
    with pytest.raises(Invalid, match=r"^other/spare-model after 2 attempts: the prompt does not fit") as failure:
        await house.run()
    assert failure.value.reason == "PROVIDER_CONTEXT_LENGTH_EXCEEDED"


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
    patient = values.replace(FLAKY, retry_after_seconds=80.0)
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


async def test_a_place_that_seems_too_small_is_the_last_hope() -> None:
    house = House(FLAKY, template="x" * 50, fallbacks=(fallback("a-40"), fallback("b-40")))
    run = await house.run()
    assert places(house) == ["main/test-model", "other/a-40"]
    assert (run.model, run.fallback_index) == ("a-40", 1)


async def test_places_that_seem_too_small_come_last_and_each_is_tried_once() -> None:
    spares = (fallback("a-40"), fallback("b-60"), fallback("c-30"), fallback("d-70"))
    house = House(*[FLAKY] * 5, template="x" * 50, model="test-45", fallbacks=spares)
    with pytest.raises(Unavailable) as failure:
        await house.run()
    order = ["other/b-60", "other/d-70", "main/test-45", "other/a-40", "other/c-30"]
    assert places(house) == order
    assert [each.target for each in failure.value.attempts] == order
    assert [each.fallback_index for each in house.recorded.attempts] == [2, 4, 0, 1, 3]
    assert house.windows.estimated == ["test-45", "a-40", "b-60", "c-30", "d-70"], "each once"


async def test_a_first_place_that_was_passed_over_is_tried_with_its_own_retries_and_time() -> None:
    house = House(
        FLAKY, 1000, template="x" * 50, model="test-45", max_retries=1, attempt_timeout=3, fallbacks=(fallback("b-60"),)
    )
    run = await house.run(deadline=100)
    assert places(house) == ["other/b-60", "main/test-45", "main/test-45"]
    assert house.provider.timeouts == [100, 3, 3]
    assert (run.model, run.fallback_index) == ("test-45", 0)


async def test_for_a_place_that_was_passed_over_no_time_is_kept_and_no_wait_is_given_up() -> None:
    house = House(90, template="x" * 50, model="test-45", fallbacks=(fallback("b-60"),))
    with pytest.raises(Deadline):
        await house.run(deadline=80)
    assert house.provider.timeouts == [80]
    patient = values.replace(FLAKY, retry_after_seconds=80.0)
    house = House(patient, template="x" * 50, model="test-45", fallbacks=(fallback("b-60", max_retries=1),))
    await house.run(deadline=100)
    assert places(house) == ["other/b-60", "other/b-60"]


async def test_a_last_hope_that_refuses_does_not_hide_why_another_failed() -> None:
    house = House(FLAKY, REFUSED, template="x" * 50, fallbacks=(fallback("a-40"),))
    with pytest.raises(Unavailable, match=r"^main/test-model after 2 attempts"):
        await house.run()
    house = House(REFUSED, template="x" * 50, model="test-45")
    with pytest.raises(Invalid):
        await house.run()


async def test_where_one_said_that_it_is_too_long_nobody_of_its_size_is_asked_any_more() -> None:
    spares = (fallback("a-40"), fallback("b-70"), fallback("c-60"), fallback("unknown"))
    house = House(TOO_LONG, FLAKY, FLAKY, template="x" * 50, model="test-65", fallbacks=spares)
    with pytest.raises(Unavailable):
        await house.run(deadline=100)
    assert places(house) == ["main/test-65", "other/b-70", "other/unknown"]
    assert house.provider.timeouts == [75, 75, 100], "nothing is kept for places that are not asked"


async def test_a_place_that_was_passed_over_is_not_asked_what_a_larger_one_could_not_take() -> None:
    house = House(TOO_LONG, template="x" * 50, model="test-45", fallbacks=(fallback("a-60"), fallback("b-40")))
    with pytest.raises(Invalid):
        await house.run()
    assert places(house) == ["other/a-60"]


async def test_a_place_that_said_that_it_is_too_long_does_not_rule_out_one_whose_size_is_unknown() -> None:
    house = House(TOO_LONG, template="x" * 50, fallbacks=(fallback("a-40"),))
    await house.run()
    assert places(house) == ["main/test-model", "other/a-40"]


async def test_a_prompt_is_estimated_only_where_that_decides() -> None:
    house = House(template="x" * 50, model="test-45")
    await house.run()
    assert house.windows.estimated == []
    house = House(template="x" * 50, model="test-60", fallbacks=(fallback("a-40"), fallback("b-60")))
    await house.run()
    assert house.windows.estimated == ["test-60"]
    house = House(FLAKY, kind=ProviderKind.OPENAI, credential="sk-1", fallbacks=(fallback("a-40"),))
    with pytest.raises(Precondition):
        await house.run()
    assert house.windows.estimated == ["test-model"], "the other has no credential"


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


async def test_no_wait_is_given_up_for_a_fallback_that_seems_too_small() -> None:
    patient = values.replace(FLAKY, retry_after_seconds=80.0)
    house = House(patient, template="x" * 50, model="test-60", max_retries=1, fallbacks=(fallback("a-40"),))
    await house.run(deadline=100)
    assert places(house) == ["main/test-60", "main/test-60"]
    assert house.windows.estimated == ["test-60", "a-40"], "each once"


async def test_a_response_format_takes_room_in_the_window() -> None:
    schema = {"type": "object", "properties": {f"field_{n}": {"type": "string"} for n in range(50)}}
    form: dict[str, Any] = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    house = House(template="x" * 50, model="test-200", response_format=form, fallbacks=(fallback("a-9000"),))
    await house.run()
    assert places(house) == ["other/a-9000"]


async def test_an_ejected_model_is_waited_for_where_the_only_fallback_seems_too_small() -> None:
    policy = BreakerPolicy(min_failures=1, ejection_seconds=10)
    spares = (fallback("a-40"),)
    house = House(FLAKY, TOO_LONG, template="x" * 50, max_retries=1, breakers=policy, fallbacks=spares)
    with pytest.raises(Unavailable):
        await house.run(deadline=1.2)
    assert places(house) == ["main/test-model", "other/a-40"]
    run = await house.run()
    assert (places(house)[2:], run.answer) == (["main/test-model"], ANSWER)
