"""Which cores run what: what is measured on one, everything else on the others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")
_IDLE_FIELDS: Final = (3, 4)  # idle, iowait
_GUEST_FIELDS: Final = 8  # from here on, what is in user and nice already


@dataclass(frozen=True, slots=True)
class Cores:
    """How the machine is divided."""

    serving: frozenset[int]
    """For what is measured: one core, unless the machine has no other."""
    others: frozenset[int]
    """For callers, upstream, databases and all the rest."""

    @classmethod
    def divided(cls, available: frozenset[int] | None = None) -> Cores:
        """The last core serves. Where there is only one, nothing is divided.

        :param available: all that this process may use, if not told
        """
        cores = available if available is not None else frozenset(os.sched_getaffinity(0))
        if len(cores) < 2:
            return cls(cores, cores)
        serving = frozenset({max(cores)})
        return cls(serving, cores - serving)

    @property
    def are_divided(self) -> bool:
        """Whether what is measured has its core for itself."""
        return self.serving != self.others


def busy_seconds(cores: frozenset[int], stat: str | None = None) -> float:
    """How long these cores have worked since the machine started, for whomever.

    :param stat: the text of /proc/stat, if it is not to be read
    """
    lines = (stat if stat is not None else Path("/proc/stat").read_text()).splitlines()
    names = {f"cpu{core}" for core in cores}
    ticks = 0
    for name, *fields in (line.split() for line in lines if line.startswith("cpu")):
        if name in names:
            ticks += sum(int(field) for n, field in enumerate(fields[:_GUEST_FIELDS]) if n not in _IDLE_FIELDS)
    return ticks / _TICKS_A_SECOND


@contextmanager
def running_on(cores: frozenset[int]) -> Iterator[None]:
    """What this thread starts inside, processes and threads, runs on `cores`; the thread too, meanwhile."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
