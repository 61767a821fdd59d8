"""Everything the router needs from outside."""

from __future__ import annotations

from typing import Protocol

from catalog.targets import Target
from catalog.view import Revision, View
from services.router.domain import Simulated


class Views(Protocol):
    """The catalog."""

    def usable_view(self) -> View:
        """The newest view.

        :raises Unavailable: if there is none, or none new enough
        """
        ...


class Registry(Protocol):
    """Keeps every revision that there was."""

    async def revision(self, target: Target, segment: str, timeout_seconds: float) -> Revision:
        """A revision of the target's deployment that its caller may read.

        :param segment: number or uid
        :raises NotFound: `REVISION_NOT_FOUND`
        :raises AppError: what else the registry refuses
        :raises Unavailable: if it cannot be reached in time
        """
        ...


class Recorder(Protocol):
    """Keeps what happened, durably, before it returns. Never waits."""

    def record(self, simulated: Simulated) -> None:
        """A single call that was tried.

        :raises Unavailable: if nothing can be recorded now
        """
        ...


class Ids(Protocol):
    """Makes ids."""

    def __call__(self, kind: str, /) -> str:
        """A new one, such as `req_…` for the kind `req`."""
        ...


class Clock(Protocol):
    """Time."""

    def now(self) -> float:
        """Seconds on the clock of deadlines."""
        ...

    def unix_ns(self) -> int:
        """Nanoseconds since 1970."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...
