"""Contracts take long to work out, and all writers wait for one lock: that is done between two tries of a write."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from services.registry.ports import Store, Writing

T = TypeVar("T")

_PATIENCE_SECONDS: Final = 0.02
"""How long a write waits for a contract while others wait for the write. Nearly all are done by then."""
_MAX_TRIES: Final = 3
"""How often a write begins, where somebody else is faster, until it makes the others wait."""


class Judge:
    """What a write has asked about contracts, as far as it is worked out."""

    def __init__(self) -> None:
        self.is_patient = False
        """Whether to wait for what is not worked out yet, however long that takes."""
        self._asked: list[tuple[object, asyncio.Task[Any]]] = []

    async def answer(self, question: object, work_out: Callable[[], T]) -> T:
        """What `work_out` returns or raises, in a thread.

        :param question: all that it depends on: equal questions have equal answers
        :raises Undecided: it takes long; ask again, in another transaction, after the answer is there
        """
        for former, task in self._asked:
            if former == question:
                return task.result()  # type: ignore[no-any-return]  # equal questions have answers of one type
        task = asyncio.create_task(asyncio.to_thread(work_out))
        self._asked.append((question, task))
        try:
            await asyncio.wait((task,), timeout=None if self.is_patient else _PATIENCE_SECONDS)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not task.done():
            raise Undecided(task)
        return task.result()  # type: ignore[no-any-return]  # the same


class Undecided(Exception):
    """A contract is being worked out, which takes too long for a transaction. Only :func:`write_judged` meets it."""

    def __init__(self, task: asyncio.Task[Any]) -> None:
        super().__init__()
        self.task = task


async def write_judged(store: Store, write: Callable[[Writing, Judge], Awaitable[T]], *, is_dry: bool = False) -> T:
    """Do a write that asks about contracts. It begins anew after an answer that took long, and finds out itself whether
    what it asked about is as before.

    :param write: all that happens in the transaction; nothing remains of it if it is begun anew
    """
    judge, tried = Judge(), 0
    while True:
        tried += 1
        judge.is_patient = tried == _MAX_TRIES
        try:
            async with store.writing(is_dry=is_dry) as tx:
                return await write(tx, judge)
        except Undecided as open_question:
            # What it raises is as true as what it returns, and needs no transaction.
            await open_question.task
