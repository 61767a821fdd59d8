"""Node, which a wheel brings, and the SDK for it, which only npm has."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAMS = Path(sys.executable).parent
"""Where Python is, and Node."""
_INSTALL = ("install", "--no-audit", "--no-fund", "--silent", "--fetch-retries=0", "--fetch-timeout=15000", "openai@6")
_SECONDS = 40


def environment_of_node() -> dict[str, str]:
    """With Node before all others."""
    return {**os.environ, "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"}


def check(code: str, folder: Path) -> None:
    """See that Node can parse it."""
    (folder / "call.mjs").write_text(code)
    subprocess.run([PROGRAMS / "node", "--check", "call.mjs"], cwd=folder, check=True, timeout=60)


@dataclass(frozen=True, slots=True)
class NodeSdk:
    """A folder with OpenAI's SDK; or why there is none, for not everybody reaches npm's packages."""

    folder: Path
    problem: str

    @classmethod
    def in_folder(cls, folder: Path) -> NodeSdk:
        """Installed there, if it can be had within half a minute."""
        environment = environment_of_node() | {"npm_config_cache": str(folder / "cache")}
        try:
            done = subprocess.run(
                [PROGRAMS / "npm", *_INSTALL],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return cls(folder, "it does not answer")
        return cls(folder, done.stderr[-300:] or "it fails" if done.returncode else "")

    def run(self, code: str, **settings: str) -> str:
        """What a module prints. Skips the test where there is no SDK, once the code has been parsed."""
        check(code, self.folder)
        if self.problem:
            pytest.skip(f"only parsed, not called, because npm cannot get the SDK: {self.problem}")
        done = subprocess.run(
            [PROGRAMS / "node", "call.mjs"],
            cwd=self.folder,
            env=environment_of_node() | settings,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout
