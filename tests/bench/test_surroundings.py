from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.surroundings import Grouped, clean_environment
from stack.nats import Nats
from stack.postgres import Postgres

GROUPS = (("registry", "router"), ("executor", "gateway"), ("analytics",))


def grouped(folder: Path) -> Grouped:
    nats, postgres = Nats(folder / "nats"), Postgres(folder / "postgres")
    return Grouped(folder, GROUPS, postgres=postgres, nats=nats, extra={"TURNOUT_TRACE_SAMPLE_RATIO": "0.1"})


def test_services_of_one_process_call_each_other_there_and_the_others_by_address(tmp_path: Path) -> None:
    installation = grouped(tmp_path)

    serving = installation.process("gateway")
    assert serving is installation.process("executor")
    assert "TURNOUT_EXECUTOR_ADDRESS" not in serving.environment
    assert serving.environment["TURNOUT_REGISTRY_ADDRESS"] == installation.process("router").address
    assert installation.process("registry").environment["TURNOUT_EXECUTOR_ADDRESS"] == serving.address


def test_what_a_benchmark_sets_reaches_every_process(tmp_path: Path) -> None:
    assert {each.environment["TURNOUT_TRACE_SAMPLE_RATIO"] for each in grouped(tmp_path).processes} == {"0.1"}


def test_settings_of_the_caller_do_not_reach_a_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNOUT_NATS_URL", "nats://elsewhere")
    monkeypatch.setenv("KEPT", "1")

    environment = clean_environment()

    assert environment["KEPT"] == "1"
    assert not [name for name in environment if name.startswith("TURNOUT_")]
    assert os.environ["TURNOUT_NATS_URL"] == "nats://elsewhere"
