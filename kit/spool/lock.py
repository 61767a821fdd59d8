"""Who owns a folder: the process that holds the flock on its `.lock`. The kernel lets go when the process dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

LOCK = ".lock"


def take(folder: Path) -> int | None:
    """Lock `folder` and give the descriptor that holds the lock; None if somebody else has it or it is gone.

    :raises OSError: if the folder cannot be used at all
    """
    path = folder / LOCK
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # An adopter may have removed the folder between our open and our lock: then this lock guards nothing.
        if os.path.samestat(os.stat(path), os.fstat(fd)):
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def remove(folder: Path) -> None:
    """Remove the lock of a folder that is about to be removed, while holding it."""
    (folder / LOCK).unlink(missing_ok=True)
