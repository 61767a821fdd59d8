from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import nats.js.errors
import pytest

from kit import database, ids
from kit.database import Sessions
from kit.events.broker import Broker
from kit.events.consumer import ConsumerOptions, consume
from kit.events.delivery import Delivery, Tally
from kit.events.publisher import JetStreamPublisher
from kit.events.stream import STREAM, StreamOptions
from kit.spool import Record
from services.analytics.application.ingestion import Ingestion
from services.analytics.store import PostgresStore
from services.analytics.subscriber import DURABLE, SUBJECTS, Subscriber
from stack.nats import Nats
from stack.postgres import Postgres
from turnout.events.v1 import request_pb2

MakeRecord = Callable[..., Record]


@pytest.fixture
async def broker(nats: Nats) -> AsyncIterator[Broker]:
    opened = Broker(nats.url, name="test", stream_options=StreamOptions(max_bytes=64 << 20))
    task = asyncio.create_task(opened.run())
    await asyncio.wait_for(opened.connected(), 10)
    try:
        yield opened
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def subscribed(
    broker: Broker, store: PostgresStore, *, batch_size: int = 50, fail: Callable[[], None] = lambda: None
) -> AsyncIterator[Tally]:
    """Analytics' own subscriber; `fail` runs after a batch took effect and before it is acknowledged."""
    subscriber, tally = Subscriber(Ingestion(store)), Tally()

    async def handle(batch: Sequence[Delivery]) -> None:
        await subscriber.handle(batch)
        fail()

    options = ConsumerOptions(
        durable=DURABLE, subjects=SUBJECTS, batch_size=batch_size, ack_wait_seconds=1, first_pause_seconds=0.02
    )
    task = asyncio.create_task(consume(broker, options, handle, subscriber.on_poison, tally=tally))
    try:
        yield tally
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def publish(broker: Broker, records: Sequence[Record]) -> None:
    publisher = JetStreamPublisher(broker)
    for start in range(0, len(records), 100):
        await publisher.publish(records[start : start + 100])


async def count(sessions: Sessions, sql: str = "SELECT coalesce(sum(ok), 0) FROM rollups WHERE grain = 1") -> int:
    async with database.transaction(sessions) as session:
        connection = await session.connection()
        return int((await connection.exec_driver_sql(sql)).scalar_one())


async def is_settled(broker: Broker) -> bool:
    try:
        info = await broker.connection().manager.consumer_info(STREAM, DURABLE)
    except nats.js.errors.NotFoundError:
        return False
    return not info.num_ack_pending and not info.num_pending


async def test_requests_and_payloads_are_kept_and_acknowledged(
    broker: Broker, store: PostgresStore, sessions: Sessions, make_event: Any, record_of: MakeRecord, until: Any
) -> None:
    events = [make_event() for _ in range(120)]
    pieces = [
        request_pb2.RequestPayload(
            request_id=event.request_id,
            project=event.project,
            count=1,
            data=b"{}",
        )
        for event in events[:30]
    ]
    await publish(broker, [record_of(message) for message in (*events, *pieces)])

    async with subscribed(broker, store):
        await until(lambda: is_settled(broker))

    assert await count(sessions) == 120
    assert await count(sessions, "SELECT count(*) FROM payloads") == 30


async def test_what_took_effect_without_being_acknowledged_counts_once_when_it_comes_again(
    broker: Broker, store: PostgresStore, sessions: Sessions, make_event: Any, record_of: MakeRecord, until: Any
) -> None:
    await publish(broker, [record_of(make_event()) for _ in range(200)])
    taken = asyncio.Event()

    def die() -> None:
        taken.set()
        raise asyncio.CancelledError

    async with subscribed(broker, store, fail=die):
        await asyncio.wait_for(taken.wait(), 10)
    assert await count(sessions) == 50
    async with subscribed(broker, store):
        await until(lambda: is_settled(broker))

    assert await count(sessions) == 200


async def test_an_event_that_the_broker_stored_twice_counts_once(
    broker: Broker, store: PostgresStore, sessions: Sessions, make_event: Any, record_of: MakeRecord, until: Any
) -> None:
    await broker.ensure_stream(broker.connection())
    config = (await broker.connection().manager.stream_info(STREAM)).config
    await broker.connection().manager.update_stream(config, duplicate_window=0.1)
    records = [record_of(make_event()) for _ in range(30)]
    await publish(broker, records)

    async def repeat() -> bool:
        # Beyond the duplicate window, as a replay after a lost stream does it.
        await publish(broker, records)
        return (await broker.connection().manager.stream_info(STREAM)).state.messages > 60

    await until(repeat)
    async with subscribed(broker, store):
        await until(lambda: is_settled(broker))

    assert await count(sessions) == 30


async def test_two_processes_share_one_consumer_and_every_request_counts_once(
    nats: Nats,
    broker: Broker,
    store: PostgresStore,
    sessions: Sessions,
    make_event: Any,
    record_of: MakeRecord,
    until: Any,
    today: int,
) -> None:
    other = PostgresStore(sessions, request_retention_days=90, payload_retention_days=30, today=lambda: today)
    rng = random.Random(1)

    def sometimes_fail() -> None:
        if rng.random() < 0.3:
            raise RuntimeError("after the commit")

    async with (
        subscribed(broker, store, fail=sometimes_fail) as one,
        subscribed(broker, other) as two,
    ):
        await publish(broker, [record_of(make_event()) for _ in range(1500)])
        await until(lambda: is_settled(broker), 60)

    assert await count(sessions) == 1500
    assert one.batches
    assert two.batches


async def test_consumption_waits_for_postgres_and_goes_on(
    tmp_path_factory: pytest.TempPathFactory,
    migrated: Any,
    broker: Broker,
    make_event: Any,
    record_of: MakeRecord,
    until: Any,
    today: int,
) -> None:
    with Postgres(tmp_path_factory.mktemp("restarting")) as postgres:
        postgres.create_database("a")
        await migrated(postgres.url("a"))
        async with database.sessions(postgres.url("a"), schema="analytics") as sessions:
            store = PostgresStore(sessions, request_retention_days=90, payload_retention_days=30, today=lambda: today)
            async with subscribed(broker, store) as tally:
                await publish(broker, [record_of(make_event()) for _ in range(100)])
                await until(lambda: tally.handled >= 100)
                await asyncio.to_thread(postgres.kill)
                await publish(broker, [record_of(make_event()) for _ in range(100)])
                await until(lambda: tally.postponed >= 3)
                await asyncio.to_thread(postgres.start)
                await until(lambda: is_settled(broker))
            assert await count(sessions) == 200
            assert tally.poisoned == 0
        postgres.remove_data()


async def test_malformed_events_are_put_aside_and_stop_nobody(
    broker: Broker, store: PostgresStore, sessions: Sessions, make_event: Any, record_of: MakeRecord, until: Any
) -> None:
    good = [record_of(make_event()) for _ in range(60)]
    bad = [
        Record(ids.encode(ids.uuid7()), good[0].subject, b"\xff\xff", {}),
        record_of(make_event(status=0)),
        record_of(make_event(project="")),
        record_of(make_event(), "not-an-id"),
    ]
    mixed = [*good[:20], *bad, *good[20:]]
    await publish(broker, mixed)

    async with subscribed(broker, store) as tally:
        await until(lambda: is_settled(broker))

    assert await count(sessions) == 60
    assert await count(sessions, "SELECT count(*) FROM rejected_events") == 4
    assert tally.poisoned == 4
    async with database.transaction(sessions) as session:
        connection = await session.connection()
        found = (await connection.exec_driver_sql("SELECT reason FROM rejected_events ORDER BY reason")).scalars()
        reasons = list(found)
    assert reasons == ["EVENT_ID_MALFORMED", "EVENT_UNREADABLE", "NAME_MALFORMED", "STATUS_UNKNOWN"]
