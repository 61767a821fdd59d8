"""`GET /metrics` for Prometheus, and `GET /healthz`, on the process's own event loop.

Meant for the operator's network: it shows names of projects and deployments, and asks for no key.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from kit.errors import CannotStart
from kit.metrics.instruments import Histogram, HistogramSeries, Reading
from kit.metrics.registry import Metrics

log = logging.getLogger(__name__)

_LARGE_SERIES: Final = 50
"""From so many series on, the page is written in a thread: one takes about 0.1 ms, and calls must not wait for it."""
_MAX_SCRAPES: Final = 4
"""More at once than this are told to come back: a page is written for one at a time."""


class MetricsUnservable(CannotStart):
    """The metrics cannot be listened for. The text is for the operator."""


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
            async with self._writing:
                # Here, because sources belong to the loop; instruments may be read from any thread.
                self._readings = self._metrics.readings()
                encode, content_type = choose_encoder(accept)
                if self._series() > _LARGE_SERIES:
                    return await asyncio.to_thread(encode, self._registry), content_type
                return encode(self._registry), content_type
        finally:
            self._waiting -= 1

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

    def _series(self) -> int:
        counters, histograms = self._metrics.counters, self._metrics.histograms
        return sum(len(counter) for counter in counters) + sum(len(histogram) for histogram in histograms)


def _buckets(histogram: Histogram, series: HistogramSeries) -> list[tuple[str, float]]:
    # A copy: the last bucket must be the count of all, whatever is observed meanwhile.
    counts = list(series.counts)
    cumulated, buckets = 0, []
    for bound, count in zip((*histogram.bounds, float("inf")), counts, strict=True):
        cumulated += count
        buckets.append(("+Inf" if bound == float("inf") else repr(float(bound)), float(cumulated)))
    return buckets


@asynccontextmanager
async def endpoint(metrics: Metrics, address: str, *, workers: int = 1) -> AsyncIterator[int]:
    """Serve the page while the block lasts; gives the port.

    :param address: `host:port`; port 0 picks a free one
    :param workers: how many processes were given this address: each takes the first free port of so many in a row
    :raises MetricsUnservable: if none can be had
    """
    page = Page(metrics)

    async def show(request: web.Request) -> web.Response:
        written = await page.write(request.headers.get("accept", ""))
        if written is None:
            return web.Response(status=503, text="too many scrapes at once\n", headers={"retry-after": "1"})
        body, content_type = written
        return web.Response(body=body, headers={"content-type": content_type})

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    application = web.Application(client_max_size=1024)
    application.router.add_get("/metrics", show)
    application.router.add_get("/healthz", answer)
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1)
    await runner.setup()
    try:
        port = await _listen(runner, address, workers)
        log.info("metrics are served", extra={"port": port})
        yield port
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, address: str, workers: int) -> int:
    host, _, text = address.rpartition(":")
    first = int(text)
    ports = [0] if first == 0 else range(first, min(first + workers, 65536))
    cause = ""
    for port in ports:
        try:
            # Alone on its port: with two processes on one, a scrape would see now this one, now that.
            await web.TCPSite(runner, host.strip("[]"), port, reuse_port=False).start()
        except OSError as error:
            cause = error.strerror or type(error).__name__
            continue
        bound: int = runner.addresses[0][1]
        return bound
    through = f" to {ports[-1]}" if len(ports) > 1 else ""
    raise MetricsUnservable(f"TURNOUT_METRICS_ADDRESS: cannot listen on {address}{through}: {cause}")
