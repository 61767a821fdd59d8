"""How this very program is run from a shell in this folder, for the commands that it proposes."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path


def program() -> str:
    """`turnout` if that is found, else the way to it."""
    started_as = Path(sys.argv[0])
    if started_as.suffix == ".py":
        return f"{shlex.quote(os.path.relpath(sys.executable))} -m cli.main"
    found = shutil.which("turnout")
    if found and started_as.exists() and Path(found).samefile(started_as):
        return "turnout"
    return shlex.quote(os.path.relpath(started_as))
