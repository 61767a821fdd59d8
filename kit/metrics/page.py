"""What `GET /metrics` answers, in Prometheus' formats."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from kit.metrics.instruments import Histogram, HistogramSeries, Reading
from kit.metrics.registry import Metrics

_LARGE_SERIES: Final = 50
"""From so many series on, the page is written in a thread: one takes about 0.1 ms, and calls must not wait for it."""
_MAX_SCRAPES: Final = 4
"""More at once than this are told to come back: a page is written for one at a time."""


class Page(Collector):
    """Writes what a :class:`Metrics` holds."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._readings: list[Reading] = []
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._writing = asyncio.Lock()
        self._waiting = 0

    async def write(self, accept: str) -> tuple[bytes, str] | None:
        """The page in the format that `accept` (an HTTP header) prefers, and its content type; None if too many ask."""
        if self._waiting >= _MAX_SCRAPES:
            return None
        self._waiting += 1
        try:
            await self._writing.acquire()
        except BaseException:
            self._waiting -= 1
            raise
        # A scraper may leave, a thread cannot: the next page waits for its end, not for its scraper's.
        return await asyncio.shield(asyncio.create_task(self._written(accept)))

    def collect(self) -> Iterable[Metric]:
        """What prometheus_client writes."""
        for reading in self._readings:
            kind = CounterMetricFamily if reading.is_counter else GaugeMetricFamily
            family = kind(reading.name, reading.documentation, labels=tuple(reading.labels))
            family.add_metric(tuple(reading.labels.values()), reading.value)
            yield family
        for counter in self._metrics.counters:
            counts = CounterMetricFamily(counter.name, counter.documentation, labels=counter.labels)
            for values, series in counter.all():
                counts.add_metric(values, series.value)
            yield counts
        for histogram in self._metrics.histograms:
            spread = HistogramMetricFamily(histogram.name, histogram.documentation, labels=histogram.labels)
            for values, observed in histogram.all():
                spread.add_metric(values, _buckets(histogram, observed), sum_value=observed.total)
            yield spread

    async def _written(self, accept: str) -> tuple[bytes, str]:
        try:
            # Here, because sources belong to the loop; instruments may be read from any thread.
            self._readings = self._metrics.readings()
            encode, content_type = _encoder(accept)
            if self._series() > _LARGE_SERIES:
                return await asyncio.to_thread(encode, self._registry), content_type
            return encode(self._registry), content_type
        finally:
            self._writing.release()
            self._waiting -= 1

    def _series(self) -> int:
        counters, histograms = self._metrics.counters, self._metrics.histograms
        return sum(len(counter) for counter in counters) + sum(len(histogram) for histogram in histograms)


def _encoder(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):
        # It compares numbers with what stands for a version there.
        return choose_encoder("")


def _buckets(histogram: Histogram, series: HistogramSeries) -> list[tuple[str, float]]:
    # A copy: the last bucket must be the count of all, whatever is observed meanwhile.
    counts = list(series.counts)
    cumulated, buckets = 0, []
    for bound, count in zip((*histogram.bounds, float("inf")), counts, strict=True):
        cumulated += count
        buckets.append(("+Inf" if bound == float("inf") else repr(float(bound)), float(cumulated)))
    return buckets
