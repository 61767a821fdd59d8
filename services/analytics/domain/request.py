"""What analytics knows of a request and of what was said in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, NamedTuple

from kit import ids

DAY_MS: Final = 86_400_000


class Outcome(IntEnum):
    """How a request ended; the numbers are those of `turnout.events.v1.RequestStatus`."""

    OK = 1
    ERROR = 2
    CANCELLED = 3
    LOST = 4


class Series(NamedTuple):
    """What requests are counted by. The slugs are those that the request was announced with, so that a renamed variant
    begins a new series; the uids tell what belongs together."""

    project: str
    deployment: str
    """Empty of a call without a deployment, and of events that knew none: then only the slug tells."""
    deployment_slug: str
    variant: str
    """Of the assigned variant; empty if the call was refused, or failed before it was decided."""
    variant_slug: str


@dataclass(frozen=True, slots=True)
class Request:
    """One request that ended. All times are microseconds, moments of them since 1970 in UTC."""

    event_id: str
    request_id: str
    series: Series
    outcome: Outcome
    start_us: int
    latency_us: int | None
    """None if lost."""
    input_tokens: int
    output_tokens: int
    cost_usd_micros: int | None
    """None if unknown, or if there was nothing to pay for."""
    has_unknown_cost: bool
    """Whether tokens were used at a price that nobody knows."""
    packed: bytes = field(repr=False)
    """The event as it was announced."""
    is_simulated: bool = False
    """Whether it was only tried and served nobody: kept in the log, and counted nowhere."""

    @property
    def day(self) -> int:
        """Days since 1970, of the making of the event's id: the same in every repetition of the event."""
        return day_of(self.event_id)


@dataclass(frozen=True, slots=True)
class PayloadPiece:
    """A piece of what was said in a request."""

    request_id: str
    project: str
    index: int
    count: int
    truncated: bool
    data: bytes = field(repr=False)

    @property
    def day(self) -> int:
        """Days since 1970, of the making of the request's id."""
        return day_of(self.request_id)


@dataclass(frozen=True, slots=True)
class Rejection:
    """An event that could not be taken, for a person to look at."""

    event_id: str
    subject: str
    stream_sequence: int
    reason: str
    payload: bytes = field(repr=False)


def day_of(uid: str) -> int:
    """Days since 1970 at which a uid, typed or bare, was made."""
    return ids.time_ms_of(uid) // DAY_MS
