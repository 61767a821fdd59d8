from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

Eventually = Callable[[Callable[[], object], str], None]


def _eventually(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, f"not within 15 s: {what}"
        time.sleep(0.01)


def _is_gone(pid: int) -> bool:
    """A zombie counts as gone: who reaps the supervisor of a killed parent is the system's business."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture(scope="session")
def eventually() -> Eventually:
    """Waits for a condition, at most 15 s."""
    return _eventually


@pytest.fixture(scope="session")
def is_gone() -> Callable[[int], bool]:
    """Whether no process of that id runs."""
    return _is_gone


@pytest.fixture(scope="session")
def open_root() -> Iterator[Path]:
    """A folder that everybody can enter; pytest's own is closed, and so stands for a closed home when we are root."""
    root = Path(tempfile.mkdtemp(prefix="turnout-test-"))
    root.chmod(0o755)
    yield root
    # What a killed test left may still be stopping, and removes its own files.
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(open_root: Path) -> Iterator[Path]:
    """The system's temporary folder for these tests, so that nothing of theirs stays behind in the real one."""
    folder = open_root / "tmp"
    folder.mkdir()
    folder.chmod(0o1777)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        patch.setenv("TMPDIR", str(folder))
        yield folder


@pytest.fixture
def open_folder(open_root: Path) -> Path:
    """A fresh folder that everybody can enter."""
    folder = Path(tempfile.mkdtemp(dir=open_root))
    folder.chmod(0o755)
    return folder


@pytest.fixture
def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root changes users: an ordinary user runs everything as itself")
