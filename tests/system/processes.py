"""Processes that system tests run: installations and upstreams."""

from __future__ import annotations

import json
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stack.folder import free_port
from stack.nats import Nats
from stack.postgres import Postgres
from stack.services import Installation, Mode
from stack.supervisor import Child


@contextmanager
def upstream(folder: Path, *arguments: str) -> Iterator[str]:
    """An instant OpenAI-compatible server in its own process; its base URL."""
    with _program(folder, "bench.upstream", "--port", "0", *arguments) as address:
        yield f"http://{address}/v1"


@contextmanager
def faulty(folder: Path, *arguments: str) -> Iterator[str]:
    """A provider that fails as it is told to, in its own process; its URL without a path."""
    with _program(folder, "tests.system.faulty", *arguments) as address:
        yield f"http://{address}"


@contextmanager
def _program(folder: Path, module: str, *arguments: str) -> Iterator[str]:
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "upstream.log"
    child = Child.start(
        [sys.executable, "-m", module, *arguments],
        env={"PATH": "", "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        cwd=folder,
        log_path=log,
    )
    try:
        yield json.loads(_first_line(log, child))["address"]
    finally:
        child.stop()


def _first_line(log: Path, child: Child) -> str:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if log.exists() and "\n" in (text := log.read_text()):
            return text.splitlines()[0]
        assert child.alive(), "the upstream ended at once"
        time.sleep(0.02)
    raise AssertionError("the upstream did not start")


@contextmanager
def installed(
    open_folder: Path, postgres: Postgres, nats: Nats, mode: Mode, *, scraped: str = "", **options: Any
) -> Iterator[Installation]:
    """An installation with a database and a folder of its own.

    :param scraped: a service whose process tells metrics, at its `TURNOUT_METRICS_ADDRESS`
    """
    name = f"system_{uuid.uuid4().hex[:8]}"
    folder = open_folder / name
    installation = Installation(folder, mode=mode, postgres=postgres, nats=nats, database=name, **options)
    if scraped:
        installation.process(scraped).environment["TURNOUT_METRICS_ADDRESS"] = f"127.0.0.1:{free_port()}"
    try:
        with installation:
            yield installation
    except BaseException:
        for process in installation.processes:
            if process.log_path.exists():
                print(f"--- {process.name}\n{process.log_path.read_text()[-8000:]}")
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
