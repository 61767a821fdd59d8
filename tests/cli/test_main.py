"""What every command does alike: it teaches, and it fails in sentences."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import Result

from catalog import keys
from cli.app import app

COMMAND = [sys.executable, "-m", "cli.main"]
NOWHERE = ("--address", "127.0.0.1:1", "--project", "shop")
COMMANDS = ["up", "demo", "run", "recommend", "stats", "logs", "train"]
GROUPS = ["projects", "providers", "deployments", "models", "keys", "credentials"]


def leaves(command: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command that does something."""
    found = getattr(command, "commands", None)
    if found is None:
        return [path]
    return [leaf for name, below in found.items() for leaf in leaves(below, (*path, name))]


def test_help_says_what_it_is_and_names_every_command(turnout: Callable[..., Result]) -> None:
    shown = turnout("--help")

    assert shown.exit_code == 0
    assert "turnout up" in shown.stdout
    for name in COMMANDS + GROUPS:
        assert name in shown.stdout


@pytest.mark.parametrize("path", leaves(get_command(app)), ids=" ".join)
def test_every_command_explains_itself_and_its_options(turnout: Callable[..., Result], path: tuple[str, ...]) -> None:
    shown = turnout(*path, "--help")

    assert shown.exit_code == 0
    assert shown.stdout.count(".") >= 1
    command = get_command(app)
    for name in path:
        command = command.commands[name]  # type: ignore[attr-defined]  # a group: it has a command below
    assert command.help
    for parameter in command.params:
        assert getattr(parameter, "help", None) or parameter.name == "help", parameter.name


def test_without_an_address_a_sentence_says_how_to_give_one(turnout: Callable[..., Result]) -> None:
    for arguments in (["stats"], ["run", "agent"], ["projects", "list"], ["--project", "shop", "keys", "list"]):
        done = turnout(*arguments)

        assert done.exit_code == 1
        assert "turnout up" in done.stderr
        assert "TURNOUT_ADDRESS" in done.stderr
        assert done.stdout == ""


def test_without_a_project_a_sentence_says_how_to_give_one(turnout: Callable[..., Result]) -> None:
    done = turnout("--address", "127.0.0.1:1", "stats")

    assert done.exit_code == 1
    assert "TURNOUT_PROJECT" in done.stderr


def test_a_server_that_is_down_is_told(turnout: Callable[..., Result]) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"

        done = turnout("--address", address, "--project", "shop", "--api-key", keys.new_key().text, "stats")

    assert done.exit_code == 1
    assert "UNAVAILABLE" in done.stderr
    assert address in done.stderr


@pytest.mark.slow
def test_a_key_that_is_wrong_malformed_or_missing_is_told(shop: Callable[..., Result]) -> None:
    for key, reason in ((keys.new_key().text, "KEY_UNKNOWN"), ("nonsense", "KEY_MALFORMED"), ("", "KEY_MISSING")):
        done = shop("stats", TURNOUT_API_KEY=key)

        assert done.exit_code == 1
        assert "UNAUTHENTICATED" in done.stderr
        assert reason in done.stderr
        assert not key or key not in done.stderr


def as_a_shell_does(
    folder: Path, *arguments: str | bytes, to: str = "", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own, in an empty folder.

    :param to: a file in the place of standard output
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TURNOUT_")}
    with open(to or os.devnull, "wb") as file:
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=folder,
            env=clean | environment,
            stdout=file,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )


def test_an_argument_that_is_no_text_is_told(tmp_path: Path) -> None:
    done = as_a_shell_does(tmp_path, *NOWHERE, "run", "agent", b"\xff")

    assert (done.returncode, done.stderr) == (2, b"argument 7 is not valid UTF-8\n")


def test_a_setting_that_is_no_text_is_told(tmp_path: Path) -> None:
    done = as_a_shell_does(tmp_path, *NOWHERE, "stats", TURNOUT_API_KEY="\udcff")

    assert done.returncode == 2
    assert b"TURNOUT_API_KEY" in done.stderr
    assert b"Traceback" not in done.stderr


def test_text_passes_in_the_poorest_locale(tmp_path: Path) -> None:
    poor = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

    called = as_a_shell_does(tmp_path, *NOWHERE, "run", "agent", "-v", "when=été", "été".encode(), **poor)
    told = as_a_shell_does(tmp_path, *NOWHERE, "nöpe".encode(), **poor)

    assert called.returncode == 1
    assert b"UNAVAILABLE" in called.stderr, "it got as far as a call"
    assert "nöpe" in told.stderr.decode()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_output_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    done = as_a_shell_does(tmp_path, "--help", to="/dev/full")

    assert done.returncode == 1
    assert done.stderr == b"the answer cannot be written: No space left on device\n"


def test_a_reader_who_has_enough_is_no_matter(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)

    done = subprocess.run(
        [*COMMAND, "run", "--help"], cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False
    )
    os.close(writing)

    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_matter(tmp_path: Path, closed: str) -> None:
    line = f'exec "{sys.executable}" -m cli.main --help {closed}'

    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, timeout=60, check=False)

    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


def catches_ctrl_c(pid: int) -> bool:
    """Whether a process has a handler for SIGINT; while the commands are imported there is none."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt:")]
    return bool(int(line.split()[1], 16) & 1 << (signal.SIGINT - 1))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("after_seconds", [0.0, 0.15, 0.4, 0.8])
def test_ctrl_c_ends_it_quietly_at_any_moment(tmp_path: Path, after_seconds: float) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            [*COMMAND, "--address", address, "--project", "shop", "stats"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A test runner in the background ignores the signal, and so would its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        # Not sooner: until `main` runs, the interpreter itself answers.
        for wanted in (True, False):
            while catches_ctrl_c(process.pid) is not wanted:
                assert process.poll() is None
        # Not a wait for anything: the moment is what varies.
        time.sleep(after_seconds)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)

    assert process.returncode in (130, -signal.SIGINT)
    assert errors.strip() == b""


@pytest.mark.parametrize("option", ["stats --hours", "run agent --timeout-seconds"])
@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e12", "1e18", "0", "-1", "x"])
def test_numbers_out_of_their_range_are_refused_with_it(
    turnout: Callable[..., Result], option: str, value: str
) -> None:
    done = turnout(*NOWHERE, *option.split(), value)

    assert done.exit_code == 2
    said = " ".join(done.stderr.replace("│", " ").split())
    assert option.split()[-1] in said
    assert value == "x" or ("less than or equal to 8" in said) or ("greater than or equal to 0." in said)


@pytest.mark.parametrize("option", ["logs --limit", "deployments create a --provider p --model m --max-output-tokens"])
def test_counts_that_no_contract_takes_are_refused(turnout: Callable[..., Result], option: str) -> None:
    assert turnout(*NOWHERE, *option.split(), "9" * 30).exit_code == 2


def test_json_is_also_how_failures_are_told_to_programs(turnout: Callable[..., Result]) -> None:
    done = turnout("--json", *NOWHERE, "stats")

    assert done.exit_code == 1
    assert done.stdout == ""
    told = json.loads(done.stderr)["error"]
    assert set(told) == {"code", "reason", "message", "metadata", "violations", "attempts"}
    assert (told["code"], told["reason"]) == ("UNAVAILABLE", "PEER_UNAVAILABLE")


@pytest.mark.parametrize(
    "arguments", [["--json", "stats", "--nope"], ["--json", "nope"], ["--json", "stats", "--hours", "--number"]]
)
def test_bad_usage_is_told_in_json_to_whoever_asks_for_json(arguments: list[str]) -> None:
    ran = subprocess.run([*COMMAND, *arguments], capture_output=True, timeout=60, check=False)

    assert (ran.returncode, ran.stdout) == (2, b"")
    told = json.loads(ran.stderr)["error"]
    assert told["reason"] == "USAGE"
    assert arguments[-1].strip("-") in told["message"]


def test_an_address_is_no_url_and_tomorrow_no_date(turnout: Callable[..., Result]) -> None:
    refused = turnout("--address", "http://127.0.0.1:7070", "--project", "shop", "stats")
    assert refused.exit_code == 1
    assert "an address is host:port" in refused.stderr
    refused = turnout(*NOWHERE, "keys", "create", "me", "--until", "tomorrow")
    assert refused.exit_code == 2
    assert "is no date" in refused.stderr
