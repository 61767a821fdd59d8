from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from kit.errors import Unavailable
from kit.events.broker import Broker
from kit.events.consumer import ConsumerOptions, consume
from kit.events.delivery import Delivery, Tally, Unusable
from kit.events.publisher import JetStreamPublisher
from kit.events.stream import STREAM
from kit.events.subjects import subject_of_all_tenants
from kit.spool import Record
from kit.telemetry import TraceContext
from stack.nats import Nats

MakeRecords = Callable[..., list[Record]]
SUBJECTS = (subject_of_all_tenants("turnout.events.v1.RequestServed"),)


class Listener:
    """Takes what it is given, unless a test makes `refuse` raise."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.ids: list[str] = []
        self.poison: list[tuple[bytes, str]] = []
        self.refuse: Callable[[Sequence[Delivery]], None] = lambda _: None
        self.refuse_poison: Callable[[], None] = lambda: None
        self.tally = Tally()

    async def handle(self, batch: Sequence[Delivery]) -> None:
        await asyncio.sleep(0)
        self.refuse(batch)
        self.batches.append([delivery.payload for delivery in batch])
        self.ids += [delivery.id for delivery in batch]

    async def on_poison(self, delivery: Delivery, error: Exception) -> None:
        self.refuse_poison()
        self.poison.append((delivery.payload, str(error)))

    @property
    def payloads(self) -> list[bytes]:
        return [payload for batch in self.batches for payload in batch]


@asynccontextmanager
async def listening(broker: Broker, listener: Listener, **options: Any) -> AsyncIterator[None]:
    span = options.pop("linked_span", None)
    impatient: dict[str, Any] = {"durable": "test", "subjects": SUBJECTS, "batch_size": 50, "first_pause_seconds": 0.01}
    chosen = ConsumerOptions(**(impatient | {"ack_wait_seconds": 1.0} | options))
    more = {} if span is None else {"linked_span": span}
    work = consume(broker, chosen, listener.handle, listener.on_poison, tally=listener.tally, **more)
    task = asyncio.create_task(work)
    try:
        yield
        assert not task.done(), "consume() ended by itself"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def listener() -> Listener:
    return Listener()


async def unacknowledged(broker: Broker) -> int:
    info = await broker.connection().manager.consumer_info(STREAM, "test")
    return int(info.num_ack_pending or 0) + int(info.num_pending or 0)


async def all_settled(broker: Broker) -> None:
    async with asyncio.timeout(10):
        while await unacknowledged(broker):
            await asyncio.sleep(0.01)


async def test_messages_arrive_in_order_in_batches_and_are_acknowledged(
    broker: Broker, listener: Listener, records: MakeRecords, until: Any
) -> None:
    batch = records(500)
    await JetStreamPublisher(broker).publish(batch)

    async with listening(broker, listener):
        await until(lambda: len(listener.ids) == 500)
        await all_settled(broker)

    assert listener.payloads == [record.payload for record in batch]
    assert listener.ids == [record.id for record in batch]
    assert max(map(len, listener.batches)) == 50
    assert listener.tally.handled == 500


async def test_what_another_listener_left_unhandled_is_delivered_again(
    broker: Broker, listener: Listener, records: MakeRecords, until: Any
) -> None:
    await JetStreamPublisher(broker).publish(records(10))
    taken, forever = asyncio.Event(), asyncio.Event()

    class Stuck(Listener):
        async def handle(self, batch: Sequence[Delivery]) -> None:
            taken.set()
            await forever.wait()

    async with listening(broker, Stuck()):
        await asyncio.wait_for(taken.wait(), 10)
    async with listening(broker, listener):
        await until(lambda: len(listener.ids) == 10)
        await all_settled(broker)


async def test_a_batch_waits_for_a_database_that_is_down_and_keeps_its_order(
    broker: Broker, listener: Listener, records: MakeRecords, until: Any
) -> None:
    batch = records(120)
    await JetStreamPublisher(broker).publish(batch)
    refused: list[list[bytes]] = []

    def down(deliveries: Sequence[Delivery]) -> None:
        refused.append([delivery.payload for delivery in deliveries])
        raise Unavailable("the database cannot be reached", reason="DATABASE_UNAVAILABLE")

    listener.refuse = down
    # The pauses grow past the ack wait: without a sign of life the broker would deliver it all again.
    async with listening(broker, listener, first_pause_seconds=0.2):
        await until(lambda: len(refused) >= 5)
        assert not listener.ids
        listener.refuse = lambda _: None
        await until(lambda: len(listener.ids) >= 120)
        await all_settled(broker)

    assert all(attempt == refused[0] for attempt in refused)
    assert listener.payloads == [record.payload for record in batch]
    assert listener.tally.poisoned == 0


async def test_a_message_that_fails_by_itself_is_given_up_and_the_others_take_effect(
    broker: Broker, listener: Listener, records: MakeRecords, until: Any
) -> None:
    await JetStreamPublisher(broker).publish(records(100))
    tries: Counter[bytes] = Counter()

    def choke(batch: Sequence[Delivery]) -> None:
        for delivery in batch:
            if delivery.payload in (b"17", b"60"):
                if len(batch) == 1:
                    tries[delivery.payload] += 1
                raise ValueError(f"cannot take {delivery.payload.decode()}")

    listener.refuse = choke
    async with listening(broker, listener):
        await until(lambda: len(listener.ids) == 98)
        await all_settled(broker)

    assert listener.poison == [(b"17", "cannot take 17"), (b"60", "cannot take 60")]
    assert tries == {b"17": 3, b"60": 3}
    assert sorted([*listener.payloads, b"17", b"60"], key=int) == [str(number).encode() for number in range(100)]


async def test_messages_that_are_named_unusable_are_given_up_at_once(
    broker: Broker, listener: Listener, records: MakeRecords, until: Any
) -> None:
    await JetStreamPublisher(broker).publish(records(50))

    def refuse(batch: Sequence[Delivery]) -> None:
        odd = [(delivery, "ODD_NUMBER") for delivery in batch if int(delivery.payload) % 2]
        if odd:
            raise Unusable(odd)

    listener.refuse = refuse
    async with listening(broker, listener):
        await until(lambda: len(listener.ids) == 25)
        await all_settled(broker)

    assert {reason for _, reason in listener.poison} == {"ODD_NUMBER"}
    assert len(listener.poison) == 25


async def test_poison_that_cannot_be_stored_is_kept_until_it_can(
    broker: Broker, listener: Listener, records: MakeRecords, until: Any
) -> None:
    await JetStreamPublisher(broker).publish(records(1))
    failures = 0

    def full() -> None:
        nonlocal failures
        failures += 1
        if failures < 4:
            raise OSError("no space left")

    def refuse(batch: Sequence[Delivery]) -> None:
        raise Unusable([(delivery, "BAD") for delivery in batch])

    listener.refuse, listener.refuse_poison = refuse, full
    async with listening(broker, listener):
        await until(lambda: listener.poison)
        await all_settled(broker)

    assert listener.poison == [(b"0", "BAD")]


async def test_a_broker_that_crashes_and_returns_is_read_on(
    nats: Nats, broker: Broker, listener: Listener, records: MakeRecords, until: Any
) -> None:
    publisher, batch = JetStreamPublisher(broker), records(400)
    await publisher.publish(batch[:200])

    async with listening(broker, listener):
        await until(lambda: len(listener.ids) >= 50)
        await asyncio.to_thread(nats.kill)
        await asyncio.to_thread(nats.start)
        async with asyncio.timeout(20):
            while True:
                await broker.connected()
                try:
                    await publisher.publish(batch[200:])
                except Unavailable:
                    # The end of the old connection was not noticed yet: the loop must run. The spool pauses, too.
                    await asyncio.sleep(0.01)
                    continue
                break
        await until(lambda: {record.id for record in batch} <= set(listener.ids))


async def test_a_stream_that_vanishes_is_made_again_and_read_on(
    broker: Broker, listener: Listener, records: MakeRecords, until: Any
) -> None:
    publisher = JetStreamPublisher(broker)
    await publisher.publish(records(10))

    async with listening(broker, listener):
        await until(lambda: len(listener.ids) == 10)
        await broker.connection().manager.delete_stream(STREAM)
        later = records(10)
        await publisher.publish(later)
        await until(lambda: {record.id for record in later} <= set(listener.ids))


async def test_a_consumer_that_vanishes_is_made_again_and_repeats_with_the_same_ids(
    broker: Broker, listener: Listener, records: MakeRecords, until: Any
) -> None:
    batch = records(10)
    await JetStreamPublisher(broker).publish(batch)

    async with listening(broker, listener):
        await until(lambda: len(listener.ids) == 10)
        await all_settled(broker)
        await broker.connection().manager.delete_consumer(STREAM, "test")
        await until(lambda: len(listener.ids) == 20)

    assert Counter(listener.ids) == {record.id: 2 for record in batch}


async def test_two_listeners_of_one_name_share_the_work(
    broker: Broker, brokers: Any, records: MakeRecords, until: Any
) -> None:
    one, two = Listener(), Listener()
    batch = records(2000)

    async with brokers() as other, listening(broker, one), listening(other, two):
        publisher = JetStreamPublisher(broker)
        for start in range(0, 2000, 100):
            await publisher.publish(batch[start : start + 100])
        await until(lambda: len(one.ids) + len(two.ids) >= 2000)
        await all_settled(broker)

    assert Counter(one.ids + two.ids) == {record.id: 1 for record in batch}
    assert one.ids
    assert two.ids


async def test_batches_are_bounded_in_bytes_too(
    broker: Broker, listener: Listener, records: MakeRecords, until: Any
) -> None:
    large = [Record(r.id, r.subject, bytes(900_000), {}) for r in records(24)]
    publisher = JetStreamPublisher(broker)
    for record in large:
        await publisher.publish([record])

    async with listening(broker, listener, batch_size=1000):
        await until(lambda: len(listener.ids) == 24)

    assert sum(map(len, listener.batches[0])) <= 8 << 20


async def test_a_handled_batch_is_linked_to_the_sampled_traces_in_it(
    broker: Broker, listener: Listener, records: MakeRecords, until: Any
) -> None:
    sampled, unsampled = (TraceContext(letter * 32, "b" * 16, letter == "a") for letter in "ac")
    headers = [{"traceparent": place.traceparent()} for place in (sampled, unsampled)]
    seen: list[tuple[str, list[TraceContext]]] = []

    @contextmanager
    def span(name: str, places: Sequence[TraceContext]) -> Iterator[None]:
        seen.append((name, list(places)))
        yield

    batch = [*records(3, headers=headers[0]), *records(3, headers=headers[1]), *records(1)]
    await JetStreamPublisher(broker).publish(batch)
    async with listening(broker, listener, linked_span=span):
        await until(lambda: len(listener.ids) == 7)

    assert [place for _, places in seen for place in places][:1] == [sampled]
    assert {name for name, _ in seen} == {"test process"}
