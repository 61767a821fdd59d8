"""Long computations beside calls, on one event loop."""

from __future__ import annotations

from typing import Final

from services.router.ports import Clock

SLICE_SECONDS: Final = 0.002
"""How long a computation keeps the loop to itself, and how long it then leaves it to everybody else."""


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
        """Let everybody else run, then begin the next slice. Here a computation is cancelled if nobody waits for it.

        As long as a slice: a call needs ten turns of the loop, and would be late by as many slices if it got but one.
        """
        await self._clock.sleep(SLICE_SECONDS)
        self._until = self._clock.now() + SLICE_SECONDS
