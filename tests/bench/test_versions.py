from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench import versions
from bench.figures import Row
from bench.http import DIRECT
from bench.jobs import ROOT
from bench.versions import OTHER, THIS

STRAIGHT = Row(DIRECT, 10, 8000, 1.0, 0.2, 0.9, 0.1, 20)
OURS = Row("Turnout", 10, 2000, 1.0, 4.0, 9.0, 0.5, 100)


def test_what_counts_is_the_difference_inside_a_round() -> None:
    # The machine is twice as slow in the second round, and the other version half a millisecond slower in each.
    slow = replace(OURS, p50_ms=8.0, cpu_ms=1.0)
    rows = {
        DIRECT: [STRAIGHT, STRAIGHT, STRAIGHT],
        THIS: [OURS, slow, OURS],
        OTHER: [replace(row, p50_ms=row.p50_ms + 0.5, cpu_ms=row.cpu_ms + 0.01) for row in (OURS, slow, OURS)],
    }

    told = versions.report(rows)

    assert "p50 -0.500 ms, CPU -0.010 ms; lower in 3 and 3 of 3 rounds" in told
    this = next(line for line in told.splitlines() if line.startswith("this "))
    assert this.split() == ["this", "2000", "4.000", "3.800", "3.80", "…", "7.80", "0.500"]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.versions", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_it_says_what_it_needs(tmp_path: Path) -> None:
    alone, bare = run(), run("--against", tmp_path)

    assert (alone.returncode, bare.returncode) == (2, 1)
    assert "--against is required" in alone.stderr
    assert "run `make install` there" in bare.stdout


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--stream", "--at-once", "2", "--pieces", "3", "--interval-ms", "10")])
def test_two_versions_are_measured_by_turns(more: tuple[str, ...]) -> None:
    done = run("--against", ROOT, "--rounds", "2", "--seconds", "0.5", *more)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "of 2 rounds" in done.stdout
