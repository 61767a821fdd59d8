"""`python -m services` as an operator runs it, and what a refusal to start must look like."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

SECRET = "hunter2-planted"
NOWHERE = "postgresql+asyncpg://turnout:hunter2-planted@127.0.0.1:1/turnout"


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m services …` with these settings and no others."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TURNOUT_")}
    return subprocess.run(
        [sys.executable, "-m", "services", *arguments],
        env=clean | environment,
        cwd=Path(tempfile.gettempdir()),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def sentences(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What was said on standard error beside log lines, and grpc's own about a port."""
    lines = done.stderr.splitlines()
    return [line for line in lines if not line.startswith("{") and "add_port.cc" not in line]


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit 2 and one sentence with these words; no traceback, no secret."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stdout + done.stderr
    said = sentences(done)
    assert len(said) == 1 or (len(said) == 2 and said[0] == "bad settings:"), done.stderr
    for word in words:
        assert word in said[-1]
