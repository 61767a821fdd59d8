from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

Eventually = Callable[[Callable[[], object], str], None]
IsGone = Callable[[int], bool]
Start = Callable[..., tuple[subprocess.Popen[str], dict[str, str]]]

COMMAND = [sys.executable, "-m", "stack"]


@pytest.fixture
def start(open_folder: Path) -> Iterator[Start]:
    """Starts `python -m stack --json` and gives the process and what it printed."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> tuple[subprocess.Popen[str], dict[str, str]]:
        command = [*COMMAND, *arguments, "--json", "--root", str(open_folder)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        return process, json.loads(process.stdout.readline())

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def _real_children(process: subprocess.Popen[str]) -> list[int]:
    """Process ids of everything below the supervisors."""
    supervisors = psutil.Process(process.pid).children()
    return [child.pid for supervisor in supervisors for child in supervisor.children(recursive=True)]


def test_help_says_what_it_does() -> None:
    answer = subprocess.run([*COMMAND, "--help"], stdout=subprocess.PIPE, text=True, check=True)

    assert "loopback" in answer.stdout
    assert "examples:" in answer.stdout


def test_an_unknown_server_is_refused_with_the_known_ones() -> None:
    answer = subprocess.run([*COMMAND, "mysql"], stderr=subprocess.PIPE, text=True, check=False)

    assert answer.returncode == 2
    assert "'mysql' is none of postgres, nats, llm" in answer.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything(start: Start, is_gone: IsGone, number: signal.Signals) -> None:
    process, addresses = start("nats")
    pids = _real_children(process)
    assert set(addresses) == {"folder", "nats"}
    assert pids

    process.send_signal(number)
    _, errors = process.communicate(timeout=15)

    assert (process.returncode, errors) == (0, "")
    assert all(map(is_gone, pids))


def test_a_server_that_ends_by_itself_ends_the_stack_with_an_error(start: Start) -> None:
    process, _ = start("nats")
    (nats,) = _real_children(process)

    os.kill(nats, signal.SIGKILL)
    _, errors = process.communicate(timeout=15)

    assert process.returncode == 1
    assert errors.startswith("error: nats was killed by SIGKILL; its log is ")


def test_a_second_stack_gets_its_own_folder_and_ports(start: Start) -> None:
    _, first = start("nats")
    _, second = start("nats")

    assert Path(first["folder"]).name == "0"
    assert Path(second["folder"]).name == "1"
    assert first["nats"] != second["nats"]


@pytest.mark.slow
def test_all_real_children_disappear_with_a_killed_parent_and_the_next_stack_starts(
    start: Start, eventually: Eventually, is_gone: IsGone
) -> None:
    process, addresses = start()
    pids = _real_children(process)
    assert set(addresses) == {"folder", "postgres", "nats", "llm"}
    assert len(pids) > 3

    process.kill()
    process.wait()

    _, again = start("postgres")
    assert again["folder"] == addresses["folder"]
    eventually(lambda: all(map(is_gone, pids)), "the end of all servers")
