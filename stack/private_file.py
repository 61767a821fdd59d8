"""Small files that only their owner may read, written whole or not at all: after a crash or on a full disk there is
the old one or none, never half of one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write(path: Path, text: str) -> None:
    """Make or replace the file, and its folder if need be. On the disk when this returns.

    :raises OSError: if it cannot be; what was there before stays
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # mkstemp makes it 0600; in the same folder, since a rename cannot leave a file system.
    descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".new")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(fresh).replace(path)
    except BaseException:  # a Ctrl-C as well
        Path(fresh).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
