"""What `make install` says on a machine that lacks something. Nothing here touches the network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "install.sh"


def install(folder: Path, python: str, *, path: str = "/usr/bin:/bin") -> subprocess.CompletedProcess[str]:
    """The script with nothing but the shell's own programs beside it: no uv."""
    lock = folder / "lock.txt"
    lock.write_text("")
    bash = ["/bin/bash", str(SCRIPT), str(folder / "venv"), str(lock)]
    environment = {"PATH": path, "PYTHON": python}
    return subprocess.run(bash, env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def program(folder: Path, name: str, *lines: str) -> str:
    """A made-up one."""
    path = folder / name
    path.write_text("\n".join(["#!/bin/bash", *lines]) + "\n")
    path.chmod(0o755)
    return str(path)


def assert_told(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit 1 and one sentence with these words."""
    assert done.returncode == 1
    [sentence] = done.stderr.splitlines()
    for word in words:
        assert word in sentence


@pytest.mark.parametrize("python", ["", "python-that-is-not-there"])
def test_without_python_it_says_what_is_needed(tmp_path: Path, python: str) -> None:
    # The Makefile gives an empty name if it finds none.
    assert_told(install(tmp_path, python, path=str(tmp_path)), "Python 3.11", "apt install python3", "PYTHON=")


def test_too_old_a_python_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    # Runs what it is asked as a Python 3.10 would.
    fake = "import sys; sys.version_info = (3, 10, 0, 'final', 0)"
    old = program(tmp_path, "python3.10", f'exec {sys.executable} -c "{fake}; ${{2#import sys; }}"')

    assert_told(install(tmp_path, old), "Python 3.11", "PYTHON=")
    assert not (tmp_path / "venv").exists()


def test_a_python_that_can_make_no_environment_names_the_package_that_mends_it(tmp_path: Path) -> None:
    # As Debian's without python3-venv: the module is there, and fails for want of ensurepip.
    poor = program(
        tmp_path,
        "python3",
        'if [ "$1" = -m ] && [ "$2" = venv ]; then echo "ensurepip is not available" >&2; exit 1; fi',
        f'exec {sys.executable} "$@"',
    )

    done = install(tmp_path, poor)

    assert_told(done, "virtual environments", f"apt install python{sys.version_info[0]}.{sys.version_info[1]}-venv")


def test_without_uv_pip_installs_by_hash_and_then_the_project_itself(tmp_path: Path) -> None:
    # Its environment holds a pip that writes down what it is asked.
    notes = tmp_path / "notes"
    made = program(
        tmp_path,
        "python3",
        'if [ "$1" = -m ] && [ "$2" = venv ]; then',
        f'  mkdir -p "$3/bin"; printf \'#!/bin/bash\\necho "$@" >> {notes}\\n\' > "$3/bin/python"',
        '  chmod +x "$3/bin/python"',
        "  exit 0",
        "fi",
        f'exec {sys.executable} "$@"',
    )

    done = install(tmp_path, made)

    assert done.returncode == 0, done.stderr
    lock, project = notes.read_text().splitlines()
    assert "--no-deps --require-hashes -r" in lock
    assert project.endswith("-e .")


def test_with_uv_the_same_is_left_to_it(tmp_path: Path) -> None:
    notes, tools = tmp_path / "notes", tmp_path / "tools"
    tools.mkdir()
    program(tools, "uv", f'echo "$@" >> {notes}')

    done = install(tmp_path, sys.executable, path=f"{tools}:/usr/bin:/bin")

    assert done.returncode == 0, done.stderr
    made, lock, project = notes.read_text().splitlines()
    assert made.startswith("venv ")
    assert "--no-deps --require-hashes -r" in lock
    assert project.endswith("-e .")


def test_an_installation_that_fails_half_way_fails_as_a_whole(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    program(tools, "uv", '[ "$1" = venv ]')

    assert install(tmp_path, sys.executable, path=f"{tools}:/usr/bin:/bin").returncode != 0
