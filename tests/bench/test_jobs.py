from __future__ import annotations

import sys

import pytest

from bench.jobs import Job, JobFailed, Outcome, read_job, run_job, write_outcome

ECHO = "import json, sys; job = json.load(sys.stdin); print('noise')\n"


def test_a_job_and_its_outcome_survive_the_way_through_a_process() -> None:
    outcome = Outcome([0.1, 0.2], 1.0, 0.5, 20.0, 3, 0.25)
    program = f"{ECHO}assert job['headers'] == {{'a': 'b'}}; print({write_outcome(outcome)!r})"

    assert run_job(Job(1, 1.0, headers={"a": "b"}), [sys.executable, "-c", program], {}) == outcome


def test_a_job_that_fails_says_why() -> None:
    with pytest.raises(JobFailed, match="status 503: no"):
        run_job(Job(1, 1.0), [sys.executable, "-c", "import sys; sys.exit('status 503: no')"], {})


@pytest.mark.parametrize("said", ["", '{"latencies": [0.1, 0.'], ids=["nothing", "half an outcome"])
def test_an_outcome_that_is_cut_off_fails_the_job(said: str) -> None:
    with pytest.raises(JobFailed, match=f"{len(said)} characters that are no outcome"):
        run_job(Job(1, 1.0), [sys.executable, "-c", f"print({said!r}, end='')"], {})


def test_an_outcome_may_be_large() -> None:
    program = f"print({write_outcome(Outcome([0.1], 1.0, 0.5, 20.0, 1, 0.25))!r}.replace('[', '[' + '0.1, ' * 300_000))"

    assert len(run_job(Job(1, 1.0), [sys.executable, "-c", program], {}).latencies) == 300_001


def test_a_job_is_read_as_it_was_written() -> None:
    assert read_job('{"concurrency": 2, "seconds": 1.5, "path": "/x"}') == Job(2, 1.5, path="/x")
