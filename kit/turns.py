"""Long work beside calls, on one event loop: in slices, by turns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

SLICE_SECONDS: Final = 0.002
"""How long work keeps the loop to itself, but for a step that takes longer."""

MAX_PAUSE_SECONDS: Final = 0.02
"""However long a slice was: it may be the machine that slept."""


class Turns:
    """Cuts the work of several owners into slices: one at a time, and after each as long a pause, in which everybody
    else runs. So work takes about half of the loop's time at most, however much there is. Owners take turns, and one
    owner's works follow one another: whoever brings much waits for his own. For one event loop.
    """

    def __init__(self) -> None:
        self._slice = asyncio.Lock()
        self._owners: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, owner: str) -> AsyncIterator[Turn]:
        """Wait for the owner's first slice, and give it up behind the block."""
        async with self._owners.setdefault(owner, asyncio.Lock()):
            turn = Turn(self._slice)
            await turn.begin()
            try:
                yield turn
            finally:
                turn.end()


class Turn:
    """The slices of one work."""

    __slots__ = ("_begun", "_holds", "_slice")

    def __init__(self, slice_: asyncio.Lock) -> None:
        self._slice = slice_
        self._holds = False
        self._begun = 0.0

    async def rest(self) -> None:
        """To be called after every small step: if the slice is over, let the others go on until it is our turn."""
        if time.monotonic() - self._begun >= SLICE_SECONDS:
            self.end()
            await self.begin()

    async def begin(self) -> None:
        """Wait for a slice."""
        await self._slice.acquire()
        self._holds, self._begun = True, time.monotonic()

    def end(self) -> None:
        """Give it up; the next one begins after a pause."""
        if self._holds:
            self._holds = False
            pause = min(time.monotonic() - self._begun, MAX_PAUSE_SECONDS)
            asyncio.get_running_loop().call_later(pause, self._slice.release)
