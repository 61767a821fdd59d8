"""The metrics of one process: who measures puts instruments here, the endpoint shows them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

from kit.metrics.instruments import MAX_SERIES, Counter, Histogram, Reading
from kit.runtime import Runtime

Source: TypeAlias = Callable[[], Iterable[Reading]]
"""Reads numbers that somebody keeps anyway; called on the event loop's thread at every scrape, so it must be quick."""

EventObserver: TypeAlias = Callable[[bytes], None]
"""Learns from one event, given its payload."""


class Metrics:
    """Instruments, sources of readings, and who learns from the events that this process relays.

    To be used from the event loop's thread.
    """

    def __init__(self) -> None:
        self.counters: list[Counter] = []
        self.histograms: list[Histogram] = []
        self._sources: list[Source] = []
        self._event_observers: dict[str, list[EventObserver]] = {}

    def counter(self, name: str, documentation: str, labels: Sequence[str] = (), *, limit: int = MAX_SERIES) -> Counter:
        """A new counter; `name` is without `_total`, `limit` bounds its series."""
        return self.add(Counter(name, documentation, labels, limit))

    def add(self, counter: Counter) -> Counter:
        """Show a counter that was made elsewhere."""
        self.counters.append(counter)
        return counter

    def histogram(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        *,
        bounds: tuple[float, ...],
        limit: int = MAX_SERIES,
    ) -> Histogram:
        """A new histogram; `name` ends with its unit."""
        self.histograms.append(Histogram(name, documentation, labels, limit, bounds))
        return self.histograms[-1]

    def read(self, source: Source) -> None:
        """Show what `source` reads, at every scrape."""
        self._sources.append(source)

    def readings(self) -> list[Reading]:
        """What all sources read now."""
        return [reading for source in self._sources for reading in source()]

    def on_event(self, type_name: str, observer: EventObserver) -> None:
        """Have `observer` called once for each event of this type (a message's full name) that this process relays."""
        self._event_observers.setdefault(type_name, []).append(observer)

    def event_observers(self, type_name: str) -> Sequence[EventObserver]:
        """Who learns from events of this type."""
        return self._event_observers.get(type_name, ())


@asynccontextmanager
async def metrics(_runtime: Runtime) -> AsyncIterator[Metrics]:
    """The process's metrics; made once (`await runtime.shared(metrics)`)."""
    yield Metrics()
