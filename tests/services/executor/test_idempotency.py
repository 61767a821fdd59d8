from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import AppError, Conflict, Exhausted, Invalid, Precondition, Unavailable
from services.executor import idempotency
from services.executor.idempotency import Answer, Found, Fresh, Idempotency, Unconfigured, judge
from tests.services.executor.records import Clock, Memory, a_claim

DOWN = Unavailable("the database cannot be reached; try again", reason="DATABASE_UNAVAILABLE")


@pytest.fixture
def records() -> Memory:
    return Memory()


@pytest.fixture
def calls(records: Memory) -> Idempotency:
    return Idempotency(records, Clock())


async def make(calls: Idempotency, answer: bytes = b"answer", **fields: Any) -> bytes:
    """A call that a model answers."""
    async with calls.once(a_claim(**fields)) as once:
        if once.answer is None:
            await once.finish(answer)
            return answer
        return once.answer


async def fail(
    calls: Idempotency, error: BaseException, before: Callable[[], None] = lambda: None, **fields: Any
) -> None:
    """A call that ends with `error`, after something else has happened."""
    async with calls.once(a_claim(**fields)):
        before()
        raise error


class TestRules:
    def test_an_answer_is_for_the_same_request_only(self) -> None:
        assert judge(Found(is_same_body=True, answer=b"a", age_seconds=1, busy_seconds=0)) == Answer(b"a")
        for answer in (b"a", None):
            with pytest.raises(Invalid) as failure:
                judge(Found(is_same_body=False, answer=answer, age_seconds=1, busy_seconds=9))
            assert failure.value.reason == "IDEMPOTENCY_KEY_REUSED"

    def test_an_empty_answer_is_an_answer(self) -> None:
        assert judge(Found(is_same_body=True, answer=b"", age_seconds=1, busy_seconds=0)) == Answer(b"")

    def test_a_call_that_runs_is_asked_for_later(self) -> None:
        with pytest.raises(Conflict) as failure:
            judge(Found(is_same_body=True, answer=None, age_seconds=3, busy_seconds=60))

        assert (failure.value.reason, failure.value.retry_after_seconds) == ("IDEMPOTENCY_KEY_IN_USE", 3)

    @pytest.mark.parametrize(
        ("age", "busy", "wait"), [(0, 60, 0.5), (4, 60, 4), (90, 60, 10), (90, 2, 2), (90, 0, 0.5)]
    )
    def test_the_wait_grows_with_the_calls_age_and_ends_with_its_time(
        self, age: float, busy: float, wait: float
    ) -> None:
        assert idempotency.retry_after_seconds(age, busy) == wait

    def test_a_key_is_held_until_the_deadline_and_thirty_seconds_more_but_no_longer_than_a_day(self) -> None:
        assert idempotency.busy_seconds(600) == 630
        assert idempotency.busy_seconds(-5) == 30
        assert idempotency.busy_seconds(1e9) == 86_400
        assert idempotency.busy_seconds(float("inf")) == 86_400

    @given(st.binary(max_size=40), st.binary(max_size=40))
    def test_two_bodies_have_one_hash_if_they_are_equal(self, one: bytes, other: bytes) -> None:
        assert (a_claim(one).body_hash == a_claim(other).body_hash) == (one == other)
        assert len(a_claim(one).body_hash) == 32

    def test_a_key_that_cannot_be_stored_is_refused(self) -> None:
        with pytest.raises(Invalid) as failure:
            a_claim(key="a\0b")

        assert failure.value.reason == "TEXT_NOT_STORABLE"
        assert failure.value.violations[0].field == "idempotency_key"

    def test_neither_keys_nor_answers_show_when_a_claim_is_printed(self) -> None:
        fresh = Fresh(a_claim(key="secret-order"), "clm_1", 1)

        assert "secret-order" not in repr(fresh)
        assert "planted" not in repr(Answer(b"planted"))


async def test_a_repeat_gets_the_first_ones_answer(calls: Idempotency) -> None:
    assert await make(calls, b"first") == b"first"
    assert await make(calls, b"second") == b"first"


async def test_other_keys_of_the_caller_and_the_same_of_others_are_other_calls(calls: Idempotency) -> None:
    await make(calls, b"first")

    assert await make(calls, b"second", key="order-8") == b"second"
    assert await make(calls, b"third", api_key="key_2") == b"third"
    assert await make(calls, b"fourth", project="prj_other") == b"fourth"


async def test_a_call_that_fails_gives_its_key_back_at_once(calls: Idempotency) -> None:
    with pytest.raises(Unavailable, match="no answer"):
        await fail(calls, Unavailable("no answer", reason="PROVIDER_FAILED"))

    assert await make(calls, b"other body", body=b"x") == b"other body"


async def test_a_bug_gives_the_key_back_too(calls: Idempotency, records: Memory) -> None:
    with pytest.raises(ZeroDivisionError):
        await fail(calls, ZeroDivisionError())

    assert records.held == {}


async def test_leaving_without_an_answer_gives_the_key_back(calls: Idempotency, records: Memory) -> None:
    async with calls.once(a_claim()):
        assert records.held

    assert records.held == {}


async def test_a_caller_who_leaves_gives_the_key_back_without_waiting_for_the_database(
    calls: Idempotency, records: Memory
) -> None:
    with pytest.raises(asyncio.CancelledError):
        await fail(calls, asyncio.CancelledError(), lambda: setattr(records, "hangs", True))
    assert records.held

    records.hangs = False
    await calls.release()

    assert records.held == {}


async def test_a_key_is_given_back_by_the_house_keeping_when_the_database_is_back(
    calls: Idempotency, records: Memory
) -> None:
    with pytest.raises(ValueError, match="no answer"):
        await fail(calls, ValueError("no answer"), lambda: records.trouble.extend([DOWN] * 3))
    assert records.held

    house = asyncio.create_task(calls.keep_house())
    await asyncio.wait_for(records.released.wait(), 5)
    house.cancel()

    assert records.held == {}
    assert records.trouble == []


async def test_what_is_free_by_now_is_not_given_back(records: Memory) -> None:
    clock = Clock()
    calls = Idempotency(records, clock)
    with pytest.raises(asyncio.CancelledError):
        await fail(calls, asyncio.CancelledError())
    clock.time += 91

    await calls.release()

    assert not records.released.is_set()


async def test_no_more_keys_are_remembered_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch, calls: Idempotency, records: Memory
) -> None:
    monkeypatch.setattr(idempotency, "MAX_LEFT", 3)
    for number in range(5):
        with pytest.raises(asyncio.CancelledError):
            async with calls.once(a_claim(key=str(number))):
                raise asyncio.CancelledError

    await calls.release()

    assert [key for _, _, key in records.held] == ["0", "1"]


@pytest.mark.parametrize("trouble", [DOWN, Conflict("again", reason="TRANSACTION_CONFLICT"), "hangs"])
async def test_without_the_database_a_call_is_refused_before_it_is_made(
    trouble: Any, calls: Idempotency, records: Memory
) -> None:
    records.hangs = trouble == "hangs"
    records.trouble = [] if records.hangs else [trouble]
    with pytest.raises(Unavailable) as failure:
        async with calls.once(a_claim(seconds=0.2)):
            pytest.fail("it was made")
    assert (failure.value.reason, failure.value.retry_after_seconds) == ("IDEMPOTENCY_UNAVAILABLE", 1)

    # Whether the database did it was not known.
    records.hangs = False
    await calls.release()
    assert records.held == {}


async def test_a_database_that_hangs_costs_a_quarter_of_the_calls_time(calls: Idempotency, records: Memory) -> None:
    records.hangs = True
    begun = asyncio.get_running_loop().time()
    with pytest.raises(Unavailable):
        await calls.begin(a_claim(seconds=0.4))

    assert 0.09 <= asyncio.get_running_loop().time() - begun < 0.35
    # Nor does it leave anything behind that waits for ever.
    await _until(lambda: asyncio.all_tasks() == {asyncio.current_task()})


async def test_a_caller_who_leaves_while_the_key_is_taken_gives_it_back(calls: Idempotency, records: Memory) -> None:
    records.hangs = True
    call = asyncio.create_task(calls.begin(a_claim()))
    await _until(lambda: bool(records.held))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    records.hangs = False
    await calls.release()

    assert records.held == {}


@pytest.mark.parametrize(
    "error",
    [
        Precondition("migrate", reason="IDEMPOTENCY_NOT_MIGRATED"),
        Exhausted("full", reason="IDEMPOTENCY_RECORDS_FULL"),
    ],
)
async def test_what_the_operator_must_mend_is_told_as_it_is(
    error: AppError, calls: Idempotency, records: Memory
) -> None:
    records.trouble = [error]

    with pytest.raises(type(error)) as failure:
        await calls.begin(a_claim())

    assert failure.value is error


async def test_without_a_database_a_call_under_a_key_is_told_which_setting_is_missing() -> None:
    calls = Idempotency(Unconfigured(), Clock())
    with pytest.raises(Precondition) as failure:
        await calls.begin(a_claim())
    await calls.release()
    await calls.sweep()
    await calls.close()

    assert failure.value.reason == "IDEMPOTENCY_NOT_CONFIGURED"
    assert failure.value.metadata["setting"] == "TURNOUT_EXECUTOR_DATABASE_URL"
    assert "TURNOUT_EXECUTOR_DATABASE_URL" in failure.value.message


@pytest.mark.parametrize("trouble", [DOWN, TimeoutError()])
async def test_an_answer_that_cannot_be_stored_is_answered_and_its_key_stays_busy(
    trouble: BaseException, calls: Idempotency, records: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    async with calls.once(a_claim()) as once:
        records.trouble = [trouble]
        await once.finish(b"answer")
    await calls.release()

    with pytest.raises(Conflict) as failure:
        await calls.begin(a_claim())
    assert failure.value.reason == "IDEMPOTENCY_KEY_IN_USE"
    assert [record.message for record in caplog.records] == ["an answer is not kept for repeats"]
    assert "order-7" not in caplog.text


async def test_an_answer_that_is_too_large_is_not_stored(
    monkeypatch: pytest.MonkeyPatch, calls: Idempotency, records: Memory
) -> None:
    monkeypatch.setattr(idempotency, "MAX_ANSWER_BYTES", 8)
    assert await make(calls, b"123456789") == b"123456789"
    assert await make(calls, b"12345678", key="other") == b"12345678"

    assert [answer for _, answer in records.held.values()] == [None, b"12345678"]


async def test_a_caller_who_leaves_while_the_answer_is_stored_finds_it_when_he_comes_back(
    calls: Idempotency, records: Memory
) -> None:
    begun, gate = asyncio.Event(), asyncio.Event()
    inner = records.finish

    async def slow(fresh: Fresh, answer: bytes) -> bool:
        begun.set()
        await gate.wait()
        return await inner(fresh, answer)

    records.finish = slow  # type: ignore[method-assign]
    call = asyncio.create_task(make(calls, b"answer"))
    await asyncio.wait_for(begun.wait(), 5)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    gate.set()
    await calls.close()

    assert await make(calls, b"another") == b"answer"


async def test_an_answer_waits_no_longer_than_half_of_what_is_left_for_a_database_that_hangs(
    calls: Idempotency, records: Memory
) -> None:
    begun = asyncio.get_running_loop().time()
    async with calls.once(a_claim(seconds=0.4)) as once:
        records.hangs = True
        await once.finish(b"answer")

    assert 0.19 <= asyncio.get_running_loop().time() - begun < 0.39
    await calls.close(seconds=0.01)


async def test_an_answer_that_comes_after_its_key_was_taken_over_changes_nothing(
    calls: Idempotency, records: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    async with calls.once(a_claim()) as once:
        records.held.clear()
        assert await make(calls, b"of the next") == b"of the next"
        await once.finish(b"late")

    assert await make(calls) == b"of the next"
    assert [record.reason for record in caplog.records] == ["TAKEN_OVER"]  # type: ignore[attr-defined]  # an extra


async def test_a_failed_sweep_is_told_and_tried_again(
    calls: Idempotency, records: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    records.trouble = [DOWN]

    await calls.sweep()
    await calls.sweep()

    assert (records.swept, len(caplog.records)) == (1, 1)


async def test_closing_ends_in_time_whatever_the_database_does(
    calls: Idempotency, records: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(asyncio.CancelledError):
        await fail(calls, asyncio.CancelledError())
    records.hangs = True

    await asyncio.wait_for(calls.close(seconds=0.05), 5)

    assert [record.message for record in caplog.records] == ["idempotency records stay busy"]
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task() and not task.cancelling()]


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_a_failure_waits_no_longer_than_half_of_what_is_left_for_a_database_that_hangs(
    calls: Idempotency, records: Memory
) -> None:
    begun = asyncio.get_running_loop().time()
    with pytest.raises(ValueError, match="no answer"):
        await fail(calls, ValueError("no answer"), lambda: setattr(records, "hangs", True), seconds=0.4)
    assert 0.19 <= asyncio.get_running_loop().time() - begun < 2

    records.hangs = False
    await calls.release()
    assert records.held == {}
