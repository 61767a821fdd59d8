"""What calls ran comes to be known: over a real JetStream."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from kit import ids
from kit.events.broker import broker
from kit.events.publisher import JetStreamPublisher
from kit.events.subjects import subject_of
from kit.metrics import metrics
from kit.spool import Record
from stack.nats import Nats
from turnout.events.v1 import version_pb2 as events_pb
from turnout.registry.v1 import (
    deployment_pb2,
    deployment_service_pb2,
    project_service_pb2,
    provider_pb2,
    provider_service_pb2,
    version_pb2,
    version_service_pb2,
)

pytestmark = pytest.mark.thorough
NOW = datetime.now(UTC).replace(microsecond=0)
Event = events_pb.VersionSeen


@pytest.fixture(scope="module")
def own_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    with Nats(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
async def registry(own_database: str, new_keys: Any, start: Any, own_nats: Nats) -> AsyncIterator[Any]:
    async with start(own_database, new_keys(), TURNOUT_NATS_URL=own_nats.url) as running:
        yield running
        # The stream outlives a test; the next one's registry begins with an empty database and reads it from the start.
        await (await running.runtime.shared(broker)).connection().manager.delete_stream("TURNOUT_EVENTS")


async def seen(client: Any, text: str, at: datetime = NOW, **fields: Any) -> Event:
    """An event as an executor would announce it: the version is complete, and its provider a uid."""
    given = version_pb2.Version(provider="main", model="small", **fields)
    given.messages.add(role=3, content=text)
    parent = f"projects/{client.project}"
    dry = version_service_pb2.PutVersionRequest(parent=parent, version=given, validate_only=True, skip_model_check=True)
    version = await client.call("PutVersion", dry)
    provider = await client.call(
        "GetProvider", provider_service_pb2.GetProviderRequest(name=f"{parent}/providers/main")
    )
    version.provider = provider.uid
    for field in ("name", "create_time", "expire_time"):
        version.ClearField(field)
    project = await project_uid(client)
    event = Event(project=project, project_slug=client.project, version=version, request_id=ids.new_uid("req"))
    event.seen_time.FromDatetime(at)
    return event


async def project_uid(client: Any) -> str:
    request = project_service_pb2.GetProjectRequest(name=f"projects/{client.project}")
    return str((await client.call("GetProject", request)).uid)


async def publish(registry: Any, payloads: Sequence[bytes]) -> None:
    connected = await registry.runtime.shared(broker)
    connection = await asyncio.wait_for(connected.connected(), 10)
    await connected.ensure_stream(connection)
    subject = subject_of(Event, "shop")
    await JetStreamPublisher(connected).publish([Record(ids.encode(ids.uuid7()), subject, p, {}) for p in payloads])


async def outcomes(registry: Any) -> dict[str, int]:
    """What the registry counted."""
    for counter in (await registry.runtime.shared(metrics)).counters:
        if counter.name == "turnout_registry_versions_seen":
            return {labels[0]: int(series.value) for labels, series in counter.all()}
    raise AssertionError("it counts nothing")


def counted(registry: Any, total: int) -> Callable[[], Any]:
    async def condition() -> bool:
        return sum((await outcomes(registry)).values()) >= total

    return condition


async def get(client: Any, uid: str) -> version_pb2.Version | None:
    listed = await client.call(
        "ListVersions", version_service_pb2.ListVersionsRequest(parent=f"projects/{client.project}", page_size=1000)
    )
    found: version_pb2.Version | None = next((each for each in listed.versions if each.uid == uid), None)
    return found


async def head_of(url: str) -> int:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        return int(await connection.fetchval("SELECT sequence FROM registry.change_head"))
    finally:
        await connection.close()


async def test_a_configuration_that_a_call_ran_is_known_within_seconds_and_can_be_deployed(
    registry: Any, shop: Any, eventually: Any
) -> None:
    event = await seen(shop, "Hi {{ name }}", tools_json='[{"type":"x","a":9007199254740993,"z":null}]')
    before, began = await head_of(registry.url), time.monotonic()
    await publish(registry, [event.SerializeToString()])

    async def known() -> bool:
        return await get(shop, event.version.uid) is not None

    await eventually(known, "the version is there")
    assert time.monotonic() - began < 5
    assert await head_of(registry.url) == before + 1
    version = await get(shop, event.version.uid)
    assert version is not None
    assert (version.provider, version.tools_json) == ("main", event.version.tools_json)
    assert version.variables_schema_json == event.version.variables_schema_json
    assert version.expire_time.ToDatetime(UTC) == NOW + timedelta(days=30)

    request = deployment_service_pb2.CreateDeploymentRequest(parent=f"projects/{shop.project}", deployment_id="seen")
    request.deployment.kind = deployment_pb2.DEPLOYMENT_KIND_COMPLETION
    request.deployment.variants.add().completion.version = event.version.uid
    made = await shop.call("CreateDeployment", request)
    assert made.variants[0].completion.version.endswith(event.version.uid)
    await registry.catalog.reach(shop.sequence)
    used = await get(shop, event.version.uid)
    assert used is not None
    assert not used.HasField("expire_time")


async def test_any_order_and_any_repetition_lead_to_the_same(registry: Any, shop: Any, eventually: Any) -> None:
    hours = (3, 1, 2)
    texts = [f"text {number}" for number in range(6)]
    rounds = [
        [await seen(shop, text, NOW - timedelta(hours=hour)) for hour in order]
        for text, order in zip(texts, itertools.permutations(hours), strict=True)
    ]
    events = [event for each in zip(*rounds, strict=True) for event in each]
    payloads = [event.SerializeToString() for event in events]
    before = await head_of(registry.url)

    await publish(registry, payloads)
    await eventually(counted(registry, len(payloads)), "all are taken")
    first = [await get(shop, each[0].version.uid) for each in rounds]
    head = await head_of(registry.url)
    await publish(registry, payloads)
    await eventually(counted(registry, 2 * len(payloads)), "all are taken again")

    assert [await get(shop, each[0].version.uid) for each in rounds] == first
    assert {version.expire_time.ToDatetime(UTC) for version in first if version} == {
        NOW - timedelta(hours=1) + timedelta(days=30)
    }
    assert before < head <= before + len(texts)
    assert await head_of(registry.url) == head, "a repetition is no change"
    assert await outcomes(registry) == {"stored": 6, "known": 30, "homeless": 0, "rejected": 0}


async def test_a_time_to_come_counts_as_now(registry: Any, shop: Any, eventually: Any) -> None:
    event = await seen(shop, "from the future", NOW + timedelta(days=4000))
    await publish(registry, [event.SerializeToString()])
    await eventually(counted(registry, 1), "it is taken")

    version = await get(shop, event.version.uid)
    assert version is not None
    assert version.expire_time.ToDatetime(UTC) < datetime.now(UTC) + timedelta(days=30, minutes=1)


async def test_what_is_not_what_it_says_is_given_up_and_what_belongs_to_nobody_dropped_beside_the_others(
    registry: Any, shop: Any, eventually: Any
) -> None:
    good = [await seen(shop, f"good {number}") for number in range(20)]
    stranger = await registry.new_project()

    async def spoiled(text: str, **changes: Any) -> Event:
        event = await seen(shop, text)
        for name, value in changes.items():
            target = event if name in ("project", "project_slug") else event.version
            setattr(target, name, value)
        return event

    wrong = [
        await spoiled("another id", uid="ver_" + "0" * 32),
        await spoiled("the id of another", uid=good[0].version.uid),
        await spoiled("no schema {{ x }}", variables_schema_json='{"type": 3}'),
        await spoiled("no JSON", tools_json="[1,"),
        await spoiled("a slug", provider="main"),
        await spoiled("NUL", model="x\0"),
        await spoiled("deep", tools_json="[" * 10_000 + "]" * 10_000),
    ]
    broken_text = await seen(shop, "text")
    broken_text.version.messages[0].content = "{{ f() }}"
    unknown_role = await seen(shop, "role")
    unknown_role.version.messages[0].role = 77  # type: ignore[assignment]  # a newer sender's
    unknown_role.version.uid = "ver_" + "1" * 32
    timeless = await seen(shop, "timeless")
    timeless.ClearField("seen_time")
    wrong += [broken_text, unknown_role, timeless]
    homeless = [
        await spoiled("no project", project=ids.new_uid("prj")),
        await spoiled("no provider", provider=ids.new_uid("prv")),
        await spoiled("another's provider", project=await project_uid(stranger)),
    ]
    payloads = [event.SerializeToString() for event in (*good[:10], *wrong, *homeless, *good[10:])]
    payloads.insert(5, b"\xff\xff")
    before = await head_of(registry.url)

    await publish(registry, payloads)
    await eventually(counted(registry, len(payloads)), "all are taken", 30)

    assert await outcomes(registry) == {"stored": 20, "known": 0, "homeless": 3, "rejected": len(wrong) + 1}
    for event in good:
        assert await get(shop, event.version.uid) is not None
    listed = await shop.call(
        "ListVersions", version_service_pb2.ListVersionsRequest(parent=f"projects/{shop.project}", page_size=1000)
    )
    assert len(listed.versions) == 20
    assert await head_of(registry.url) > before


async def test_without_nats_the_registry_starts_and_writes_and_catches_up(
    own_database: str, new_keys: Any, start: Any, eventually: Any, tmp_path: Path
) -> None:
    nats = Nats(tmp_path / "nats")
    async with start(own_database, new_keys(), TURNOUT_NATS_URL=nats.url) as registry:
        client = await registry.new_project()
        provider = provider_service_pb2.CreateProviderRequest(parent=f"projects/{client.project}", provider_id="main")
        provider.provider.kind = provider_pb2.PROVIDER_KIND_OPENAI
        await client.call("CreateProvider", provider)
        event = await seen(client, "later")
        await asyncio.to_thread(nats.start)
        try:
            await publish(registry, [event.SerializeToString()])
            await eventually(counted(registry, 1), "it is taken", 20)
            assert await get(client, event.version.uid) is not None
            await asyncio.to_thread(nats.stop)
            await client.call("CreateProvider", _second(provider))
        finally:
            nats.stop()


def _second(request: provider_service_pb2.CreateProviderRequest) -> provider_service_pb2.CreateProviderRequest:
    request.provider_id = "second"
    return request


async def test_two_registries_share_the_events_and_every_version_is_stored_once(
    own_database: str, new_keys: Any, start: Any, own_nats: Nats, eventually: Any
) -> None:
    bootstrap = new_keys()
    async with (
        start(own_database, bootstrap, TURNOUT_NATS_URL=own_nats.url) as one,
        start(own_database, bootstrap, TURNOUT_NATS_URL=own_nats.url) as two,
    ):
        client = await one.new_project()
        provider = provider_service_pb2.CreateProviderRequest(parent=f"projects/{client.project}", provider_id="main")
        provider.provider.kind = provider_pb2.PROVIDER_KIND_OPENAI
        await client.call("CreateProvider", provider)
        template = await seen(client, "x")
        events = [await seen(client, f"shared {number}") for number in range(40)]
        assert template.version.uid not in {event.version.uid for event in events}
        # Each four times, far apart: both registries meet the same version at the same time.
        await publish(one, [event.SerializeToString() for _ in range(4) for event in events])

        async def all_taken() -> bool:
            found = [await outcomes(one), await outcomes(two)]
            return sum(sum(each.values()) for each in found) >= 160

        await eventually(all_taken, "all are taken", 30)
        found = [await outcomes(one), await outcomes(two)]
        assert sum(each["stored"] for each in found) == 40
        assert sum(each["known"] for each in found) >= 120
        assert sum(each["rejected"] for each in found) == 0
        await (await one.runtime.shared(broker)).connection().manager.delete_stream("TURNOUT_EVENTS")
