"""Each of `--workers N` is a target of its own."""

from __future__ import annotations

import re
from pathlib import Path

import aiohttp
import pytest

from stack.folder import free_port, is_free_port
from stack.nats import Nats
from stack.postgres import Postgres
from tests.system.clients import eventually
from tests.system.processes import installed

pytestmark = pytest.mark.slow


async def test_workers_are_scraped_at_ports_in_a_row_and_are_told_apart(open_folder: Path, postgres: Postgres) -> None:
    first = next(port for port in iter(free_port, 0) if is_free_port(port + 1))
    settings = {"TURNOUT_METRICS_ADDRESS": f"127.0.0.1:{first}"}

    async def instances() -> set[str]:
        texts = []
        async with aiohttp.ClientSession() as session:
            for port in (first, first + 1):
                try:
                    async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                        texts.append(await answer.text())
                except aiohttp.ClientError as error:
                    raise AssertionError(str(error)) from error
        found = set(re.findall(r'service_instance_id="(\w+)"', "".join(texts)))
        assert len(found) == 2
        return found

    with Nats(open_folder / "nats-of-workers") as nats:
        with installed(open_folder, postgres, nats, "all", workers=2, extra=settings):
            assert await eventually(instances)
