from __future__ import annotations

import subprocess
import sys

import pytest

from bench import http, peers
from bench.cores import Cores
from bench.figures import Row
from bench.http import DIRECT, OURS, Results
from bench.jobs import ROOT

CORES = Cores(frozenset({1}), frozenset({0}))
ROWS = [
    Row(DIRECT, 10, 8000, 1.0, 0.2, 0.9, 0.1, 20),
    Row(OURS, 10, 2000, 1.0, 4.0, 9.0, 0.5, 100),
    Row("Portkey", 10, 500, 1.0, 16.0, 30.0, 2.0, 80),
]


def test_the_table_says_what_each_adds_and_how_ours_stands_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    http.report(Results(list(ROWS), calls=2400, events=2400), CORES, (), None)

    lines = {line.split("  ")[0]: line.split()[-9:] for line in capsys.readouterr().out.splitlines()}
    assert lines[OURS][-4:] == ["3.80", "8.10", "0.500", "100"]
    assert lines["Portkey"] == ["16.00", "30.00", "15.80", "29.10", "2.000", "80", "4.00", "0.25", "0.25"]


def test_a_peer_that_is_not_there_is_named_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    http.report(Results(list(ROWS), absent={"LiteLLM": "it is not installed: make bench-peers"}), CORES, (), None)

    told = capsys.readouterr().out
    assert "LiteLLM: it is not installed: make bench-peers" in told
    assert all(f"{name}: " in told for name in peers.ALL)


@pytest.mark.parametrize(("events", "failure"), [(9, ""), (11, ""), (10, "status 503")])
def test_what_was_lost_doubled_or_failed_is_said(capsys: pytest.CaptureFixture[str], events: int, failure: str) -> None:
    http.report(Results(list(ROWS), calls=10, events=events, failure=failure), CORES, (), None)

    told = capsys.readouterr().out
    assert ("FAILED: status 503" if failure else "THEY DIFFER") in told


def test_it_is_said_how_much_of_the_core_others_took(capsys: pytest.CaptureFixture[str]) -> None:
    shares = {(OURS, 1): 0.02, (OURS, 10): 0.31, ("Portkey", 10): 0.04}
    http.report(Results(list(ROWS), foreign_shares=shares), CORES, (), None)

    assert "Turnout up to 31%, Portkey up to 4%" in capsys.readouterr().out


def test_one_core_for_everything_is_admitted(capsys: pytest.CaptureFixture[str]) -> None:
    http.report(Results(list(ROWS)), Cores.divided(frozenset({0})), (), None)

    assert "ONE CORE" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ("bench.http", "--alone"),
        ("bench.http", "--stream", "--interval-ms", "10"),
        ("bench.run",),
    ],
    ids=" ".join,
)
def test_a_short_run_loses_nothing(command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command, "--seconds", "0.5"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "calls, none failed" in done.stdout


@pytest.mark.slow
def test_a_run_with_a_refused_call_fails_and_says_which() -> None:
    refusing = ("--set", "TURNOUT_GATEWAY_MAX_CONCURRENT_REQUESTS=5")
    done = subprocess.run(
        [sys.executable, "-m", "bench.http", "--alone", "--seconds", "0.5", *refusing],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "FAILED: status 503" in done.stdout
