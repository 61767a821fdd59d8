"""Debian's Prometheus with the installation's own rules, scraping what a test runs."""

from __future__ import annotations

import json
import math
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from stack.server import Launch, Server
from tests.deploy.containers import ROOT


class Prometheus(Server):
    """`deploy/prometheus`, but for its pace and for where the services are."""

    name = "prometheus"
    ready_seconds = 30.0

    def __init__(self, folder: Path, binaries: Path, targets: Mapping[str, str]) -> None:
        """
        :param binaries: where the program is
        :param targets: by service, where it is scraped
        """
        super().__init__(folder)
        self._binaries = binaries
        self._targets = targets

    def _launch(self) -> Launch:
        config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(ROOT / "deploy" / "prometheus" / name) for name in config["rule_files"]]
        config["scrape_configs"][0]["static_configs"] = [
            {"targets": [target], "labels": {"service": service}} for service, target in self._targets.items()
        ]
        file = self.folder / "prometheus.yml"
        file.write_text(yaml.safe_dump(config))
        command = [str(self._binaries / "prometheus"), f"--config.file={file}"]
        command += [f"--web.listen-address=127.0.0.1:{self.port}", f"--storage.tsdb.path={self.folder / 'data'}"]
        return Launch(command, env={"PATH": "/usr/bin:/bin"}, cwd=self.folder)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def get(self, path: str, **parameters: str) -> Any:
        """What the HTTP API says.

        :raises OSError: with what it says is wrong, such as an expression that cannot be parsed
        """
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}?{query}", timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise OSError(f"{parameters}: {error.read().decode()}") from None

    def numbers(self, expression: str) -> list[float]:
        """The value of every series now that is a number."""
        result = self.get("query", query=expression)["result"]
        values = (float(series["value"][1]) for series in result)
        return [value for value in values if math.isfinite(value)]

    def numbers_soon(self, expression: str, *, seconds: float = 60) -> list[float]:
        """The same once there are any; empty if there are none in that time."""
        deadline = time.monotonic() + seconds
        while not (found := self.numbers(expression)) and time.monotonic() < deadline:
            time.sleep(0.2)
        return found
