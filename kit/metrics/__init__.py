"""What Prometheus scrapes from a process: instruments that cost little to move, and the page that shows them.

Names are those that OpenTelemetry's would get in Prometheus
(https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/):
words joined by `_`, the unit behind them, counters end in `_total`. `prometheus_client` writes the page; it is imported
by :mod:`kit.metrics.endpoint` alone, so that a process without an endpoint does not pay for it.
"""

from kit.metrics.instruments import OTHER, Counter, CounterSeries, Histogram, HistogramSeries, Reading
from kit.metrics.registry import Metrics, metrics
from kit.metrics.rpcs import ServedCalls

__all__ = [
    "OTHER",
    "Counter",
    "CounterSeries",
    "Histogram",
    "HistogramSeries",
    "Metrics",
    "Reading",
    "ServedCalls",
    "metrics",
]
