"""Resolve pyproject.toml into locks/: `make lock`.

dev.txt holds everything; one file per extra holds what that service installs, at the same versions. The files are
complete and hashed, so installing needs no resolver: `pip install --no-deps --require-hashes -r locks/executor.txt`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Write every lock file."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    _compile("dev", "--all-extras", "--group", "stack", "--group", "demo", "--group", "dev")
    for extra in extras:
        _compile(extra, "--extra", extra, "--constraint", "locks/dev.txt")


def _compile(name: str, *arguments: str) -> None:
    uv = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
    style = ["--generate-hashes", "--no-emit-index-url", "--no-header", "--no-annotate"]
    # Without this, uv keeps what the file pins already: `make lock UPGRADE=1` moves everything to the newest.
    upgrade = ["--upgrade"] if os.environ.get("UPGRADE") and name == "dev" else []
    target = f"locks/{name}.txt"
    subprocess.run([*uv, *style, *upgrade, *arguments, "pyproject.toml", "-o", target], check=True, cwd=ROOT)  # noqa: S603
    print(f"wrote {target}")


if __name__ == "__main__":
    main()
