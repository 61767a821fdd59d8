"""Counters and histograms: a plain attribute or a list per series, so that moving one is a fraction of a microsecond.

`prometheus_client`'s own take a lock each time and look through a histogram's buckets one by one, 0.5 and 2 µs; and an
event moves ten of them. These are moved by the event loop's thread alone. Another may read them: each number is whole.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

OTHER: Final = "_other"
"""What every label of a series says that came after the bound was reached."""

MAX_SERIES: Final = 1000


@dataclass(frozen=True, slots=True)
class Reading:
    """A number that is read when somebody asks."""

    name: str
    """Without `_total`, which a counter gets."""
    documentation: str
    value: float
    is_counter: bool = False
    """Whether it only grows, from 0 at the start of the process."""
    labels: Mapping[str, str] = field(default_factory=dict)


class CounterSeries:
    """One series of a counter. Add to `value`; never take away."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0


class HistogramSeries:
    """One series of a histogram."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """How many values fell between the bound before and this one; the last is above all bounds."""
        self.total = 0.0
        """Sum of all values."""

    def observe(self, value: float) -> None:
        """Count `value`, in the histogram's unit. A value that equals a bound is below it, as `le` says."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


S = TypeVar("S", CounterSeries, HistogramSeries)


class Instrument(ABC, Generic[S]):
    """Series by the values of their labels, no more than `limit`: what comes later shares one, so that names made by
    callers cannot fill the memory here or at Prometheus."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], limit: int) -> None:
        self.name = name
        self.documentation = documentation
        self.labels = tuple(labels)
        self._limit = limit
        self._series: dict[tuple[str, ...], S] = {}

    def series(self, *values: str) -> S:
        """The series of these label values, in the order of the labels. Looking it up costs more than moving it.

        :raises ValueError: unless there is a value for every label
        """
        found = self._series.get(values)
        return self._new(values) if found is None else found

    def __len__(self) -> int:
        return len(self._series)

    def all(self) -> Iterator[tuple[tuple[str, ...], S]]:
        """Every series with its label values, as of now."""
        # A copy in one step: the loop may add some while another thread reads.
        yield from list(self._series.items())

    def _new(self, values: tuple[str, ...]) -> S:
        if len(values) != len(self.labels):
            raise ValueError(f"{self.name} has the labels {', '.join(self.labels)}")
        if len(self._series) >= self._limit and self.labels:
            values = (OTHER,) * len(self.labels)
        return self._series.setdefault(values, self._make())

    @abstractmethod
    def _make(self) -> S:
        """An empty series."""


class Counter(Instrument[CounterSeries]):
    """A number that only grows. `name` is without `_total`."""

    def _make(self) -> CounterSeries:
        return CounterSeries()


class Histogram(Instrument[HistogramSeries]):
    """How values are spread over fixed bounds, which ascend."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], limit: int, bounds: tuple[float, ...]
    ) -> None:
        super().__init__(name, documentation, labels, limit)
        self.bounds = bounds

    def _make(self) -> HistogramSeries:
        return HistogramSeries(self.bounds)
