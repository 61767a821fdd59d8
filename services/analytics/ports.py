"""What analytics needs from outside, on one page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from catalog.view import View
from services.analytics.domain.request import Outcome, PayloadPiece, Rejection, Request, Series
from services.analytics.domain.rollup import Period, Totals
from services.analytics.domain.window import Cover, Span


class Projects(Protocol):
    """The local view of what the registry owns."""

    def usable_view(self) -> View:
        """The newest view.

        :raises Unavailable: if there is none, or none new enough
        """
        ...


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A request as lists show it."""

    start_us: int
    request_id: str
    packed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which requests of a project to list."""

    project: str
    window: Span
    series: frozenset[Series] | None
    """None means all."""
    outcome: Outcome | None
    before: tuple[int, str] | None
    """Start and request id of the last entry seen."""


class Ingest(Protocol):
    """One transaction that takes events: all of them or none."""

    async def add_requests(self, requests: Sequence[Request]) -> Sequence[Request]:
        """Keep those that are not known yet, by event id.

        :return: those that were not
        """
        ...

    async def add_totals(self, periods: Mapping[Period, Totals]) -> None:
        """Add to what is known of these periods."""
        ...

    async def add_payloads(self, pieces: Sequence[PayloadPiece]) -> None:
        """Keep those that are not known yet, by request and index."""
        ...

    async def reject(self, rejection: Rejection) -> None:
        """Keep an event that could not be taken, once. Takes any."""
        ...


class Reading(Protocol):
    """One unchanging state of everything."""

    async def series(self, project: str) -> frozenset[Series]:
        """All that a project ever had."""
        ...

    async def totals(self, series: Iterable[Series], cover: Cover) -> Mapping[Series, Totals]:
        """What these series add up to in a window."""
        ...

    async def logs(self, query: LogQuery, *, limit: int, max_bytes: int) -> tuple[Sequence[LogEntry], bool]:
        """Newest first, at most `limit`, and no more after `max_bytes` of events; one at least, if there is one.

        :return: the entries, and whether more follow
        """
        ...


class Store(Protocol):
    """Where analytics keeps what it owns.

    Every method, of its transactions too, raises `Unavailable` when the database cannot be reached or takes too long,
    and `Conflict` when another transaction was in the way; nothing has then happened.
    """

    async def prepare(self, requests: Sequence[Request], pieces: Sequence[PayloadPiece]) -> None:
        """Make what must be there before these can be added; safe to repeat, and by two at once."""
        ...

    def ingest(self) -> AbstractAsyncContextManager[Ingest]:
        """A transaction; commits when the block ends, rolls back if it raises."""
        ...

    def reading(self) -> AbstractAsyncContextManager[Reading]:
        """A snapshot."""
        ...
