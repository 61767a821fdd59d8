from __future__ import annotations

import json
from pathlib import Path

import pytest

from kit.errors import Precondition
from stack.nats import Nats
from stack.postgres import Postgres
from stack.services import Installation, Mode, Secrets


def test_secrets_are_made_once_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "secrets.json"

    made = Secrets.kept_in(path)

    assert Secrets.kept_in(path) == made
    assert made.platform_key != made.service_key


def test_modes_of_one_folder_share_its_secrets_and_nothing_that_belongs_to_a_process(tmp_path: Path) -> None:
    postgres, nats = Postgres(tmp_path / "postgres"), Nats(tmp_path / "nats")

    together = Installation(tmp_path, mode="all", postgres=postgres, nats=nats)
    split = Installation(tmp_path, mode="split", postgres=postgres, nats=nats)

    assert together.secrets == split.secrets
    folders = [process.folder for each in (together, split) for process in each.processes]
    assert len(set(folders)) == len(folders)


@pytest.mark.parametrize("mode", ["all", "split"])
def test_programs_for_callers_name_the_executor_that_is_started(tmp_path: Path, mode: Mode) -> None:
    postgres, nats = Postgres(tmp_path / "postgres"), Nats(tmp_path / "nats")

    installation = Installation(tmp_path, mode=mode, postgres=postgres, nats=nats)

    told = installation.process("registry").environment["TURNOUT_REGISTRY_GRPC_ADDRESS"]
    assert told == installation.address("executor")


@pytest.mark.parametrize(
    "damage", ["empty", "cut", "a list", "a number", "another field", "no key", "no encryption key"]
)
def test_damaged_secrets_are_told_with_the_file_and_left_as_they_are(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "secrets.json"
    Secrets.kept_in(path)
    whole = path.read_text()
    kept = json.loads(whole)
    text = {
        "empty": "",
        "cut": whole[:40],
        "a list": "[1]",
        "a number": "7",
        "another field": json.dumps(kept | {"more": ""}),
        "no key": json.dumps(kept | {"service_key": "tk_x"}),
        "no encryption key": json.dumps(kept | {"key_encryption_keys": 3}),
    }[damage]
    path.write_text(text)

    with pytest.raises(Precondition) as failure:
        Secrets.kept_in(path)

    assert failure.value.reason == "SECRETS_UNREADABLE"
    assert str(path) in failure.value.message
    assert "delete it" in failure.value.message
    assert path.read_text() == text
    assert kept["platform_key"] not in failure.value.message


def test_settings_are_passed_on_but_for_those_that_the_installation_chooses(tmp_path: Path) -> None:
    postgres, nats = Postgres(tmp_path / "postgres"), Nats(tmp_path / "nats")
    settings = {"TURNOUT_OTLP_ENDPOINT": "http://127.0.0.1:4317", "TURNOUT_NATS_URL": "nats://elsewhere:4222"}

    installation = Installation(tmp_path, mode="split", postgres=postgres, nats=nats, settings=settings)

    for process in installation.processes:
        assert process.environment["TURNOUT_OTLP_ENDPOINT"] == "http://127.0.0.1:4317"
        assert process.environment["TURNOUT_NATS_URL"] == nats.url
