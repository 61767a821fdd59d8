"""How much of one kind of long work is under way at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from kit.errors import Exhausted

_RETRY_SECONDS: Final = 1.0


class Places:
    """A number of them.

    :param reason: of the refusal where none is free
    """

    def __init__(self, number: int, *, what: str, reason: str) -> None:
        self._number = number
        self._what = what
        self._reason = reason
        self._taken = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Take one for the block.

        :raises Exhausted: if none is free
        """
        if self._taken >= self._number:
            raise Exhausted(
                f"this process {self._what} as much as it may; try again later",
                reason=self._reason,
                retry_after_seconds=_RETRY_SECONDS,
            )
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
