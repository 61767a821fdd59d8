"""The records' database at the start of a process, and while it is away."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from kit import clock, migrations
from kit.errors import CannotStart, Unavailable
from services.executor.idempotency import Answer, Idempotency
from services.executor.store import MIGRATIONS, SCHEMA, opened
from stack.postgres import Postgres
from tests.services.executor.records import begun, live_claim, refusal

ROOT = Path(__file__).parents[3]
ROOM = 1 << 30


class TestOutage:
    async def test_a_database_that_is_down_refuses_calls_until_it_is_back(self, tmp_path_factory: Any) -> None:
        server = Postgres(tmp_path_factory.mktemp("own"))
        try:
            with server:
                server.create_database("x")
                url = server.url("x")
                await migrations.migrate(url, schema=SCHEMA, folder=MIGRATIONS)
                async with opened(url, owner="ins_1", max_bytes=ROOM) as found:
                    calls = Idempotency(found, clock.SystemClock())
                    held = await begun(calls)
                    await calls.finish(await begun(calls, key="done"), b"answer")
                    server.kill()

                    error = await refusal(calls, key="other")
                    assert (type(error), error.reason) == (Unavailable, "IDEMPOTENCY_UNAVAILABLE")
                    await calls.finish(held, b"lost")
                    async with opened(url, owner="ins_2", max_bytes=ROOM) as late:
                        waiting = Idempotency(late, clock.SystemClock())
                        assert (await refusal(waiting)).reason == "IDEMPOTENCY_UNAVAILABLE"

                        server.start()

                        assert await waiting.begin(live_claim(key="done")) == Answer(b"answer")
                        # Its answer could not be stored: nobody makes the call again before its time is up.
                        assert (await refusal(calls)).reason == "IDEMPOTENCY_KEY_IN_USE"
        finally:
            server.remove_data()

    async def test_a_database_that_hangs_holds_no_call(
        self, tmp_path_factory: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        server = Postgres(tmp_path_factory.mktemp("own"))
        try:
            with server:
                server.create_database("x")
                url = server.url("x")
                await migrations.migrate(url, schema=SCHEMA, folder=MIGRATIONS)
                async with opened(url, owner="ins_1", max_bytes=ROOM) as found:
                    calls = Idempotency(found, clock.SystemClock())
                    held = await begun(calls)
                    _signal(server, signal.SIGSTOP)
                    before = asyncio.get_running_loop().time()
                    try:
                        error = await refusal(calls, key="other", seconds=1)
                        await calls.finish(held, b"late")
                        took = asyncio.get_running_loop().time() - before
                    finally:
                        _signal(server, signal.SIGCONT)
                    assert error.reason == "IDEMPOTENCY_UNAVAILABLE"
                    assert took < 3.5
                    await calls.close(10)
                    assert await calls.begin(live_claim()) == Answer(b"late")
                    await begun(calls, key="other")
        finally:
            server.remove_data()

    async def test_a_database_that_may_only_be_read_counts_as_down(
        self, postgres: Postgres, caplog: pytest.LogCaptureFixture
    ) -> None:
        name = f"read_only_{os.getpid()}"
        postgres.create_database(name)
        url = postgres.url(name)
        await migrations.migrate(url, schema=SCHEMA, folder=MIGRATIONS)
        await _execute(url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        async with opened(url, owner="ins_1", max_bytes=ROOM) as found:
            calls = Idempotency(found, clock.SystemClock())
            assert (await refusal(calls)).reason == "IDEMPOTENCY_UNAVAILABLE"
            # The house keeping goes on: without it the process would stop, and its calls with it.
            await calls.sweep()
        assert "expired stay for now" in caplog.text


class TestOpened:
    async def test_a_database_that_nobody_migrated_stops_the_start(self, postgres: Postgres) -> None:
        name = f"never_{os.getpid()}"
        postgres.create_database(name)

        with pytest.raises(CannotStart) as failure:
            await _open(postgres.url(name))

        assert "TURNOUT_EXECUTOR_DATABASE_URL" in str(failure.value)
        assert "python -m services migrate" in str(failure.value)

    async def test_one_that_is_down_or_refuses_us_does_not(
        self, postgres: Postgres, caplog: pytest.LogCaptureFixture
    ) -> None:
        nowhere = "postgresql+asyncpg://turnout:hunter2@127.0.0.1:1/turnout"
        for url in (nowhere, postgres.url("absent")):
            await _open(url)

        assert len(caplog.records) == 2
        assert "hunter2" not in caplog.text


def _signal(server: Postgres, number: int) -> None:
    """To the server and to each connection's process, which are groups of their own."""
    postmaster = psutil.Process(server.pid)
    for process in (postmaster, *postmaster.children(recursive=True)):
        process.send_signal(number)


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _open(url: str) -> None:
    async with opened(url, owner="ins_1", max_bytes=ROOM):
        pass


def test_without_a_database_no_database_library_is_loaded() -> None:
    program = (
        "import sys, services.executor.config, services.executor.idempotency, services.executor.module; "
        "print(sorted({'sqlalchemy', 'alembic', 'asyncpg'} & set(sys.modules)))"
    )
    path = f"{ROOT}{os.pathsep}{ROOT / 'protos' / 'gen'}"
    found = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )

    assert (found.stdout.strip(), found.returncode) == ("[]", 0), found.stderr
