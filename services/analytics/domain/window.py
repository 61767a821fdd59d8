"""Windows of time, and the cheapest exact way to measure one: days and hours from rollups, the rest one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from kit.errors import Invalid, Violation
from services.analytics.domain.rollup import Grain

DEFAULT_DAYS = 30


class Span(NamedTuple):
    """Moments from `start_us`, included, to `end_us`, not included; microseconds since 1970."""

    start_us: int
    end_us: int


@dataclass(frozen=True, slots=True)
class Cover:
    """A window cut into parts that do not overlap and leave nothing out."""

    periods: tuple[tuple[Grain, Span], ...]
    """Of whole hours or whole days."""
    edges: tuple[Span, ...]
    """Of single requests."""


def window_of(start_us: int | None, end_us: int | None, *, now_us: int) -> Span:
    """The window that a query asks for: it ends now and begins 30 days before its end unless it says otherwise.

    :raises Invalid: `WINDOW_EMPTY`
    """
    end = now_us if end_us is None else end_us
    start = end - DEFAULT_DAYS * Grain.DAY.us if start_us is None else start_us
    if start >= end:
        message = "must be before end_time"
        raise Invalid(f"start_time {message}", reason="WINDOW_EMPTY", violations=(Violation("start_time", message),))
    return Span(start, end)


def measurable(window: Span, *, requests_since_us: int) -> Span:
    """The window itself where single requests are still kept; before that, widened to whole hours, since only those
    are known."""
    start, end = window
    if start < requests_since_us:
        start = Grain.HOUR.floor(start)
    if end < requests_since_us:
        end = Grain.HOUR.ceil(end)
    return Span(start, end)


def cover_of(window: Span) -> Cover:
    """How to measure a window."""
    start, end = window
    first_hour, last_hour = Grain.HOUR.ceil(start), Grain.HOUR.floor(end)
    if first_hour >= last_hour:
        return Cover((), (window,))
    edges = _spans((start, first_hour), (last_hour, end))
    first_day, last_day = Grain.DAY.ceil(first_hour), Grain.DAY.floor(last_hour)
    if first_day >= last_day:
        return Cover(((Grain.HOUR, Span(first_hour, last_hour)),), edges)
    hours = _spans((first_hour, first_day), (last_day, last_hour))
    return Cover(((Grain.DAY, Span(first_day, last_day)), *((Grain.HOUR, span) for span in hours)), edges)


def _spans(*bounds: tuple[int, int]) -> tuple[Span, ...]:
    return tuple(Span(start, end) for start, end in bounds if start < end)
