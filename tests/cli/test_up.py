"""`turnout up`: the first minutes of a newcomer, and nothing left behind."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from cli.up import passed_on
from stack.services import ROOMS
from tests.system.processes import upstream

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

PROGRAM = Path(sys.executable).with_name("turnout")
LAST_LINE = "Ctrl-C stops everything; the data stay."


@dataclass
class Up:
    """A running `turnout up`, as a person sees it."""

    process: subprocess.Popen[bytes]
    output: Path

    @classmethod
    def start(cls, folder: Path, *arguments: str) -> Up:
        """Start it in a folder, and wait until it has told how to call it."""
        output = folder / f"up-{time.monotonic_ns()}.txt"
        with output.open("wb") as file:
            process = subprocess.Popen([PROGRAM, "up", *arguments], cwd=folder, stdout=file, stderr=subprocess.STDOUT)
        up = cls(process, output)
        deadline = time.monotonic() + 60
        while LAST_LINE not in up.text:
            assert process.poll() is None, up.text
            assert time.monotonic() < deadline, up.text
            time.sleep(0.05)
        return up

    @property
    def text(self) -> str:
        return self.output.read_text()

    def fact(self, name: str) -> str:
        """What it told under a name."""
        found = re.search(rf"^{name} +(\S.*)$", self.text, re.MULTILINE)
        assert found is not None, self.text
        return found[1].strip()

    def port(self, name: str) -> str:
        """The port of the address that it told under a name."""
        return self.fact(name).removesuffix("/v1").rpartition(":")[2]

    @property
    def commands(self) -> list[str]:
        """The commands it printed."""
        told = self.text.partition("In another terminal, in this folder:\n")[2].partition("\n\n")[0]
        return [line.removeprefix("  ") for line in told.splitlines()]

    def family(self) -> list[psutil.Process]:
        """Everything it started, now."""
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty one that Postgres' unprivileged user can reach."""
    path = Path(tempfile.mkdtemp(prefix="turnout-up-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Up]]:
    """Starts it there; what a failed test leaves is ended with its parent."""
    started: list[Up] = []

    def start(*arguments: str) -> Up:
        started.append(Up.start(folder, *arguments))
        return started[-1]

    yield start
    for up in started:
        up.process.kill()
        up.process.wait()


def shell(command: str, folder: Path) -> str:
    """What a shell shows for a command."""
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


def assert_gone(processes: list[psutil.Process], seconds: float = 15) -> None:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    # Whoever is nobody's child is reaped by the init process, if there is one.
    assert [each for each in alive if each.status() != psutil.STATUS_ZOMBIE] == []


def test_the_printed_commands_work_ctrl_c_ends_all_and_the_next_start_finds_the_data(
    folder: Path, start: Callable[..., Up]
) -> None:
    began = time.monotonic()
    up = start()
    print(f"up after {time.monotonic() - began:.1f} s")

    run, show, stats = up.commands
    assert shell(run, folder).strip()
    shown = shell(show, folder)
    assert "travel-assistant" in shown
    assert "Plain" in shown
    assert "travel-assistant" in wait_for(stats, folder, r"total +1 ")
    key = up.fact("API key")
    path = re.search(r" in (\S+secrets\.json)", up.fact("platform key"))
    assert path is not None
    platform_key = json.loads((folder / path[1]).read_text())["platform_key"]
    program = run.partition(" run ")[0]
    assert "created" in shell(f"TURNOUT_API_KEY={platform_key} {program} projects create another", folder)
    snippets = shell(f"{program} deployments snippets travel-assistant", folder)
    assert up.fact("for OpenAI SDKs") in snippets
    assert up.fact("address") in snippets

    family = up.family()
    assert len(family) > 4
    began = time.monotonic()
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(40) == 0
    print(f"down after {time.monotonic() - began:.1f} s")
    assert_gone(family, 2)
    assert "Traceback" not in up.text
    refused = subprocess.run(["bash", "-c", stats], cwd=folder, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "turnout up" in refused.stderr

    again = start()
    assert again.fact("API key") == key
    assert again.fact("data") == up.fact("data")
    assert "travel-assistant" in wait_for(again.commands[2], folder, r"total +1 ")
    family = again.family()
    again.process.kill()
    again.process.wait()
    assert_gone(family)


def test_one_folder_goes_from_one_mode_to_the_other_and_back(folder: Path, start: Callable[..., Up]) -> None:
    calls = 0
    with upstream(folder / "upstream") as base_url:
        for turn, options in enumerate(([], ["--split"], [])):
            up = start(*options)
            turnout = up.commands[0].partition(" run ")[0]
            # Each turn makes what needs the keys (a deployment) and the key-encryption keys (a credential).
            credential = "TURNOUT_PROVIDER_CREDENTIAL=sk-of-a-turn"
            shell(f"{credential} {turnout} providers create p{turn} --base-url {base_url}", folder)
            shell(f"{turnout} deployments create d{turn} --provider p{turn} --model m --system Hello", folder)
            for earlier in range(turn + 1):
                wait_for(f"{turnout} run d{earlier} || true", folder, "Paris")
                calls += 1
            wait_for(f"{turnout} stats", folder, rf"total +{calls} +0 ")
            up.process.send_signal(signal.SIGINT)
            assert up.process.wait(60) == 0

    assert calls == 6


def test_a_damaged_secrets_or_key_file_is_told_and_a_deleted_key_made_anew(
    folder: Path, start: Callable[..., Up]
) -> None:
    up = start()
    data = folder / up.fact("data")
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(60) == 0

    for name in ("secrets.json", "api-key"):
        whole = (data / name).read_bytes()
        (data / name).write_bytes(whole[: len(whole) // 2])
        done = subprocess.run([PROGRAM, "up"], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert str(data / name) in done.stderr.replace("\n", "")
        assert "delete it" in done.stderr
        assert "Traceback" not in done.stderr
        (data / name).write_bytes(whole)

    (data / "api-key").unlink()
    again = start()
    assert again.fact("API key") != up.fact("API key")
    assert shell(again.commands[0], folder).strip()


def test_two_at_once_have_folders_and_ports_of_their_own(folder: Path, start: Callable[..., Up]) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda options: start(*options), [[], ["--split"]])

    assert first.fact("data") != second.fact("data")
    ports = [
        {first.port(name) for name in ("address", "for OpenAI SDKs", "local LLM")},
        {second.port(name) for name in ("for OpenAI SDKs" if room == "gateway" else room for room in ROOMS)},
    ]
    assert len(ports[1]) == len(ROOMS), "of each service, by its name"
    assert ports[0].isdisjoint(ports[1])
    assert shell(second.commands[0], folder).strip()

    family = second.family()
    second.process.terminate()
    assert second.process.wait(60) == 0
    assert_gone(family, 2)

    # The other one goes on, and is what the commands reach now.
    assert shell(first.commands[0], folder).strip()
    family = first.family()
    first.process.send_signal(signal.SIGINT)
    assert first.process.wait(60) == 0
    assert_gone(family, 2)


def test_a_folder_that_cannot_be_written_is_told(folder: Path) -> None:
    (folder / "file").touch()

    done = subprocess.run(
        [PROGRAM, "up", "--folder", "file"], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "file" in done.stderr


def wait_for(command: str, folder: Path, pattern: str) -> str:
    """Repeat a command until what it shows matches."""
    deadline = time.monotonic() + 20
    while not re.search(pattern, shown := shell(command, folder)):
        assert time.monotonic() < deadline, shown
    return shown


def test_settings_of_services_are_passed_on_and_those_of_the_command_line_are_not() -> None:
    environment = {
        "TURNOUT_OTLP_ENDPOINT": "http://127.0.0.1:4317",
        "TURNOUT_TRACE_SAMPLE_RATIO": "1",
        "TURNOUT_API_KEY": "tk_1",
        "TURNOUT_PROJECT": "shop",
        "TURNOUT_ADDRESS": "elsewhere:50051",
        "TURNOUT_METRICS_ADDRESS": "127.0.0.1:9090",
        "PATH": "/bin",
    }

    assert passed_on(environment) == {
        "TURNOUT_OTLP_ENDPOINT": "http://127.0.0.1:4317",
        "TURNOUT_TRACE_SAMPLE_RATIO": "1",
    }
