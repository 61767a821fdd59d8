"""Calls that run at the same time take each step together: all of them one step, and then all of them the next."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from types import TracebackType, coroutine
from typing import Any, Final

_MAX_TURNS: Final = 16
"""Of the loop, for which calls in line wait for those before them; more than any of these has steps."""


class Abreast:
    """Groups of calls and their steps, for one event loop.

    A call runs more code and touches more memory than the caches next to a core hold, so calls that run one after the
    other, each from its beginning to where it waits, find nothing of it there. If they wait for each other after a
    step, the next one's step finds what this one's has just used (docs/decisions/0025).

    A call is in the block of its own `with` while it is served. It stands in line where it comes in, and again when
    what it has waited for is there; those in line go together, once nobody who went before takes steps any more.
    """

    __slots__ = ("_has_company", "_has_stepped", "_line", "_loop", "_turns", "calls")

    def __init__(self) -> None:
        self.calls = 0
        """How many are in their blocks, also those that wait for something else there."""
        self._line: list[asyncio.Future[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turns = 0
        """For which those in line have waited."""
        self._has_stepped = False
        """Whether anybody has taken a step in this turn of the loop."""
        self._has_company = False
        """Whether those who went last were more than one."""

    def __enter__(self) -> None:
        self.calls += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.calls -= 1

    async def line_up(self) -> None:
        """Wait until those who are under way have taken their steps, and go with all who wait; at once while fewer than
        two calls are served."""
        if self.calls < 2:
            return
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        place = self._loop.create_future()
        if not self._line:
            self._loop.call_soon(self._look)
        self._line.append(place)
        await place

    @coroutine
    def step(self) -> Generator[None, Any, None]:
        """Let those who go together take theirs; at once for who goes alone."""
        if self._has_company and self.calls > 1:
            self._has_stepped = True
            yield

    def _look(self) -> None:
        """Once in a turn while calls are in line."""
        assert self._loop is not None  # noqa: S101  # they have set it
        self._turns += 1
        if self._has_stepped and self._turns < _MAX_TURNS:
            # Who waits for something else takes no steps, and holds up nobody.
            self._has_stepped = False
            self._loop.call_soon(self._look)
            return
        line, self._line = self._line, []
        self._turns, self._has_stepped, self._has_company = 0, False, len(line) > 1
        for place in line:
            if not place.done():
                place.set_result(None)
