"""`turnout demo`: kept, it can be tried as it says; and it ends well only if all that it shows worked."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.cli.test_up import assert_gone, shell

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PROGRAM = Path(sys.executable).with_name("turnout")
LAST_LINE = "Ctrl-C stops everything."
PATIENCE_SECONDS = 120


@dataclass
class Demo:
    """A running `turnout demo`, as a person sees it."""

    process: subprocess.Popen[bytes]
    output: Path
    family: set[psutil.Process] = field(default_factory=set)
    """Everything it was seen to start."""

    @property
    def text(self) -> str:
        return self.output.read_text()

    @property
    def commands(self) -> Sequence[str]:
        """The commands it printed."""
        told = self.text.partition("In another terminal, in this folder:\n")[2].partition("\ngRPC ")[0]
        return [line.strip() for line in told.splitlines() if line.strip()]

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, self.text
            if self.process.poll() is None:
                self.family.update(psutil.Process(self.process.pid).children(recursive=True))
            time.sleep(0.05)

    def has_ended(self) -> bool:
        return self.process.poll() is not None


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty one that Postgres' unprivileged user can reach."""
    path = Path(tempfile.mkdtemp(prefix="turnout-demo-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Demo]]:
    """Starts it there; what a failed test leaves is ended with its parent."""
    started: list[Demo] = []

    def start(*arguments: str, **environment: str) -> Demo:
        output = folder / "demo.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [PROGRAM, "demo", *arguments],
                cwd=folder,
                env=os.environ | environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        started.append(Demo(process, output))
        return started[-1]

    yield start
    for demo in started:
        demo.process.kill()
        demo.process.wait()


def test_a_kept_demo_can_be_tried_with_the_commands_it_prints_and_ctrl_c_ends_all_of_it(
    folder: Path, start: Callable[..., Demo]
) -> None:
    began = time.monotonic()
    demo = start("--keep")
    demo.wait_until(lambda: LAST_LINE in demo.text or demo.has_ended())
    assert not demo.has_ended(), demo.text
    print(f"all shown after {time.monotonic() - began:.1f} s")

    run, curl, stats = demo.commands
    assert shell(run, folder).strip()
    [choice] = json.loads(shell(curl, folder))["choices"]
    assert choice["message"]["content"].strip()
    assert "travel-assistant" in shell(stats, folder)

    family = [process for process in demo.family if process.is_running()]
    assert len(family) > 3
    began = time.monotonic()
    demo.process.send_signal(signal.SIGINT)
    demo.wait_until(demo.has_ended)
    print(f"down after {time.monotonic() - began:.1f} s")
    assert demo.process.returncode == 128 + signal.SIGINT
    assert_gone(family, 2)
    assert "Traceback" not in demo.text


def test_a_demo_of_which_a_scene_fails_says_so_and_ends_with_a_failure(
    folder: Path, start: Callable[..., Demo]
) -> None:
    # Found before the real one, and without its data.
    (folder / "first" / "recbole").mkdir(parents=True)
    (folder / "first" / "recbole" / "__init__.py").write_text("raise ImportError('this is not recbole')\n")

    demo = start(PYTHONPATH=str(folder / "first"))
    demo.wait_until(demo.has_ended)

    assert demo.process.returncode == 1, demo.text
    assert "The demo failed: the MovieLens data are not installed" in demo.text
    assert "All of it worked" not in demo.text
    assert "Traceback" not in demo.text
    assert len(demo.family) > 3
    assert_gone(list(demo.family), 2)
