"""What deployment files are tried with: an env file as operators make it, and Debian's Prometheus."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.containers import ROOT, variables_of


@pytest.fixture(scope="session")
def env_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`.env`, made by the command that compose.yaml names."""
    path = tmp_path_factory.mktemp("env") / ".env"
    done = subprocess.run(
        ["bash", str(ROOT / "scripts" / "env.sh"), str(path)],
        env=os.environ | {"PYTHON": sys.executable, "PYTHONPATH": f"{ROOT}:{ROOT}/protos/gen"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="session")
def variables(env_file: Path) -> dict[str, str]:
    """What `.env` holds."""
    return variables_of(env_file)


@pytest.fixture(scope="session")
def prometheus_folder() -> Path:
    """Where `prometheus` and `promtool` are; downloaded once per checkout."""
    # Inside .venv, which is this checkout's own, is not committed and goes with `make clean`.
    script = ROOT / "scripts" / "prometheus.sh"
    done = subprocess.run(
        ["bash", str(script), str(Path(sys.prefix) / "prometheus")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())
