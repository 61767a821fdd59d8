"""Rollups: requests added up by series and by hour and day. Pure addition, so that no order of events matters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from services.analytics.domain.histogram import bucket_of
from services.analytics.domain.request import Outcome, Request, Series


class Grain(IntEnum):
    """How long a period is, in hours."""

    HOUR = 1
    DAY = 24

    @property
    def us(self) -> int:
        """In microseconds."""
        return self.value * 3_600_000_000

    def floor(self, moment_us: int) -> int:
        """The start of the period that a moment lies in."""
        return moment_us // self.us * self.us

    def ceil(self, moment_us: int) -> int:
        """The moment itself if a period starts there, else the start of the next."""
        return -(-moment_us // self.us) * self.us


@dataclass(slots=True)
class Totals:
    """Sums over some requests of one series."""

    outcomes: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    """Counts in the order of :class:`Outcome`."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd_micros: int = 0
    unknown_cost_requests: int = 0
    newest_us: int | None = None
    """When the newest of them started; None if there are none."""
    latencies: dict[int, int] = field(default_factory=dict)
    """Counts by bucket: see :mod:`services.analytics.domain.histogram`."""

    @property
    def requests(self) -> int:
        """All of them."""
        return sum(self.outcomes)

    def count(self, outcome: Outcome) -> int:
        """Those that ended so."""
        return self.outcomes[outcome - 1]

    def add_request(self, request: Request) -> None:
        self.outcomes[request.outcome - 1] += 1
        self.input_tokens += request.input_tokens
        self.output_tokens += request.output_tokens
        self.cost_usd_micros += request.cost_usd_micros or 0
        self.unknown_cost_requests += request.has_unknown_cost
        if self.newest_us is None or request.start_us > self.newest_us:
            self.newest_us = request.start_us
        if request.latency_us is not None:
            bucket = bucket_of(request.latency_us)
            self.latencies[bucket] = self.latencies.get(bucket, 0) + 1

    def add(self, other: Totals) -> None:
        self.outcomes = [mine + its for mine, its in zip(self.outcomes, other.outcomes, strict=True)]
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.cost_usd_micros += other.cost_usd_micros
        self.unknown_cost_requests += other.unknown_cost_requests
        self.newest_us = max((at for at in (self.newest_us, other.newest_us) if at is not None), default=None)
        for bucket, count in other.latencies.items():
            self.latencies[bucket] = self.latencies.get(bucket, 0) + count


Period = tuple[Series, Grain, int]
"""A series, and the period of it that starts at a moment."""


def periods_of(requests: Iterable[Request]) -> Mapping[Period, Totals]:
    """What these requests add to every period that they lie in; nothing if they served nobody."""
    hours: dict[tuple[Series, int], Totals] = {}
    for request in requests:
        if request.is_simulated:
            continue
        key = (request.series, Grain.HOUR.floor(request.start_us))
        totals = hours.get(key)
        if totals is None:
            totals = hours[key] = Totals()
        totals.add_request(request)
    periods: dict[Period, Totals] = {}
    for (series, start_us), totals in hours.items():
        periods[series, Grain.HOUR, start_us] = totals
        periods.setdefault((series, Grain.DAY, Grain.DAY.floor(start_us)), Totals()).add(totals)
    return periods
