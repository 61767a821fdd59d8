"""Long computations beside calls, on one event loop."""

from __future__ import annotations

from typing import Final

from services.router.ports import Clock

SLICE_SECONDS: Final = 0.002
"""How long a computation keeps the loop to itself: a call that needs ten turns of it is late by ten of these."""


class Slices:
    """Cuts a computation into slices between which everybody else runs."""

    __slots__ = ("_clock", "_until")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = clock.now() + SLICE_SECONDS

    @property
    def is_over(self) -> bool:
        """Whether the slice is: ask after every small step."""
        return self._clock.now() >= self._until

    async def pause(self) -> None:
        """Let everybody else run, then begin the next slice. Here a computation is cancelled if nobody waits for it."""
        await self._clock.sleep(0)
        self._until = self._clock.now() + SLICE_SECONDS
