from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import grpc
import pytest

from kit import database
from kit.changelog import ChangeLog
from services.registry import tables
from services.registry.application.expiry import BATCH_VERSIONS, Expiry
from services.registry.store import PostgresStore
from turnout.registry.v1 import deployment_service_pb2 as deployments_pb
from turnout.registry.v1 import provider_pb2, provider_service_pb2, version_pb2
from turnout.registry.v1 import version_service_pb2 as pb

pytestmark = pytest.mark.thorough
MONTH = timedelta(days=30)


async def put(client: Any, version: Any) -> Any:
    request = pb.PutVersionRequest(parent=f"projects/{client.project}", version=version, skip_model_check=True)
    return await client.call("PutVersion", request)


async def get(client: Any, version: Any) -> Any:
    return await client.call("GetVersion", pb.GetVersionRequest(name=version.name))


async def run_sql(url: str, sql: str, *arguments: object) -> Any:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        return await connection.fetchval(sql, *arguments)
    finally:
        await connection.close()


async def age(url: str, uid: str, days: int) -> None:
    """Have a version last seen so long ago."""
    await run_sql(
        url, "UPDATE registry.versions SET seen_at = now() - make_interval(days => $2) WHERE uid = $1", uid, days
    )


async def sweep(url: str, *, registries: int = 1) -> int:
    async with database.sessions(url, schema=tables.SCHEMA) as sessions:
        store = PostgresStore(sessions, ChangeLog(tables.SCHEMA))
        expiry = Expiry(store, lambda: datetime.now(UTC), MONTH)
        return sum(await asyncio.gather(*(expiry.sweep() for _ in range(registries))))


async def test_a_version_says_when_it_expires_until_a_revision_has_it(
    registry: Any, shop: Any, new_version: Any, deployment_request: Any
) -> None:
    began = datetime.now(UTC)
    made = await put(shop, new_version("unused"))
    assert began + MONTH <= made.expire_time.ToDatetime(UTC) <= datetime.now(UTC) + MONTH
    listed = await shop.call("ListVersions", pb.ListVersionsRequest(parent=f"projects/{shop.project}"))
    assert [version.expire_time for version in listed.versions] == [made.expire_time]

    request = deployment_request(shop.project, "expiring", ("Used", "Also"))
    deployment = await shop.call("CreateDeployment", request)
    parent = f"projects/{shop.project}"
    name = f"{parent}/versions/{deployment.variants[1].completion.version.rpartition('/')[2]}"
    assert not (await shop.call("GetVersion", pb.GetVersionRequest(name=name))).HasField("expire_time")
    # History has it still: a rollback brings it back.
    await shop.call("DeleteVariant", deployments_pb.DeleteVariantRequest(name=deployment.variants[1].name))
    assert not (await shop.call("GetVersion", pb.GetVersionRequest(name=name))).HasField("expire_time")


async def test_putting_a_version_again_makes_its_time_new_without_a_change(
    registry: Any, shop: Any, new_version: Any
) -> None:
    made = await put(shop, new_version("again"))
    await age(registry.url, made.uid, 29)
    head = await run_sql(registry.url, "SELECT sequence FROM registry.change_head")

    again = await put(shop, new_version("again"))

    assert again.expire_time.ToDatetime(UTC) >= made.expire_time.ToDatetime(UTC)
    assert (await get(shop, made)).expire_time == again.expire_time
    assert await run_sql(registry.url, "SELECT sequence FROM registry.change_head") == head


async def test_a_sweep_deletes_what_no_revision_has_and_nobody_saw_and_nothing_else(
    registry: Any, shop: Any, new_version: Any, deployment_request: Any
) -> None:
    old, fresh = await put(shop, new_version("old")), await put(shop, new_version("fresh"))
    deployment = await shop.call("CreateDeployment", deployment_request(shop.project, "kept", ("Used {{ a }}",)))
    used = deployment.variants[0].completion.version.rpartition("/")[2]
    for uid in (old.uid, used):
        await age(registry.url, uid, 31)
    await age(registry.url, fresh.uid, 29)
    head = await run_sql(registry.url, "SELECT sequence FROM registry.change_head")

    assert await sweep(registry.url) == 1

    error = await shop.fails("GetVersion", pb.GetVersionRequest(name=old.name))
    assert error.reason == "VERSION_NOT_FOUND"
    assert (await get(shop, fresh)).uid == fresh.uid
    await shop.call("GetVersion", pb.GetVersionRequest(name=f"projects/{shop.project}/versions/{used}"))
    assert await run_sql(registry.url, "SELECT sequence FROM registry.change_head") == head
    assert (await put(shop, new_version("old"))).uid == old.uid, "it can be put again"


async def test_two_registries_sweep_many_batches_at_once_and_delete_each_version_once(
    own_database: str, new_keys: Any, start: Any
) -> None:
    async with start(own_database, new_keys()) as registry:
        client = await registry.new_project()
        await _provider(client)
        made = await put(client, _version())
        count = 3 * BATCH_VERSIONS + 7
        await run_sql(
            own_database,
            """INSERT INTO registry.versions (project, uid, provider, content, model, created_at, seen_at, created_in)
            SELECT project, 'ver_' || lpad(to_hex(number), 32, '0'), provider, content, model, created_at,
                now() - interval '40 days', created_in
            FROM registry.versions, generate_series(1, $1::int) AS number WHERE uid = $2""",
            count,
            made.uid,
        )

        assert await sweep(own_database, registries=2) == count
        assert await run_sql(own_database, "SELECT count(*) FROM registry.versions") == 1


async def test_a_variant_that_names_a_version_while_it_is_swept_keeps_it_or_is_told_that_it_is_gone(
    registry: Any, shop: Any, new_version: Any, deployment_request: Any
) -> None:
    await shop.call("CreateDeployment", deployment_request(shop.project, "raced", ("Same {{ v }}",)))
    parent = f"projects/{shop.project}"
    kept = 0
    for number in range(25):
        made = await put(shop, new_version(f"Number {number} {{{{ v }}}}"))
        await age(registry.url, made.uid, 31)
        request = deployments_pb.CreateVariantRequest(parent=f"{parent}/deployments/raced", draft=True)
        request.variant.completion.version = made.uid

        results: Any = await asyncio.gather(
            shop.call("CreateVariant", request), sweep(registry.url, registries=1 + number % 2), return_exceptions=True
        )
        created = results[0]

        there = await run_sql(registry.url, "SELECT count(*) FROM registry.versions WHERE uid = $1", made.uid)
        if isinstance(created, grpc.aio.AioRpcError):
            assert created.code() is grpc.StatusCode.INVALID_ARGUMENT, created
            assert "there is no such version" in (created.details() or "")
            assert there == 0
        else:
            assert not isinstance(created, BaseException), created
            assert there == 1
            kept += 1
    assert kept


async def test_the_sweep_runs_by_itself_and_survives_an_outage(
    own_database: str, new_keys: Any, start: Any, eventually: Any
) -> None:
    async with start(own_database, new_keys()) as registry:
        client = await registry.new_project()
        await _provider(client)
        made = await put(client, _version())
        async with database.sessions(own_database, schema=tables.SCHEMA) as sessions:
            store = PostgresStore(sessions, ChangeLog(tables.SCHEMA))
            expiry = Expiry(store, lambda: datetime.now(UTC), MONTH)
            task = asyncio.create_task(expiry.run(first_seconds=0, every_seconds=0.02))
            await age(own_database, made.uid, 31)

            async def gone() -> bool:
                return bool(await run_sql(own_database, "SELECT count(*) = 0 FROM registry.versions"))

            await eventually(gone, "it is deleted")
            assert not task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_an_expiry_of_zero_keeps_versions_for_ever(own_database: str, new_keys: Any, start: Any) -> None:
    async with start(own_database, new_keys(), TURNOUT_REGISTRY_VERSION_EXPIRY_SECONDS="0") as registry:
        client = await registry.new_project()
        await _provider(client)
        made = await put(client, _version())
        assert not made.HasField("expire_time")


async def _provider(client: Any) -> None:
    request = provider_service_pb2.CreateProviderRequest(parent=f"projects/{client.project}", provider_id="main")
    request.provider.kind = provider_pb2.PROVIDER_KIND_OPENAI
    await client.call("CreateProvider", request)


def _version() -> Any:
    version = version_pb2.Version(provider="main", model="small")
    version.messages.add(role=3, content="Hello")
    return version
