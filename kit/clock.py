"""Time and chance as they are."""

from __future__ import annotations

import asyncio
import random
import time


class SystemClock:
    """The event loop's clock, on which deadlines are set, and the wall's."""

    def now(self) -> float:
        """Seconds on the event loop's clock."""
        return asyncio.get_running_loop().time()

    def unix_ns(self) -> int:
        """Nanoseconds since 1970."""
        return time.time_ns()

    def uniform(self) -> float:
        """A random number in [0, 1)."""
        return random.random()  # noqa: S311  # jitter, no secret

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
