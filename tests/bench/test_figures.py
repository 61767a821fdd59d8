from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import time

import psutil
import pytest

from bench import figures
from bench.figures import percentile, ratio, row_of


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [(1, 0.5, 1), (1, 0.99, 1), (2, 0.5, 1), (3, 0.5, 2), (100, 0.99, 99), (101, 0.99, 100), (1000, 0.99, 990)],
)
def test_a_percentile_is_the_nearest_rank(count: int, share: float, expected: int) -> None:
    assert percentile(range(1, count + 1), share) == expected


def test_a_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="not one call ended"):
        percentile([], 0.5)


def test_a_row_counts_calls_and_shares_the_cpu_among_them() -> None:
    row = row_of("x", 10, [0.003, 0.001, 0.002, 0.1], seconds=2.0, cpu=0.008, rss_mb=5)

    assert (row.calls, row.rate, row.cpu_ms) == (4, 2.0, 2.0)
    assert (row.p50_ms, row.p99_ms) == (2.0, 100.0)


def test_code_that_was_not_called_for_a_while_is_timed_beside_code_that_was() -> None:
    warm, cold = (float(found) for found in re.findall(r"(\d+\.\d+) (?:µs|after)", figures.caches()))

    assert warm > 0
    assert cold > 0


def test_a_ratio_is_ours_over_theirs_and_infinite_over_nothing() -> None:
    assert ratio(3, 2) == 1.5
    assert ratio(3, 0) == math.inf


def test_the_cpu_of_a_process_includes_that_of_its_children() -> None:
    # Longer than is waited for: the kernel counts in ticks, and tells of some of them late.
    child_works = "import time; end = time.process_time() + 0.6\nwhile time.process_time() < end: pass\ninput()"
    with subprocess.Popen([sys.executable, "-c", child_works], stdin=subprocess.PIPE) as child:
        before = figures.cpu_seconds(os.getpid())
        deadline = time.monotonic() + 20
        while figures.cpu_seconds(child.pid) < 0.3:
            assert time.monotonic() < deadline
        assert figures.cpu_seconds(os.getpid()) - before > 0.2
        assert figures.rss_mb(os.getpid()) > psutil.Process().memory_info().rss / 1e6 + 1
        child.communicate(b"\n")


def test_a_suspended_process_lies_still_until_it_is_resumed() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            figures.suspend(child.pid)
            deadline = time.monotonic() + 10
            while psutil.Process(child.pid).status() != psutil.STATUS_STOPPED:
                assert time.monotonic() < deadline
            figures.resume(child.pid)
            assert child.communicate(b"x", timeout=10)[0] == b"x"
        finally:
            child.kill()


def test_a_table_is_aligned_to_its_widest_cells() -> None:
    assert figures.table(("", "n"), [("long name", "1"), ("x", "1000")]).splitlines() == [
        "              n",
        "long name     1",
        "x          1000",
    ]
