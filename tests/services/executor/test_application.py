from __future__ import annotations

import asyncio
from typing import Any

import pytest

from catalog.view import (
    ProviderKind,
)
from completions.chat import Message, Role
from kit.errors import Deadline, Exhausted, Invalid, NotFound, Precondition, Unavailable
from kit.secrets import Secret
from services.executor.domain import ProviderFailure, Reason, Run, Status
from tests.services.executor.house import ANSWER, BEGUN, FLAKY, REFUSED, House


async def test_a_call_is_rendered_run_priced_and_recorded() -> None:
    house = House(credential="sk-1")
    run = await house.run(messages=(Message(Role.USER, "And {{ this }}?"),), thread="t1")

    assert run.answer is ANSWER
    assert run.cost_usd_micros == 42
    assert house.records.opened == [Status.LOST]
    assert house.recorded is run
    assert (run.status, run.reason, run.provider, run.model, run.version) == (
        Status.OK, "", "main", "test-model", "ver_1",
    )  # fmt: skip
    assert run.decision is not None
    assert (run.decision.variant.uid, run.decision.key_kind) == ("var_1", "thread")
    [request] = house.provider.requests
    assert [message.content for message in request.messages] == ["France?", "And {{ this }}?"]
    assert request.credential == Secret("sk-1")
    assert request.prepared_body == b"('test-model', None, [])"


async def test_the_start_is_recorded_before_the_provider_is_called() -> None:
    house = House()
    house.records.full = True
    with pytest.raises(Unavailable) as failure:
        await house.run()
    assert failure.value.reason == "SPOOL_FULL"
    assert house.provider.requests == []


async def test_retries_wait_and_end_with_an_answer() -> None:
    house = House(FLAKY, FLAKY, max_retries=2)
    run = await house.run()
    assert house.clock.slept == [0.125, 0.25]
    assert [attempt.reason for attempt in run.attempts] == ["PROVIDER_ERROR", "PROVIDER_ERROR", ""]
    assert [attempt.start_offset_us for attempt in run.attempts] == [0, 125_000, 375_000]
    assert (house.recorded.status, house.recorded.latency_us) == (Status.OK, 375_000)


async def test_a_failure_after_all_retries_names_every_attempt_and_the_request() -> None:
    house = House(FLAKY, FLAKY, FLAKY, max_retries=2)
    with pytest.raises(Unavailable) as failure:
        await house.run()
    assert failure.value.reason == "PROVIDER_FAILED"
    assert [attempt.reason for attempt in failure.value.attempts] == ["PROVIDER_ERROR"] * 3
    assert failure.value.metadata["request_id"] == house.recorded.request_id
    assert (house.recorded.status, house.recorded.reason) == (Status.ERROR, "PROVIDER_FAILED")
    assert len(house.recorded.attempts) == 3


async def test_a_client_error_is_never_repeated() -> None:
    house = House(REFUSED, max_retries=10)
    with pytest.raises(Invalid) as failure:
        await house.run()
    assert failure.value.reason == "PROVIDER_REJECTED_REQUEST"
    assert len(house.provider.requests) == 1


async def test_a_malformed_answer_is_repeated() -> None:
    house = House(
        ProviderFailure(Reason.MALFORMED_RESPONSE, "the answer is no JSON", 200, is_retryable=True), max_retries=1
    )
    assert (await house.run()).answer is ANSWER


async def test_a_provider_that_names_a_time_is_not_asked_before_it() -> None:
    limited = ProviderFailure(Reason.RATE_LIMITED, "slow down", 429, is_retryable=True, retry_after_seconds=20)
    house = House(limited, max_retries=1)
    await house.run()
    assert house.clock.slept == [20]


async def test_a_time_that_does_not_fit_the_deadline_is_told_instead_of_waited_for() -> None:
    limited = ProviderFailure(Reason.RATE_LIMITED, "slow down", 429, is_retryable=True, retry_after_seconds=20)
    house = House(limited, max_retries=1)
    with pytest.raises(Exhausted) as failure:
        await house.run(deadline=20.9)
    assert (failure.value.reason, failure.value.retry_after_seconds) == ("PROVIDER_RATE_LIMITED", 20)
    assert house.clock.slept == []


async def test_an_attempt_has_the_variants_time_and_never_more_than_the_deadline() -> None:
    house = House(30, 30, 30, max_retries=5, attempt_timeout=4)
    with pytest.raises(Unavailable) as failure:
        await house.run(deadline=9)
    assert failure.value.reason == "PROVIDER_FAILED"
    # 4 s, a pause of 0.125 s, 4 s: what is left is too little for a third.
    assert house.provider.timeouts == [4, 4]


async def test_a_deadline_that_passes_in_an_attempt_ends_the_call() -> None:
    house = House(30, max_retries=5)
    with pytest.raises(Deadline) as failure:
        await house.run(deadline=5)
    assert (failure.value.reason, len(failure.value.attempts)) == ("DEADLINE_EXCEEDED", 1)
    assert (house.recorded.status, house.recorded.reason) == (Status.CANCELLED, "DEADLINE_EXCEEDED")


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("deadline", [-1, 0, 0.001, 0.005])
async def test_a_call_that_comes_too_late_reaches_no_provider(deadline: float, is_streamed: bool) -> None:
    house = House()
    with pytest.raises(Deadline):
        await (house.stream(deadline=deadline) if is_streamed else house.run(deadline=deadline))
    assert house.provider.requests == []


async def test_a_caller_who_leaves_is_recorded_as_such() -> None:
    house = House("stall")
    call = asyncio.create_task(house.run())
    while not house.provider.requests:
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (house.recorded.status, house.recorded.reason) == (Status.CANCELLED, "CALLER_LEFT")
    assert [attempt.reason for attempt in house.recorded.attempts] == ["CANCELLED"]


@pytest.mark.parametrize(
    ("after_seconds", "reason"),
    # A caller's clock is ahead of ours by what the call took to come here.
    [(4.7, "CALLER_LEFT"), (4.76, "DEADLINE_EXCEEDED"), (5, "DEADLINE_EXCEEDED"), (5.1, "DEADLINE_EXCEEDED")],
)
@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_caller_who_leaves_at_the_deadline_has_run_out_of_time(
    after_seconds: float, reason: str, is_streamed: bool
) -> None:
    house = House([*BEGUN, "stall"] if is_streamed else "stall")
    call = asyncio.create_task(house.stream(deadline=5) if is_streamed else house.run(deadline=5))
    while not house.provider.requests:
        await asyncio.sleep(0)
    house.clock.time += after_seconds
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (house.recorded.status, house.recorded.reason) == (Status.CANCELLED, reason)


async def test_a_bug_is_recorded_before_it_surfaces() -> None:
    house = House(RuntimeError("a bug"))
    with pytest.raises(RuntimeError):
        await house.run()
    assert (house.recorded.status, house.recorded.reason) == (Status.ERROR, "INTERNAL")


@pytest.mark.parametrize(
    ("house", "fields", "error", "reason", "decided"),
    [
        (House(), {"variables_json": "{"}, Invalid, "JSON_MALFORMED", False),
        (House(weight=0), {}, Precondition, "NO_ACTIVE_VARIANT", False),
        (House(), {"variables_json": "{}"}, Invalid, "MISSING_VARIABLES", True),
        (House(template=""), {}, Invalid, "NO_MESSAGES", True),
        (House(kind=ProviderKind.OPENAI), {}, Precondition, "PROVIDER_CREDENTIAL_MISSING", True),
    ],
)
async def test_a_call_that_fails_before_any_provider_is_recorded_too(
    house: House, fields: dict[str, Any], error: type[Exception], reason: str, decided: bool
) -> None:
    with pytest.raises(error):
        await house.run(**fields)
    assert (house.recorded.status, house.recorded.reason) == (Status.ERROR, reason)
    assert (house.recorded.decision is not None) is decided
    assert house.provider.requests == []


async def test_a_call_to_nothing_belongs_to_nobody_and_is_not_recorded() -> None:
    house = House()
    with pytest.raises(NotFound):
        await house.run("nothing")
    assert house.records.closed == []


async def in_company(house: House, count: int) -> list[asyncio.Task[Run]]:
    """So many calls at the same moment, as a gateway makes them, behind two that wait for their provider."""

    async def call() -> Run:
        await house.executor.abreast.line_up()
        return await house.run()

    waiting = [asyncio.create_task(house.run()) for _ in range(2)]
    await asyncio.sleep(0)
    assert len(house.provider.requests) == 2
    return waiting + [asyncio.create_task(call()) for _ in range(count)]


async def test_calls_at_the_same_time_take_each_step_together() -> None:
    house = House("stall", "stall")
    *waiting, one, two, three = await in_company(house, 3)
    while len(house.provider.requests) < 3:
        await asyncio.sleep(0)
    # All three are prepared and their starts written before any of them asks.
    assert len(house.records.opened) == 5
    await asyncio.gather(one, two, three)
    for each in waiting:
        each.cancel()


async def test_a_caller_who_leaves_at_any_moment_is_recorded_once_and_what_was_answered_as_answered() -> None:
    answered, unanswered = 0, 0
    for turns in range(40):
        house = House("stall", "stall")
        *waiting, left, other = await in_company(house, 2)
        for _ in range(turns):
            await asyncio.sleep(0)
        left.cancel()
        await asyncio.gather(left, other, return_exceptions=True)
        ended = house.records.closed
        # Who leaves the line has not come to the executor yet.
        assert len({run.request_id for run in ended}) == len(ended) == len(house.records.opened) - len(waiting)
        for run in ended:
            is_answered = bool(run.attempts) and not run.attempts[-1].reason
            assert (run.status is Status.OK) is is_answered
            answered, unanswered = answered + is_answered, unanswered + (not is_answered)
        for each in waiting:
            each.cancel()
    assert answered > 40
    assert unanswered > 0


async def test_a_caller_who_leaves_between_two_steps_is_recorded_and_nobody_is_asked() -> None:
    house = House("stall", "stall")
    *waiting, left, other = await in_company(house, 2)
    while len(house.records.opened) < 4:
        await asyncio.sleep(0)
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    assert [(run.status, run.reason) for run in house.records.closed] == [(Status.CANCELLED, "CALLER_LEFT")]
    await other
    # By the two that wait, and by the other one.
    assert len(house.provider.requests) == 3
    for each in waiting:
        each.cancel()
