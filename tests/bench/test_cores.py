from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench.cores import Cores, busy_seconds, running_on

TICKS = os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(
    ("available", "serving", "others", "divided"),
    [({0, 1}, {1}, {0}, True), ({2, 5, 7}, {7}, {2, 5}, True), ({3}, {3}, {3}, False)],
)
def test_the_last_core_serves(available: set[int], serving: set[int], others: set[int], divided: bool) -> None:
    cores = Cores.divided(frozenset(available))

    assert (set(cores.serving), set(cores.others), cores.are_divided) == (serving, others, divided)


def test_what_is_started_inside_is_kept_to_the_cores_and_we_are_not_afterwards() -> None:
    before = os.sched_getaffinity(0)
    one = frozenset({max(before)})

    with running_on(one):
        told = subprocess.check_output([sys.executable, "-c", "import os; print(os.sched_getaffinity(0))"], text=True)

    assert told.strip() == str(set(one))
    assert os.sched_getaffinity(0) == before


def test_the_work_of_a_core_is_all_but_its_idle_time() -> None:
    stat = (
        "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 3 400 50 6 7 8 1 2\ncpu1 0 0 100 5 5 0 0 0 0 0\ncpu10 7 0 0 0 0 0 0 0 0 0\n"
    )

    assert busy_seconds(frozenset({0}), stat) == (1 + 2 + 3 + 6 + 7 + 8) / TICKS
    assert busy_seconds(frozenset({0, 1}), stat) == 127 / TICKS
