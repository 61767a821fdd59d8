"""`compose.yaml` and the Dockerfile as Docker would read them, for a machine without Docker.

A container becomes a process with exactly the command and environment that the two files give; only names are mapped:
each host to a loopback address of its own, each volume to a folder, `/app` to the code.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from kit import health
from stack.server import Launch, Server

ROOT: Final = Path(__file__).resolve().parents[2]
ROOMS: Final = ("registry", "router", "executor", "inference", "analytics", "gateway")

_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?:(?P<operator>:\?|:-)(?P<text>[^}]*))?\}")


def compose() -> dict[str, Any]:
    """The file, with its anchors resolved."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return found


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """`${NAME}`, `${NAME:?message}` and `${NAME:-default}` replaced as Compose does.

    :raises KeyError: for a variable that must be there
    """

    def value(match: re.Match[str]) -> str:
        found = variables.get(match["name"], "")
        if not found and match["operator"] == ":-":
            return str(match["text"])
        if not found:
            raise KeyError(match["name"])
        return found

    return _VARIABLE.sub(value, text)


def variables_of(path: Path) -> dict[str, str]:
    """An env file."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction of the Dockerfile."""

    word: str
    text: str

    def arguments(self) -> list[str]:
        """Of `CMD [...]` and `ENTRYPOINT [...]`: the list."""
        found: list[str] = yaml.safe_load(self.text[self.text.index("[") :])
        return found


def dockerfile(service: str) -> list[Step]:
    """Its instructions in order, lines joined, `SERVICE` filled in."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [Step(*line.replace("${SERVICE}", service).split(maxsplit=1)) for line in lines]


def settings_of(steps: list[Step]) -> dict[str, str]:
    """What ENV instructions set."""
    words = [word for step in steps if step.word == "ENV" for word in shlex.split(step.text)]
    return dict(word.split("=", 1) for word in words)


class Container(Server):
    """A service of the compose file as a process."""

    ready_seconds = 60.0

    def __init__(self, folder: Path, name: str, variables: Mapping[str, str], hosts: Mapping[str, str]) -> None:
        """
        :param folder: of the whole installation; volumes are folders in it
        :param variables: what `.env` holds
        :param hosts: for each host name the loopback address in its place, with a port if that differs
        """
        super().__init__(folder / name)
        self.name = name  # type: ignore[misc]  # one class, as many names as services
        self.spec: dict[str, Any] = compose()["services"][name]
        self.image = dockerfile(self.spec["build"]["args"]["SERVICE"])
        self._hosts = hosts
        self._volumes = {"/app": str(ROOT)}
        for volume in self.spec.get("volumes", ()):
            source, target = volume.split(":")[:2]
            self._volumes[target] = str(folder / "volumes" / source)
        given = {key: interpolated(str(value), variables) for key, value in self.spec["environment"].items()}
        self.environment = {key: self._mapped(value) for key, value in (settings_of(self.image) | given).items()}

    @property
    def address(self) -> str:
        """Where its gRPC is to be called."""
        return f"{self._hosts[self.name]}:7070"

    @property
    def metrics_address(self) -> str:
        """Where it is scraped."""
        return f"{self._hosts[self.name]}:9464"

    def command(self) -> list[str]:
        """The image's entry point and the service's command, run by this Python."""
        entry = next(step for step in self.image if step.word == "ENTRYPOINT").arguments()
        assert entry[0] == "python"
        return [sys.executable, *entry[1:], *self.spec["command"]]

    def health_command(self) -> list[str]:
        """What the image's HEALTHCHECK runs."""
        check = next(step for step in self.image if step.word == "HEALTHCHECK").arguments()
        assert check[0] == "python"
        return [sys.executable, *check[1:]]

    def whole_environment(self) -> dict[str, str]:
        """What the process gets, and nothing else."""
        return {"PATH": os.environ.get("PATH", os.defpath), **self.environment}

    def _mapped(self, value: str) -> str:
        # In one go, so that what was put in is not mapped again.
        names = "|".join(map(re.escape, sorted((*self._hosts, "0.0.0.0"), key=len, reverse=True)))

        def host(match: re.Match[str]) -> str:
            mapped = self._hosts[self.name if match[1] == "0.0.0.0" else match[1]]
            return mapped if ":" in mapped else f"{mapped}:{match[2]}"

        mapped = re.sub(rf"(?<![\w.-])({names}):(\d+)", host, value)
        for target, folder in self._volumes.items():
            mapped = re.sub(rf"(?<![\w.-]){re.escape(target)}(?![\w-])", folder, mapped)
        return mapped

    def _launch(self) -> Launch:
        for target, folder in self._volumes.items():
            if target != "/app":
                Path(folder).mkdir(parents=True, exist_ok=True, mode=0o700)
        return Launch(self.command(), self.whole_environment(), self.folder)

    def _answers(self) -> bool:
        return health.main([self.address]) == 0
