from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from kit.errors import Exhausted
from recommenders.scoring import Query
from services.inference.application.batches import DIRECT_LIMIT, Batches, Computing
from tests.services.inference.fakes import FakeRecommender, until


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


def batches_of(
    recommender: FakeRecommender, threads: ThreadPoolExecutor, *, max_batch: int = 64, max_queued: int = 1000
) -> Batches:
    return Batches(recommender, Computing(threads, max_batch, max_queued, 100), multiplications=101)


async def test_calls_that_come_while_the_model_is_busy_are_computed_together(threads: ThreadPoolExecutor) -> None:
    recommender = FakeRecommender()
    recommender.gate.clear()
    batches = batches_of(recommender, threads, max_batch=3)
    calls = [asyncio.create_task(batches.recommend(Query(f"u{number}", 5))) for number in range(6)]
    await until(lambda: recommender.batches)
    recommender.gate.set()

    answers = await asyncio.gather(*calls)

    assert recommender.batches == [["u0"], ["u1", "u2", "u3"], ["u4", "u5"]]
    assert [answer.items[0].item_id for answer in answers] == [f"u{number} of dddd" for number in range(6)]
    assert threading.get_ident() not in recommender.threads


async def test_a_caller_that_leaves_while_it_waits_is_not_computed(threads: ThreadPoolExecutor) -> None:
    recommender = FakeRecommender()
    recommender.gate.clear()
    batches = batches_of(recommender, threads)
    calls = [asyncio.create_task(batches.recommend(Query(f"u{number}", 5))) for number in range(3)]
    await until(lambda: recommender.batches)
    calls[0].cancel()  # Already being computed: nobody hears the answer.
    calls[1].cancel()
    await asyncio.wait(calls[:2])
    recommender.gate.set()

    assert (await calls[2]).items[0].item_id == "u2 of dddd"
    assert recommender.batches == [["u0"], ["u2"]]


async def test_a_full_queue_refuses_and_those_who_left_make_room(threads: ThreadPoolExecutor) -> None:
    recommender = FakeRecommender()
    recommender.gate.clear()
    batches = batches_of(recommender, threads, max_queued=2)
    calls = [asyncio.create_task(batches.recommend(Query(f"u{number}", 5))) for number in range(3)]
    await until(lambda: recommender.batches)

    with pytest.raises(Exhausted) as failure:
        await batches.recommend(Query("late", 5))
    assert (failure.value.reason, failure.value.retry_after_seconds) == ("RECOMMEND_QUEUE_FULL", 1)

    calls[1].cancel()
    await asyncio.wait({calls[1]})
    later = asyncio.create_task(batches.recommend(Query("later", 5)))
    recommender.gate.set()
    assert (await later).items[0].item_id == "later of dddd"
    assert recommender.batches == [["u0"], ["u2", "later"]]
    await calls[2]


async def test_a_small_model_answers_on_the_event_loop_unless_the_answer_is_long(threads: ThreadPoolExecutor) -> None:
    recommender = FakeRecommender()
    batches = Batches(recommender, Computing(threads, 64, 1000, 100), multiplications=100)
    await batches.recommend(Query("ada", DIRECT_LIMIT))
    assert recommender.threads == [threading.get_ident()]
    await batches.recommend(Query("ada", DIRECT_LIMIT + 1))
    assert recommender.threads[1] != threading.get_ident()


async def test_a_failure_reaches_everybody_in_the_batch_and_the_next_one_is_computed(
    threads: ThreadPoolExecutor,
) -> None:
    recommender = FakeRecommender()
    recommender.gate.clear()
    recommender.fails = ZeroDivisionError()
    batches = batches_of(recommender, threads)
    calls = [asyncio.create_task(batches.recommend(Query(f"u{number}", 5))) for number in range(3)]
    await until(lambda: recommender.batches)
    recommender.gate.set()
    assert [type(each) for each in await asyncio.gather(*calls, return_exceptions=True)] == [ZeroDivisionError] * 3

    recommender.fails = None
    assert (await batches.recommend(Query("ada", 5))).items


async def test_closing_waits_for_the_batch_that_is_being_computed(threads: ThreadPoolExecutor) -> None:
    recommender = FakeRecommender()
    recommender.gate.clear()
    batches = batches_of(recommender, threads)
    call = asyncio.create_task(batches.recommend(Query("ada", 5)))
    await until(lambda: recommender.batches)
    batches.close()
    assert recommender.closed == 0
    recommender.gate.set()
    assert (await call).items
    await until(lambda: recommender.closed == 1)
