"""What the command finds in its surroundings."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from catalog.keys import new_key
from cli.app import app
from cli.client import CLIENT_FILES, from_surroundings, kept

KEY = new_key().text
ADDRESS = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("ADDRESS", "API_KEY", "PROJECT", "REGISTRY_ADDRESS", "EXECUTOR_ADDRESS", "ANALYTICS_ADDRESS"):
        monkeypatch.delenv(f"TURNOUT_{name}", raising=False)
    return tmp_path


@pytest.fixture
def other(folder: Path) -> Iterator[Path]:
    """What another `turnout up` of this folder has left: a file named by a process that lives."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    path = folder / CLIENT_FILES / f"{process.pid}.json"
    path.parent.mkdir(parents=True)
    told = {"addresses": {"analytics": "127.0.0.1:9"}, "api_key": KEY, "project": "demo", "data": str(folder / "0")}
    path.write_text(json.dumps(told))
    os.utime(path, (1, 1))
    yield path
    process.kill()
    process.communicate()


def stats(*options: str) -> str:
    """What `turnout stats` says on standard error to an installation that does not answer."""
    done = CliRunner().invoke(app, [*options, "stats"])
    assert done.exit_code == 1
    return done.stderr


def test_the_only_one_that_runs_is_used_without_a_word(folder: Path) -> None:
    with kept(addresses={"analytics": ADDRESS}, api_key=KEY, project="demo", data=folder / "1"):
        assert "using" not in stats()


def test_of_two_that_run_the_newest_is_used_and_both_are_named(folder: Path, other: Path) -> None:
    with kept(addresses={"analytics": ADDRESS}, api_key=KEY, project="demo", data=folder / "1"):
        told = stats()
        assert told.splitlines()[0].startswith(f"using {ADDRESS} (data 1); another runs at 127.0.0.1:9 (data 0)")
        # Whoever chose, or reads with a program, is not told.
        assert "using" not in stats("--address", ADDRESS)
        assert json.loads(stats("--json"))["error"]["code"] == "UNAVAILABLE"

    assert "NO_ADDRESS" not in stats(), "the other is used now"


@pytest.mark.parametrize("damage", ["", "{", "[]", "7", "\xff"])
def test_a_damaged_file_of_a_running_one_is_passed_over(other: Path, damage: str) -> None:
    other.write_bytes(damage.encode("latin-1"))

    assert from_surroundings(address="", api_key="", project="", as_json=False).addresses == {}


def test_what_is_left_for_others_holds_a_key_so_only_its_owner_reads_it(folder: Path) -> None:
    with kept(addresses={"": ADDRESS}, api_key=KEY, project="demo", data=folder):
        [path] = (folder / CLIENT_FILES).iterdir()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list((folder / CLIENT_FILES).iterdir()) == []


@pytest.mark.parametrize(
    "key",
    ["tk_ключ", f"{KEY}\n", KEY[:-1], "x y", "\x7f", f"{KEY}é"],
    # Keys are random, and workers must agree on the names of tests.
    ids=["letters", "newline", "cut", "words", "control", "accent"],
)
def test_a_text_that_can_be_no_key_is_told_before_anybody_is_called(key: str) -> None:
    told = stats("--address", ADDRESS, "--project", "demo", "--api-key", key)

    assert "KEY_MALFORMED" in told
    assert "TURNOUT_API_KEY" in told
    assert "INTERNAL" not in told
    assert key not in told


def test_where_the_gateway_listens_is_known_of_who_runs_here_and_of_nobody_else(folder: Path) -> None:
    with kept(addresses={"executor": ADDRESS}, http_url="http://127.0.0.1:2", api_key=KEY, project="demo"):
        here = from_surroundings(address="", api_key="", project="", as_json=True)
        elsewhere = from_surroundings(address="127.0.0.1:3", api_key="", project="", as_json=True)

    assert (here.http_url, here.address("executor")) == ("http://127.0.0.1:2", ADDRESS)
    assert (elsewhere.http_url, elsewhere.address("executor")) == ("", "127.0.0.1:3")
