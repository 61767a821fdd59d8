"""Calls are served while everything beside the executor is down, and nothing that happened meanwhile is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from kit import status
from stack.services import Installation
from tests.system.clients import tenant
from tests.system.load import Outcome, assert_counted_once, load, on_disk, own_installation, settled, spooled
from tests.system.processes import upstream
from turnout.registry.v1 import api_key_service_pb2

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def mortal(open_folder: Path) -> Iterator[Installation]:
    """An installation whose every server may be stopped."""
    with own_installation(open_folder, "outage") as running:
        yield running


@pytest.fixture
def paced_llm(tmp_path: Path) -> Iterator[str]:
    """An upstream of one test's own that answers after 40 ms."""
    with upstream(tmp_path, "--latency-ms", "40") as base_url:
        yield base_url


async def test_calls_are_served_and_counted_though_registry_router_postgres_and_nats_are_down(
    mortal: Installation, paced_llm: str
) -> None:
    executor = mortal.process("executor")
    others = (mortal.nats, mortal.postgres, mortal.process("registry"), mortal.process("router"))
    async with tenant(mortal) as shop:
        await shop.create_provider("paced", paced_llm, credential="sk-sealed-on-disk")
        await shop.create_deployment("agent", "paced", prompts=("one", "two"))
        revoked = shop.with_key((await shop.create_key(["deployments:run"])).key)
        name = f"{shop.parent}/apiKeys/{revoked.key.split('_')[1]}"
        await shop.write(shop.keys.RevokeApiKey, api_key_service_pb2.RevokeApiKeyRequest(name=name))
        await on_disk(mortal, shop.sequence)

        async with load(shop, "agent") as before:
            await before.answered(100)
            for server in others:
                await asyncio.to_thread(server.kill)
            await before.answered(200)
        await asyncio.to_thread(executor.stop, 30)
        await asyncio.to_thread(executor.start)
        async with load(shop, "agent") as restarted:
            await restarted.answered(200)
        await asyncio.to_thread(executor.kill)
        await asyncio.to_thread(executor.start)
        async with load(shop, "agent") as revived:
            await revived.answered(200)

        calls = before.calls | restarted.calls | revived.calls
        assert all(seen.outcome is Outcome.OK for seen in calls.values())
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await revoked.run("agent")
        assert status.reason_of(failure.value) == "KEY_UNKNOWN", "what was revoked before the outage stays revoked"

        for server in others:
            await asyncio.to_thread(server.start)
        await settled(shop, mortal.nats, len(calls))
        await assert_counted_once(shop, calls)
        assert spooled(mortal, shop.project).started == calls.keys()
        await shop.create_deployment("made-afterwards", "paced")
        assert (await shop.run("made-afterwards")).message.content
        await revoked.close()


async def test_one_process_for_all_serves_and_counts_though_postgres_and_nats_are_down(
    open_folder: Path, paced_llm: str
) -> None:
    # The registry is in this process, which therefore starts only with Postgres; but it goes on without.
    with own_installation(open_folder, "outage-together", "all") as together:
        async with tenant(together) as shop:
            await shop.create_provider("paced", paced_llm, credential="sk-sealed")
            await shop.create_deployment("agent", "paced", prompts=("one", "two"))
            async with load(shop, "agent") as books:
                await books.answered(100)
                for server in (together.nats, together.postgres):
                    await asyncio.to_thread(server.kill)
                await books.answered(300)
                for server in (together.nats, together.postgres):
                    await asyncio.to_thread(server.start)
                await books.answered(100)

            assert all(seen.outcome is Outcome.OK for seen in books.calls.values())
            await settled(shop, together.nats, len(books.calls))
            await assert_counted_once(shop, books.calls)
            assert spooled(together, shop.project).started == books.calls.keys()
            await shop.create_deployment("made-afterwards", "paced")
            assert (await shop.run("made-afterwards")).message.content


def test_a_registry_that_is_followed_stops_at_once(mortal: Installation) -> None:
    registry = mortal.process("registry")
    begun = time.monotonic()

    registry.stop(timeout_seconds=30)

    # Its followers' streams never end by themselves, so it must not wait for them as it does for calls.
    took = time.monotonic() - begun
    registry.start()
    assert took < 5
