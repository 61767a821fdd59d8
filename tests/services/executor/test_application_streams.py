from __future__ import annotations

import asyncio

import pytest

from catalog.view import Fallback
from kit.errors import Invalid, Unavailable
from services.executor.breaker import BreakerPolicy
from services.executor.domain import Delta, ProviderFailure, Reason, Started, Status
from tests.services.executor.house import ANSWER, BEGUN, FLAKY, REFUSED, House

BROKEN = ProviderFailure(Reason.MALFORMED_RESPONSE, "the provider's answer ends in the middle", 200, is_retryable=True)


async def test_a_streamed_call_is_answered_in_pieces_and_recorded_before_its_end_is_told() -> None:
    house = House()
    ends = []
    events = []
    async for run, piece in house.executor.run_stream(house.call(is_streamed=True)):
        events.append(piece)
        ends.append(run.status)

    assert events == [Started("served-model"), Delta("Par"), Delta("is."), None]
    assert ends == [Status.LOST, Status.LOST, Status.LOST, Status.OK]
    assert house.recorded.answer is ANSWER
    assert house.recorded.cost_usd_micros == 42
    assert house.recorded.time_to_first_token_us is not None
    assert house.provider.closed == 1


async def test_a_stream_that_fails_before_its_first_piece_is_repeated() -> None:
    house = House(FLAKY, max_retries=1)

    assert await house.stream() == [Started("served-model"), Delta("Par"), Delta("is."), None]
    assert [attempt.reason for attempt in house.recorded.attempts] == ["PROVIDER_ERROR", ""]


async def test_a_stream_that_breaks_after_its_first_piece_is_not_repeated() -> None:
    house = House([*BEGUN, BROKEN], max_retries=3)
    events = house.executor.run_stream(house.call(is_streamed=True))

    assert [(await anext(events))[1], (await anext(events))[1]] == BEGUN
    with pytest.raises(Unavailable) as failure:
        await anext(events)
    assert failure.value.reason == "STREAM_BROKEN"
    assert failure.value.metadata["request_id"] == house.recorded.request_id
    assert (house.recorded.status, house.recorded.reason) == (Status.ERROR, "STREAM_BROKEN")
    assert len(house.provider.requests) == 1


async def test_a_stream_that_fails_for_good_fails_as_a_call_does() -> None:
    house = House(REFUSED)
    with pytest.raises(Invalid) as failure:
        await house.stream()

    assert failure.value.reason == "PROVIDER_REJECTED_REQUEST"
    assert house.recorded.status is Status.ERROR


async def test_a_caller_who_leaves_between_pieces_ends_the_providers_work() -> None:
    house = House()
    events = house.executor.run_stream(house.call(is_streamed=True))
    await anext(events)
    await events.aclose()

    assert house.provider.closed == 1
    assert (house.recorded.status, house.recorded.reason) == (Status.CANCELLED, "CALLER_LEFT")
    assert [attempt.reason for attempt in house.recorded.attempts] == ["CANCELLED"]


async def test_a_caller_who_leaves_while_the_provider_is_silent_ends_its_work() -> None:
    house = House([*BEGUN, "stall"])
    task = asyncio.create_task(house.stream())
    while not house.provider.requests:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert house.provider.closed == 1
    assert house.recorded.reason == "CALLER_LEFT"


async def test_a_stream_is_refused_when_its_start_cannot_be_recorded() -> None:
    house = House()
    house.records.full = True
    with pytest.raises(Unavailable) as failure:
        await house.stream()

    assert failure.value.reason == "SPOOL_FULL"
    assert house.provider.requests == []


async def test_the_silence_of_a_stream_is_bounded_by_the_attempts_time_out() -> None:
    house = House(attempt_timeout=5)
    await house.stream()

    assert house.provider.timeouts == [5]
    assert house.provider.idles == [5]


async def test_the_silence_of_a_fallback_is_bounded_by_its_own_time_out() -> None:
    house = House(FLAKY, attempt_timeout=5, fallbacks=(Fallback("prv_other", "spare", None, 0, 20),))
    await house.stream()

    assert house.provider.timeouts == [5, 20]
    assert house.provider.idles == [5, 20]


async def test_a_stream_that_probes_a_model_lets_the_others_in_with_its_first_piece() -> None:
    house = House(FLAKY, [*BEGUN, "stall"], breakers=BreakerPolicy(min_failures=1, ejection_seconds=10))
    with pytest.raises(Unavailable):
        await house.run()
    house.clock.time += 10
    events = house.executor.run_stream(house.call(is_streamed=True))
    await anext(events)

    assert (await house.run()).answer is ANSWER
    await events.aclose()
    assert (await house.run()).answer is ANSWER
