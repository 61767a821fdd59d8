"""Two executors beside each other: what each of them knows of providers and keys is its own."""

from __future__ import annotations

import asyncio
import json
import urllib.request
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from kit import status
from stack.nats import Nats
from stack.postgres import Postgres
from stack.services import Installation, ServiceProcess
from tests.system.clients import Clients, eventually, tenant
from tests.system.processes import faulty, installed
from turnout.registry.v1 import api_key_pb2, api_key_service_pb2

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Pair:
    """An installation and its second executor."""

    installation: Installation
    second: ServiceProcess
    upstream: str


@pytest.fixture(scope="module")
def pair(open_folder: Path, postgres: Postgres) -> Iterator[Pair]:
    folder = open_folder / f"pair-{uuid.uuid4().hex[:8]}"
    extra = {"TURNOUT_REPLICAS": "2", "TURNOUT_EXECUTOR_BREAKER_EJECTION_SECONDS": "60"}
    with (
        Nats(folder / "nats") as nats,
        faulty(folder / "faulty") as upstream,
        installed(folder, postgres, nats, "split", extra=extra) as installation,
    ):
        of_its_own = {"TURNOUT_DATA_DIR": str(folder / "second" / "data")}
        environment = installation.process("executor").environment | of_its_own
        second = ServiceProcess(folder / "second", ("executor",), environment)
        second.start()
        try:
            yield Pair(installation, second, upstream)
        finally:
            second.stop(timeout_seconds=30)


@pytest.fixture
async def shops(pair: Pair) -> AsyncIterator[tuple[Clients, Clients]]:
    """One tenant, at each of the two executors."""
    async with tenant(pair.installation) as shop:
        await shop.create_provider("any", f"{pair.upstream}/v1")
        other = _at_second(shop, pair)
        yield shop, other
        await other.close()


def _at_second(shop: Clients, pair: Pair) -> Clients:
    return Clients(shop.addresses | {"executor": pair.second.address}, shop.key, shop.project, sequence=shop.sequence)


async def test_a_model_that_one_process_ejects_is_asked_by_the_other_until_it_knows_better(
    pair: Pair, shops: tuple[Clients, Clients]
) -> None:
    shop, other = shops
    await shop.create_deployment("agent", "any", "status-503")
    other.sequence = shop.sequence

    for executor in (shop, other):
        before = await _asked(pair)
        attempts = [await _failed_attempt(executor) for _ in range(8)]
        asked = await _asked(pair) - before
        print(attempts)
        assert attempts == ["PROVIDER_ERROR"] * 5 + ["PROVIDER_CIRCUIT_OPEN"] * 3
        assert asked == 5, "from the fifth failure on nobody asked it"


async def test_each_of_two_processes_allows_a_key_its_half(pair: Pair, shops: tuple[Clients, Clients]) -> None:
    shop, _ = shops
    await shop.create_deployment("agent", "any", "ok")
    made = api_key_pb2.ApiKey(display_name="slow", scopes=["deployments:run"], requests_per_minute=60)
    request = api_key_service_pb2.CreateApiKeyRequest(parent=shop.parent, api_key=made)
    key = await shop.write(shop.keys.CreateApiKey, request)
    limited = replace(shop, key=key.key, _channels=[])
    both = (limited, _at_second(limited, pair))

    for executor in both:
        results = await asyncio.gather(*(_reason(executor) for _ in range(20)))
        # 60 a minute, of which 10 s worth may come at once: 5 for each half; one more may become due meanwhile.
        assert 5 <= results.count("") <= 6
        assert set(results) == {"", "KEY_RATE_EXCEEDED"}

    async def due() -> None:
        assert await _reason(both[0]) == ""

    # One in two seconds from here on.
    await eventually(due, seconds=10)
    for executor in both:
        await executor.close()


async def _reason(executor: Clients) -> str:
    try:
        await executor.run("agent")
    except grpc.aio.AioRpcError as failure:
        return status.reason_of(failure)
    return ""


async def _failed_attempt(executor: Clients) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await executor.run("agent")
    packed = dict(failure.value.trailing_metadata() or ())["grpc-status-details-bin"]
    assert isinstance(packed, bytes)
    [debug] = [
        error_details_pb2.DebugInfo.FromString(detail.value)
        for detail in status_pb2.Status.FromString(packed).details
        if detail.Is(error_details_pb2.DebugInfo.DESCRIPTOR)
    ]
    [attempt] = debug.stack_entries
    return str(attempt).split(": ")[1].split(" ")[0]


async def _asked(pair: Pair) -> int:
    def ask() -> int:
        with urllib.request.urlopen(f"{pair.upstream}/stats", timeout=5) as answer:
            calls: int = json.load(answer)["calls"]
        return calls

    return await asyncio.to_thread(ask)
