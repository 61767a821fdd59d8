"""Calls that run at the same time take each step together: all of them one step, and then all of them the next."""

from __future__ import annotations

from collections.abc import Generator
from types import TracebackType, coroutine
from typing import Any


class Abreast:
    """Steps of calls, for one event loop.

    A call runs more code and touches more memory than the caches next to a core hold, so calls that run one after the
    other, each from its beginning to where it waits, find nothing of it there. If they wait for each other after a
    step, the next one's step finds what this one's has just used (docs/decisions/0025).

    A call is in the block of its own `with` while it takes steps.
    """

    __slots__ = ("calls",)

    def __init__(self) -> None:
        self.calls = 0
        """How many are in their blocks, also those that wait for something else there."""

    def __enter__(self) -> None:
        self.calls += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.calls -= 1

    @coroutine
    def step(self) -> Generator[None, Any, None]:
        """Let whatever is ready go before; at once for a call that is alone."""
        if self.calls > 1:
            yield
