"""Where a process spends its time: py-spy's samples, grouped by library."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.figures import table

_SAMPLES_A_SECOND: Final = 100
_SHOWN: Final = 25
_LINE: Final = re.compile(r":\d+\)$")


@dataclass(frozen=True, slots=True)
class Recording:
    """py-spy at work."""

    target: Path
    """Raw stacks: one a line, outermost first, and how often."""
    recorder: subprocess.Popen[bytes]

    @classmethod
    def begin(cls, pid: int, target: Path, seconds: float) -> Recording:
        """Watch a process for so long."""
        command: list[str | Path] = [
            Path(sys.executable).parent / "py-spy",
            "record",
            *("--pid", str(pid), "--duration", str(max(1, int(seconds))), "--rate", str(_SAMPLES_A_SECOND)),
            # What waits holds no lock. The process is stopped for each sample, else stacks would be torn.
            "--gil",
            *("--format", "raw", "--output", target),
        ]
        return cls(target, subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def summary(self) -> str:
        """Wait for the end, then say where the time went. Blocks."""
        if self.recorder.wait(timeout=60) != 0 or not self.target.exists():
            return "there is no profile: py-spy failed"
        return summary_of(self.target.read_text().splitlines())


def summary_of(stacks: Iterable[str]) -> str:
    """Shares of the samples, by the innermost Python frame: what C code takes is its caller's. Last, functions with all
    that they call.

    :param stacks: py-spy's raw lines, `outermost (file:line);…;innermost (file:line) count`
    """
    libraries: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    inclusive: Counter[str] = Counter()
    for stack in stacks:
        frames, _, count = stack.rpartition(" ")
        names = [_LINE.sub(")", frame) for frame in frames.split(";")]
        libraries[_library(names[-1].rpartition(" (")[2].rstrip(")"))] += int(count)
        functions[names[-1]] += int(count)
        for name in set(names):
            inclusive[name] += int(count)
    total = libraries.total()
    if not total:
        return "there is no profile: no samples"
    return "\n\n".join(
        table(
            (f"{len(counted)} {what}", "share of time"),
            [(name, f"{100 * count / total:.1f} %") for name, count in counted.most_common(_SHOWN)],
        )
        for what, counted in (
            ("libraries", libraries),
            ("functions", functions),
            ("functions with what they call", inclusive),
        )
    )


def _library(file: str) -> str:
    parts = Path(file).parts
    if "site-packages" in parts:
        parts = parts[parts.index("site-packages") + 1 :]
    # A room is a library of its own.
    return "/".join(parts[:2]) if parts[:1] in (("services",), ("kit",)) else parts[0] if parts else file
