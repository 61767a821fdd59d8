from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.js import api

from kit import ids
from kit.errors import Unavailable
from kit.events import publisher as publishing
from kit.events.broker import Broker
from kit.events.publisher import JetStreamPublisher, refusal_of
from kit.events.stream import STREAM, SUBJECTS
from kit.spool import ACKNOWLEDGED, Record, Rejected
from stack.nats import Nats

MakeRecords = Callable[..., list[Record]]


async def stored(broker: Broker, stream: str = STREAM) -> int:
    state = (await broker.connection().manager.stream_info(stream)).state
    return int(state.messages)


async def test_the_stream_is_made_by_the_first_batch_and_every_record_is_acknowledged(
    broker: Broker, records: MakeRecords
) -> None:
    publisher = JetStreamPublisher(broker)

    assert list(await publisher.publish(records(300))) == [ACKNOWLEDGED] * 300

    assert await stored(broker) == 300
    info = await broker.connection().manager.stream_info(STREAM)
    assert info.config.duplicate_window == 120
    assert info.config.max_bytes == 64 << 20


async def test_a_batch_that_is_repeated_is_stored_once(broker: Broker, records: MakeRecords) -> None:
    publisher, batch = JetStreamPublisher(broker), records(50)
    await publisher.publish(batch)

    assert list(await publisher.publish(batch)) == [ACKNOWLEDGED] * 50

    assert await stored(broker) == 50


async def test_ids_and_headers_and_order_arrive(broker: Broker, records: MakeRecords) -> None:
    batch = records(20, headers={"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"})

    await JetStreamPublisher(broker).publish(batch)

    manager = broker.connection().manager
    for sequence, record in enumerate(batch, 1):
        message = await manager.get_msg(STREAM, seq=sequence)
        assert message.data == record.payload
        assert message.headers == {"Nats-Msg-Id": record.id, **record.headers}


async def sequences(broker: Broker) -> list[tuple[str, str | None]]:
    """Id and place in its batch of everything that is stored, in order."""
    manager, found = broker.connection().manager, []
    for sequence in range(1, await stored(broker) + 1):
        headers = (await manager.get_msg(STREAM, seq=sequence)).headers or {}
        found.append((headers["Nats-Msg-Id"], headers.get("Nats-Batch-Sequence")))
    return found


async def test_a_batch_is_taken_at_once_in_order(broker: Broker, records: MakeRecords) -> None:
    await broker.ensure_stream(broker.connection())
    publisher = JetStreamPublisher(broker)
    headers = {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}
    batch, larger, single = records(3, headers=headers), records(1000), records(1)

    for some in (batch, larger, single):
        assert list(await publisher.publish(some)) == [ACKNOWLEDGED] * len(some)

    expected = [(record.id, str(count)) for some in (batch, larger) for count, record in enumerate(some, 1)]
    assert await sequences(broker) == [*expected, (single[0].id, None)]
    message = await broker.connection().manager.get_msg(STREAM, seq=3)
    assert message.data == batch[2].payload
    assert (message.headers or {})["traceparent"] == headers["traceparent"]


async def test_a_batch_that_is_stored_in_part_is_completed_record_by_record(
    broker: Broker, records: MakeRecords
) -> None:
    await broker.ensure_stream(broker.connection())
    publisher, batch = JetStreamPublisher(broker), records(10)
    await publisher.publish(batch[2:6])

    assert list(await publisher.publish(batch)) == [ACKNOWLEDGED] * 10
    assert list(await publisher.publish([*batch, *batch[:1]])) == [ACKNOWLEDGED] * 11

    assert sorted(stored_id for stored_id, _ in await sequences(broker)) == sorted(record.id for record in batch)
    # It was no fault of the stream's, so the next goes at once again.
    await publisher.publish(records(2))
    assert [place for _, place in await sequences(broker)][-2:] == ["1", "2"]


async def test_a_batch_that_is_refused_is_sent_record_by_record_and_the_next_ones_too(
    broker: Broker, records: MakeRecords
) -> None:
    connection, publisher = broker.connection(), JetStreamPublisher(broker)
    await broker.ensure_stream(connection)
    config = (await connection.manager.stream_info(STREAM)).config
    await connection.manager.update_stream(config, max_msg_size=500)
    batch = records(3)
    batch[1] = Record(batch[1].id, batch[1].subject, b"x" * 600, {})

    outcomes = list(await publisher.publish(batch))

    assert outcomes == [ACKNOWLEDGED, Rejected("MESSAGE_TOO_LARGE"), ACKNOWLEDGED]
    for _ in range(21):
        assert list(await publisher.publish(records(2))) == [ACKNOWLEDGED] * 2
    assert [place for _, place in await sequences(broker)] == [None] * 42 + ["1", "2"]


async def test_a_stream_that_takes_no_batches_takes_records(broker: Broker, records: MakeRecords) -> None:
    manager, publisher = broker.connection().manager, JetStreamPublisher(broker)
    await broker.ensure_stream(broker.connection())
    await manager.delete_stream(STREAM)
    # As an operator, or an older version, makes it.
    await manager.add_stream(name=STREAM, subjects=[SUBJECTS])

    for some in (records(5), records(5)):
        assert list(await publisher.publish(some)) == [ACKNOWLEDGED] * 5
    await manager.delete_stream(STREAM)
    await broker.ensure_stream(broker.connection())

    assert list(await publisher.publish(records(5))) == [ACKNOWLEDGED] * 5
    assert await stored(broker) == 5


async def test_a_stream_that_takes_batches_no_longer_loses_none(broker: Broker, records: MakeRecords) -> None:
    manager, publisher = broker.connection().manager, JetStreamPublisher(broker)
    await broker.ensure_stream(broker.connection())
    await publisher.publish(records(5))
    await manager.delete_stream(STREAM)
    await manager.add_stream(name=STREAM, subjects=[SUBJECTS])

    assert list(await publisher.publish(records(7))) == [ACKNOWLEDGED] * 7

    assert await stored(broker) == 7


async def test_whether_batches_are_taken_is_asked_again(
    broker: Broker, records: MakeRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "_ALONE_AFTER_NO", 2)
    manager, publisher = broker.connection().manager, JetStreamPublisher(broker)
    config = await manager.add_stream(name=STREAM, subjects=[SUBJECTS])
    await publisher.publish(records(2))
    await manager.update_stream(config.config, allow_atomic=True)

    for _ in range(3):
        await publisher.publish(records(2))

    assert [place for _, place in await sequences(broker)] == [None] * 6 + ["1", "2"]


async def test_a_stream_that_is_published_again_elsewhere_takes_no_batches(
    broker: Broker, records: MakeRecords
) -> None:
    manager, publisher = broker.connection().manager, JetStreamPublisher(broker)
    await manager.add_stream(name="COPY", subjects=["copy.>"])
    again = api.RePublish(src=">", dest="copy.>")
    await manager.add_stream(name=STREAM, subjects=[SUBJECTS], allow_atomic=True, republish=again)

    await publisher.publish(records(10))

    # An acknowledged message lies in the stream, but is still on its way to the other one.
    async with asyncio.timeout(20):
        while await stored(broker, "COPY") < 10:
            await asyncio.sleep(0.005)


async def test_a_broker_that_does_not_say_what_it_takes_is_not_asked_often(
    broker: Broker, records: MakeRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def silent(manager: object) -> bool:
        asked.append(manager)
        await asyncio.Event().wait()
        return True

    monkeypatch.setattr(publishing, "takes_batches", silent)
    monkeypatch.setattr(publishing, "_ASK_SECONDS", 0.01)
    await broker.ensure_stream(broker.connection())
    publisher = JetStreamPublisher(broker)

    for _ in range(3):
        assert list(await publisher.publish(records(2))) == [ACKNOWLEDGED] * 2

    assert len(asked) == 1


async def test_a_connection_that_ends_ends_the_question(
    nats: Nats, broker: Broker, records: MakeRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(manager: object) -> bool:
        await asyncio.to_thread(nats.kill)
        await asyncio.Event().wait()
        return True

    monkeypatch.setattr(publishing, "takes_batches", silent)
    monkeypatch.setattr(publishing, "_ASK_SECONDS", 60.0)

    with pytest.raises(Unavailable):
        async with asyncio.timeout(20):
            await JetStreamPublisher(broker).publish(records(2))
    await asyncio.to_thread(nats.start)


async def test_large_records_are_sent_one_by_one(broker: Broker, records: MakeRecords) -> None:
    await broker.ensure_stream(broker.connection())
    batch = records(3)
    # With the headers of a batch they would be too large.
    batch[1] = Record(batch[1].id, batch[1].subject, b"x" * ((1 << 20) - 100), {})
    batch[2] = Record(batch[2].id, batch[2].subject, b"x" * ((1 << 20) - 60_200), {"long": "x" * 60_000})

    assert list(await JetStreamPublisher(broker).publish(batch)) == [ACKNOWLEDGED] * 3


async def test_a_header_that_would_end_its_line_is_rejected(broker: Broker, records: MakeRecords) -> None:
    batch = records(2)
    batch[0] = Record(batch[0].id, batch[0].subject, b"", {"traceparent": "a\r\nNats-Msg-Id: other"})

    assert list(await JetStreamPublisher(broker).publish(batch)) == [Rejected("BAD_HEADER"), ACKNOWLEDGED]


async def test_what_the_broker_will_never_take_is_rejected_and_the_rest_passes(
    broker: Broker, records: MakeRecords
) -> None:
    batch = records(6)
    too_large = b"x" * (1 << 20)
    batch[1] = Record(batch[1].id, batch[1].subject, too_large, {})
    batch[2] = Record(batch[2].id, "turnout.events.v1.Two words.shop", b"", {})
    batch[3] = Record(batch[3].id, "elsewhere.RequestServed.shop", b"", {})
    batch[4] = Record(batch[4].id, batch[4].subject, b"", {"bad name": "x"})

    outcomes = await JetStreamPublisher(broker).publish(batch)

    assert list(outcomes) == [
        ACKNOWLEDGED,
        Rejected("MAX_PAYLOAD_EXCEEDED"),
        Rejected("BAD_SUBJECT"),
        Rejected("BAD_SUBJECT"),
        Rejected("BAD_HEADER"),
        ACKNOWLEDGED,
    ]
    assert broker.is_connected


async def test_a_message_larger_than_the_stream_allows_is_rejected_and_the_rest_passes(
    broker: Broker, records: MakeRecords
) -> None:
    connection = broker.connection()
    await broker.ensure_stream(connection)
    config = (await connection.manager.stream_info(STREAM)).config
    await connection.manager.update_stream(config, max_msg_size=500)
    batch = records(3)
    batch[1] = Record(batch[1].id, batch[1].subject, b"x" * 600, {})

    outcomes = await JetStreamPublisher(broker).publish(batch)

    assert list(outcomes) == [ACKNOWLEDGED, Rejected("MESSAGE_TOO_LARGE"), ACKNOWLEDGED]


async def test_a_stream_that_vanished_is_made_again(broker: Broker, records: MakeRecords) -> None:
    publisher = JetStreamPublisher(broker)
    await publisher.publish(records(5))
    await broker.connection().manager.delete_stream(STREAM)

    assert list(await publisher.publish(records(7))) == [ACKNOWLEDGED] * 7

    assert await stored(broker) == 7


async def test_without_a_broker_the_batch_is_for_later(nats: Nats, broker: Broker, records: MakeRecords) -> None:
    publisher, batch = JetStreamPublisher(broker), records(10)
    nats.kill()
    with pytest.raises(Unavailable):
        await publisher.publish(batch)
    await asyncio.to_thread(nats.start)
    await asyncio.wait_for(broker.connected(), 10)

    assert list(await publisher.publish(batch)) == [ACKNOWLEDGED] * 10

    assert await stored(broker) == 10


async def test_a_broker_that_dies_in_the_middle_loses_nothing_and_stores_nothing_twice(
    nats: Nats, broker: Broker, records: MakeRecords
) -> None:
    publisher = JetStreamPublisher(broker)
    batches = [records(100) for _ in range(40)]
    await publisher.publish(batches[0])

    async def crash() -> None:
        await asyncio.to_thread(nats.kill)
        await asyncio.to_thread(nats.start)

    crashing = asyncio.create_task(crash())
    for batch in batches:
        async with asyncio.timeout(30):
            while True:
                try:
                    outcomes = await publisher.publish(batch)
                    break
                except Unavailable:
                    await asyncio.sleep(0.01)  # the spool pauses, too; the loop must run for the end to be noticed
                    await broker.connected()
        assert list(outcomes) == [ACKNOWLEDGED] * 100
    await crashing

    # Once more after the restart: whatever was sent before it was stored, or is now.
    await asyncio.wait_for(broker.connected(), 10)
    for batch in batches:
        await publisher.publish(batch)
    assert await stored(broker) == 4000


@given(st.text(max_size=30))
def test_a_subject_that_is_sent_is_one_that_the_protocol_can_carry(tail: str) -> None:
    record = Record(ids.encode(ids.uuid7()), f"turnout.events.v1.{tail}", b"", {})

    if refusal_of(record, 1 << 20) is None:
        tokens = record.subject.split(".")
        assert all(tokens)
        assert not any(character.isspace() or character in "*>\0" for character in record.subject)
