"""What is measured, and the arithmetic on it."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

import psutil

_STEPS: Final = 50_000
_DIFFERENT: Final = 400
_MEANWHILE_SECONDS: Final = 0.025


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one subject at one concurrency."""

    name: str
    concurrency: int
    calls: int
    """In the timed seconds; all of them succeeded."""
    seconds: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    """CPU of the serving process, its children included, for one call."""
    rss_mb: float

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.calls / self.seconds


def row_of(name: str, concurrency: int, latencies: Sequence[float], seconds: float, cpu: float, rss_mb: float) -> Row:
    """A row from single latencies in seconds, in any order, and CPU seconds of all of them.

    :raises ValueError: if there are none
    """
    ordered = sorted(latencies)
    return Row(
        name,
        concurrency,
        len(ordered),
        seconds,
        percentile(ordered, 0.5) * 1000,
        percentile(ordered, 0.99) * 1000,
        cpu / len(ordered) * 1000,
        rss_mb,
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that `share` (0 to 1) of all are not above: the nearest rank.

    :param ordered: ascending
    :raises ValueError: if there are none
    """
    if not ordered:
        raise ValueError("there is nothing to take a percentile of: not one call ended")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def interpreter() -> str:
    """Which Python this is, and how fast.

    One that was compiled without profile-guided optimisation, as version managers do by default and distributions not,
    takes a third more for everything.
    """

    def step(number: int) -> int:
        return len(f"{number}") + number

    def steps() -> float:
        begun, total = time.perf_counter(), 0
        for number in range(_STEPS):
            total += step(number)
        return time.perf_counter() - begun

    nanoseconds = min(steps() for _ in range(5)) / _STEPS * 1e9
    return f"Python {platform.python_version()} ({nanoseconds:.0f} ns for a small function)"


def caches() -> str:
    """How much longer code takes that was not called for a while, though this process kept its core busy.

    A stream that begins among the pieces of others runs code and touches objects that were last needed milliseconds
    ago. On a machine whose caches others fill meanwhile, both come from memory.
    """
    table = {number: (str(number), number) for number in range(_DIFFERENT)}
    functions = [_different(number) for number in range(_DIFFERENT)]

    def called() -> float:
        begun, total = time.perf_counter(), 0
        for function in functions:
            total = function(total, table)
        return time.perf_counter() - begun

    def busy() -> None:
        until = time.perf_counter() + _MEANWHILE_SECONDS
        while time.perf_counter() < until:
            pass

    warm, cold = [called() for _ in range(50)][10:], []
    for _ in range(20):
        busy()
        cold.append(called())
    hot_us, cold_us = (median(each) / _DIFFERENT * 1e6 for each in (warm, cold))
    return (
        f"{_DIFFERENT} different functions: {hot_us:.2f} µs each when called again at once, "
        f"{cold_us:.2f} after {_MEANWHILE_SECONDS * 1000:g} ms"
    )


def _different(number: int) -> Callable[[int, Mapping[int, tuple[str, int]]], int]:
    # Each with code and a class of its own: one of them called often would be warm.
    class Pair:
        __slots__ = ("first", "second")

        def __init__(self, first: int, second: int) -> None:
            self.first, self.second = first, second

    def step(total: int, table: Mapping[int, tuple[str, int]]) -> int:
        pair = Pair(total, number)
        found = table.get(number)
        return total if found is None or pair.second != found[1] else pair.first + len(found)

    # Copies: functions of one place share their code.
    step.__code__ = step.__code__.replace()
    Pair.__init__.__code__ = Pair.__init__.__code__.replace()
    return step


def ratio(ours: float, theirs: float) -> float:
    """Ours over theirs; infinite where theirs is nothing."""
    return ours / theirs if theirs else math.inf


def cpu_seconds(pid: int) -> float:
    """User and system time so far of a process, of its children, and of those of them that have ended."""
    total = 0.0
    for process in _family(pid):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
        if process.pid == pid:
            total += times.children_user + times.children_system
    return total


def rss_mb(pid: int) -> float:
    """Resident memory of a process and its children; pages that they share count for each."""
    total = 0
    for process in _family(pid):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 1e6


def suspend(pid: int) -> None:
    """Stop a process and its children where they are, until :func:`resume`."""
    for process in _family(pid):
        process.suspend()


def resume(pid: int) -> None:
    """Let them go on."""
    for process in _family(pid):
        process.resume()


def _family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Columns for people: the first to the left, the others to the right."""
    widths = [max(len(line[column]) for line in (heads, *lines)) for column in range(len(heads))]

    def row(line: Sequence[str]) -> str:
        first, *rest = (f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True))
        return "  ".join((line[0].ljust(len(first)), *rest))

    return "\n".join(row(line) for line in (heads, *lines))
