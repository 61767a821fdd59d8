"""A key's call is made once, whatever becomes of the process that makes it."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import asyncpg
import grpc
import pytest

from kit import status
from stack.nats import Nats
from stack.postgres import Postgres
from tests.system.clients import SCOPES, Clients, eventually, tenant
from tests.system.processes import installed, upstream


async def _reason(shop: Clients) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await shop.run("slow", idempotency_key="order-7")
    return status.reason_of(failure.value)


async def test_a_key_outlives_the_executor_that_was_killed_with_it(open_folder: Path, postgres: Postgres) -> None:
    folder = open_folder / f"idempotency-{uuid.uuid4().hex[:8]}"
    with (
        Nats(folder / "nats") as nats,
        upstream(folder / "quick") as quick,
        upstream(folder / "slow", "--latency-ms", "3600000") as slow,
        installed(folder, postgres, nats, "split") as installation,
    ):
        async with tenant(installation, SCOPES) as shop:
            await shop.create_provider("quick", quick)
            await shop.create_provider("slow", slow)
            await shop.create_deployment("quick", "quick")
            await shop.create_deployment("slow", "slow")
            answered = await shop.run("quick", idempotency_key="done")
            running = asyncio.ensure_future(shop.run("slow", idempotency_key="order-7", timeout=60))

            async def _is_running() -> None:
                assert await _reason(shop) == "IDEMPOTENCY_KEY_IN_USE"

            url = installation.process("executor").environment["TURNOUT_EXECUTOR_DATABASE_URL"].replace("+asyncpg", "")
            connection = await asyncpg.connect(url)

            async def _is_taken() -> None:
                assert await connection.fetchval("SELECT count(*) FROM executor.idempotency_records") == 2

            await eventually(_is_taken)
            await _is_running()
            await asyncio.to_thread(installation.process("executor").kill)
            await asyncio.gather(running, return_exceptions=True)
            await asyncio.to_thread(installation.process("executor").start)

            # Another process, and it knows.
            again = await shop.run("quick", idempotency_key="done")
            assert (again.request_id, again.repeated_answer) == (answered.request_id, True)
            await _is_running()

            # When the dead call must have ended, its key is free: the call is made again, and fails only for its time.
            await connection.execute("UPDATE executor.idempotency_records SET busy_until = now()")
            await connection.close()
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await shop.run("slow", idempotency_key="order-7", timeout=2)
            assert failure.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
