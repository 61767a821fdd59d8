from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import asyncpg
import grpc

from stack.postgres import Postgres
from turnout.registry.v1 import (
    api_key_service_pb2,
    project_service_pb2,
    provider_pb2,
    provider_service_pb2,
    version_service_pb2,
)
from turnout.registry.v1 import catalog_service_pb2 as pb

WATCH = pb.WatchCatalogRequest()


async def read(stream: Any, until: Callable[[list[Any]], bool]) -> list[Any]:
    """Messages of a stream, heartbeats left out, until the condition holds."""
    messages: list[Any] = []
    async with asyncio.timeout(20):
        while not until(messages):
            message = await stream.read()
            assert message is not grpc.aio.EOF
            if message.WhichOneof("event") != "heartbeat":
                messages.append(message)
    return messages


def kinds(messages: list[Any]) -> list[str]:
    return [message.WhichOneof("event") for message in messages]


def ended(messages: list[Any]) -> bool:
    return kinds(messages)[-1:] == ["end"]


def changed(sequence: int) -> Callable[[list[Any]], bool]:
    return lambda messages: bool(messages) and messages[-1].change.sequence == sequence


def create_provider(project: str, slug: str, credential: str = "") -> Any:
    request = provider_service_pb2.CreateProviderRequest(parent=f"projects/{project}", provider_id=slug)
    request.provider.kind, request.provider.credential = provider_pb2.PROVIDER_KIND_OPENAI, credential
    return request


async def test_a_snapshot_is_begun_complete_and_sealed_with_its_digest(
    registry: Any, shop: Any, deployment_request: Any
) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project))
    stream = registry.service.watch(WATCH)
    messages = await read(stream, ended)
    stream.cancel()

    entries = [entry for message in messages[1:-1] for entry in message.chunk.entries]
    digest = blake2b(digest_size=32)
    for entry in entries:
        digest.update(entry.SerializeToString(deterministic=True))
    assert messages[0].begin.epoch
    assert messages[0].begin.sequence >= shop.sequence
    assert (messages[-1].end.digest, messages[-1].end.entry_count) == (digest.digest(), len(entries))
    assert [entry.key for entry in entries] == sorted(entry.key for entry in entries)
    assert f"deployment/{made.uid}" in [entry.key for entry in entries]
    version = next(
        entry.version for entry in entries if entry.version.version.uid == made.variants[0].completion.version
    )
    assert version.version.provider.startswith("prv_")


async def test_each_transaction_is_one_message_and_heartbeats_tell_the_sequence_sent(
    registry: Any, shop: Any, deployment_request: Any
) -> None:
    stream = registry.service.watch(WATCH)
    start = (await read(stream, ended))[0].begin.sequence
    await shop.call("CreateDeployment", deployment_request(shop.project, "helper", ("A", "B")))

    messages = await read(stream, changed(shop.sequence))
    keys = [[entry.key.partition("/")[0] for entry in message.change.entries] for message in messages]
    assert sorted(keys[-1]) == ["deployment", "version", "version"]
    assert [message.change.sequence for message in messages] == list(range(start + 1, shop.sequence + 1))

    times = []
    for _ in range(3):
        message = await stream.read()
        times.append(time.monotonic())
        assert message.heartbeat.sequence == shop.sequence
    assert times[-1] - times[0] < 2
    stream.cancel()


async def test_a_watcher_resumes_from_its_sequence(registry: Any, shop: Any) -> None:
    stream = registry.service.watch(WATCH)
    begin = (await read(stream, ended))[0].begin
    stream.cancel()
    for number in range(3):
        await shop.call("CreateProvider", create_provider(shop.project, f"p{number}"))

    again = registry.service.watch(pb.WatchCatalogRequest(after_sequence=begin.sequence, epoch=begin.epoch))
    messages = await read(again, changed(shop.sequence))
    again.cancel()

    assert kinds(messages) == ["resumed", "change", "change", "change"]
    assert messages[0].resumed.epoch == begin.epoch


async def test_another_epoch_and_a_sequence_of_the_future_get_a_snapshot(registry: Any) -> None:
    stream = registry.service.watch(WATCH)
    begin = (await read(stream, ended))[0].begin
    stream.cancel()
    for request in (
        pb.WatchCatalogRequest(after_sequence=begin.sequence, epoch="other"),
        pb.WatchCatalogRequest(after_sequence=begin.sequence + 1000, epoch=begin.epoch),
    ):
        again = registry.service.watch(request)
        assert kinds(await read(again, ended))[0] == "begin"
        again.cancel()


async def test_credentials_go_to_their_scope_only_and_the_sequences_stay_whole(registry: Any, shop: Any) -> None:
    await shop.call("CreateProvider", create_provider(shop.project, "before", "sk-1"))
    blind = await registry.client("-", ("catalog:watch",))
    await registry.catalog.reach(blind.sequence)
    streams = {"blind": blind.watch(WATCH), "full": registry.service.watch(WATCH)}
    seen: dict[str, list[Any]] = {name: await read(stream, ended) for name, stream in streams.items()}
    await shop.call("CreateProvider", create_provider(shop.project, "after", "sk-2"))
    for name, stream in streams.items():
        seen[name] += await read(stream, changed(shop.sequence))
        stream.cancel()

    def keys(name: str) -> set[str]:
        return {
            entry.key.partition("/")[0]
            for message in seen[name]
            for entry in (*message.chunk.entries, *message.change.entries)
        }

    assert keys("full") - keys("blind") == {"credential"}
    blind_entries = [entry for message in seen["blind"] for entry in message.chunk.entries]
    digest = blake2b(b"".join(e.SerializeToString(deterministic=True) for e in blind_entries), digest_size=32)
    end = next(message.end for message in seen["blind"] if message.WhichOneof("event") == "end")
    assert (end.digest, end.entry_count) == (digest.digest(), len(blind_entries))


async def test_a_change_that_tells_nothing_is_sent_empty(registry: Any, shop: Any, new_version: Any) -> None:
    stream = registry.service.watch(WATCH)
    await read(stream, ended)
    await shop.call(
        "PutVersion", version_service_pb2.PutVersionRequest(parent=f"projects/{shop.project}", version=new_version())
    )

    messages = await read(stream, changed(shop.sequence))
    stream.cancel()
    assert len(messages[-1].change.entries) == 0


async def test_a_change_that_no_message_can_hold_arrives_as_a_snapshot(
    registry: Any, shop: Any, deployment_request: Any
) -> None:
    stream = registry.service.watch(WATCH)
    await read(stream, ended)
    made = await shop.call(
        "CreateDeployment", deployment_request(shop.project, "large", [letter * 900_000 for letter in "abcd"])
    )

    def arrived(messages: list[Any]) -> bool:
        begins = [message.begin.sequence for message in messages if message.WhichOneof("event") == "begin"]
        return ended(messages) and begins[-1] >= shop.sequence

    messages = await read(stream, arrived)
    stream.cancel()
    assert "begin" in kinds(messages)
    assert max(message.ByteSize() for message in messages) <= 1 << 20
    await registry.catalog.reach(shop.sequence)
    assert registry.catalog.usable_view().deployment(made.uid) is not None


async def test_the_stream_of_a_revoked_key_ends(registry: Any) -> None:
    follower = await registry.client("-", ("catalog:watch",))
    stream = follower.watch(WATCH)
    await read(stream, ended)
    name = f"projects/-/apiKeys/{follower.key.split('_')[1]}"
    await registry.platform.call("RevokeApiKey", api_key_service_pb2.RevokeApiKeyRequest(name=name))

    messages = await read(stream, changed(registry.platform.sequence))
    assert messages[-1].change.entries[0].WhichOneof("value") is None
    async with asyncio.timeout(5):
        assert await stream.code() is grpc.StatusCode.UNAUTHENTICATED
    refused = follower.watch(WATCH)
    assert await refused.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_change_made_through_one_registry_reaches_a_watcher_of_another_at_once(
    own_database: str, new_keys: Any, start: Any, eventually: Any
) -> None:
    bootstrap = new_keys()
    async with start(own_database, bootstrap) as one, start(own_database, bootstrap) as two:
        shop = await one.new_project()
        stream = two.service.watch(WATCH)
        await read(stream, ended)
        delays = []
        for number in range(20):
            await shop.call("CreateProvider", create_provider(shop.project, f"p{number}"))
            done = time.monotonic()
            await read(stream, changed(shop.sequence))
            delays.append(time.monotonic() - done)
        stream.cancel()
        assert sorted(delays)[10] < 0.4, "slower than the poll: nobody was notified"

        victim = await one.client(shop.project, ("registry:read",))
        await two.catalog.reach(victim.sequence)
        name = f"projects/{shop.project}/apiKeys/{victim.key.split('_')[1]}"
        await shop.call("RevokeApiKey", api_key_service_pb2.RevokeApiKeyRequest(name=name))
        began = time.monotonic()
        uid = victim.key.split("_")[1]

        async def gone() -> bool:
            return two.catalog.usable_view().api_key(uid) is None

        await eventually(gone, "the key leaves the other registry's view")
        assert time.monotonic() - began < 1


async def test_concurrent_writers_through_two_registries_leave_every_view_the_same(
    own_database: str, new_keys: Any, start: Any
) -> None:
    bootstrap = new_keys()
    async with start(own_database, bootstrap) as one, start(own_database, bootstrap) as two:
        shop = await one.new_project()
        await two.catalog.reach(shop.sequence)
        there = type(shop)(two.channel, shop.key, shop.project, shop.sequence)
        await asyncio.gather(
            *(
                client.call("CreateProvider", create_provider(shop.project, f"{side}{number}", "sk"))
                for number in range(15)
                for side, client in (("a", shop), ("b", there))
            )
        )
        connection = await asyncpg.connect(own_database.replace("+asyncpg", ""))
        head = await connection.fetchval("SELECT sequence FROM registry.change_head")
        numbers = [row[0] for row in await connection.fetch("SELECT sequence FROM registry.change_log ORDER BY 1")]
        await connection.close()
        await asyncio.gather(one.catalog.reach(head), two.catalog.reach(head))

        assert numbers == list(range(1, head + 1))
        assert one.catalog.usable_view() == two.catalog.usable_view()
        assert len([key for key in one.catalog.usable_view().things if key.startswith("provider/")]) == 30


async def test_a_watcher_that_the_database_leaves_is_ended_as_unavailable(
    open_folder: Any, new_keys: Any, start: Any, migrated: Any, eventually: Any
) -> None:
    postgres = Postgres(open_folder / "mortal-registry")
    await asyncio.to_thread(postgres.start)
    url = await migrated(postgres, "registry")
    bootstrap = new_keys()
    async with start(url, bootstrap) as registry:
        stream = registry.service.watch(WATCH)
        begin = (await read(stream, ended))[0].begin
        view = registry.catalog.usable_view()
        await asyncio.to_thread(postgres.kill)

        async with asyncio.timeout(10):
            assert await stream.code() is grpc.StatusCode.UNAVAILABLE
        assert registry.catalog.usable_view() is view, "what is known stays known"
        error = await registry.platform.fails("ListProjects", project_service_pb2.ListProjectsRequest())
        assert (error.kind, error.reason) == ("unavailable", "DATABASE_UNAVAILABLE")
        refused = registry.service.watch(WATCH)
        assert await refused.code() is grpc.StatusCode.UNAVAILABLE
        await asyncio.to_thread(postgres.start)

        codes: set[grpc.StatusCode] = set()

        async def resumes() -> bool:
            again = registry.service.watch(pb.WatchCatalogRequest(after_sequence=begin.sequence, epoch=begin.epoch))
            try:
                return bool((await again.read()).WhichOneof("event") == "resumed")
            except grpc.aio.AioRpcError as failure:
                codes.add(failure.code())
                return False
            finally:
                again.cancel()

        await eventually(resumes, "watching works again")
        assert codes <= {grpc.StatusCode.UNAVAILABLE}
        await registry.new_project("after-the-outage")
        await registry.catalog.reach(registry.platform.sequence)
        assert registry.catalog.usable_view().project_named("after-the-outage") is not None
    await asyncio.to_thread(postgres.stop)
