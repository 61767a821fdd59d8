"""The calls to one model: off the event loop, together while the model is busy."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, NamedTuple

from kit.errors import Exhausted
from recommenders.scoring import Answer, Query
from services.inference.ports import Recommender

DIRECT_LIMIT: Final = 100
"""Longer answers are made in a thread whatever the model: listing the items is then the greater part of the work."""


@dataclass(frozen=True, slots=True)
class Computing:
    """How models of one process compute."""

    threads: ThreadPoolExecutor
    max_batch: int
    max_queued: int
    direct_multiplications: int
    """A model that multiplies at most this often for a user answers on the event loop itself. That takes about as long
    as the way to a thread and back; and it costs no batches, for on the loop such calls never meet."""


class _Waiting(NamedTuple):
    query: Query
    answer: asyncio.Future[Answer]


class Batches:
    """One model's calls. At most one batch of them is computed at a time: two would wait for the same memory.

    :param multiplications: how many numbers the model multiplies for one user
    """

    def __init__(self, recommender: Recommender, computing: Computing, *, multiplications: int) -> None:
        self._recommender = recommender
        self._computing = computing
        self._is_direct = multiplications <= computing.direct_multiplications
        self._waiting: deque[_Waiting] = deque()
        self._is_busy = False
        self._is_closing = False

    async def recommend(self, query: Query) -> Answer:
        """The model's answer. A caller that leaves before its batch is begun costs nothing.

        :raises Exhausted: `RECOMMEND_QUEUE_FULL`
        """
        if self._is_direct and query.limit <= DIRECT_LIMIT:
            return self._recommender.recommend((query,))[0]
        self._make_room()
        waiting = _Waiting(query, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if not self._is_busy:
            self._begin()
        return await waiting.answer

    def close(self) -> None:
        """Close the model once everybody who waits has an answer. Nobody may ask it any more."""
        self._is_closing = True
        if not self._is_busy:
            self._begin()

    def _make_room(self) -> None:
        if len(self._waiting) >= self._computing.max_queued:
            self._waiting = deque(each for each in self._waiting if not each.answer.done())
        if len(self._waiting) >= self._computing.max_queued:
            raise Exhausted(
                "too many calls wait for this model; try again, or run more inference processes",
                reason="RECOMMEND_QUEUE_FULL",
                retry_after_seconds=1,
            )

    def _begin(self) -> None:
        """Compute the next batch, if anybody waits."""
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < self._computing.max_batch:
            waiting = self._waiting.popleft()
            if not waiting.answer.done():
                batch.append(waiting)
        self._is_busy = bool(batch)
        if batch:
            loop = asyncio.get_running_loop()
            computed = self._computing.threads.submit(self._recommender.recommend, [each.query for each in batch])
            computed.add_done_callback(lambda done: loop.call_soon_threadsafe(self._end, batch, done))
        elif self._is_closing:
            # Giving back a large map takes a while.
            asyncio.get_running_loop().run_in_executor(None, self._recommender.close)

    def _end(self, batch: Sequence[_Waiting], computed: Future[list[Answer]]) -> None:
        error = computed.exception()
        answers = [] if error is not None else computed.result()
        for index, waiting in enumerate(batch):
            if waiting.answer.done():
                continue
            if error is not None:
                waiting.answer.set_exception(error)
            else:
                waiting.answer.set_result(answers[index])
        self._begin()
