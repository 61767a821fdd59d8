"""Time and chance as they are."""

from __future__ import annotations

import asyncio
import random
import time


class SystemClock:
    """The monotonic clock, on which event loops set deadlines, and the wall's."""

    # Python's own functions: a call asks some ten times.
    now = staticmethod(time.monotonic)
    """Seconds since an arbitrary moment. Not `loop.time()`: uvloop's is this one in whole milliseconds, as of the
    beginning of the loop's turn."""
    unix_ns = staticmethod(time.time_ns)
    """Nanoseconds since 1970."""

    def uniform(self) -> float:
        """A random number in [0, 1)."""
        return random.random()  # noqa: S311  # jitter, no secret

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
