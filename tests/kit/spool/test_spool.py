"""What a caller of the spool is promised."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit.errors import Invalid, Unavailable
from kit.spool import Event, SpoolUnusable

if TYPE_CHECKING:
    from tests.kit.spool.conftest import Broker, MakeSpool, Running, Until


async def test_events_arrive_in_order_with_their_ids_and_headers(
    make_spool: MakeSpool, broker: Broker, running: Running
) -> None:
    spool = make_spool()
    call = spool.open_call(b"start")
    alone = spool.append(Event("alone", b"1", {"traceparent": "00-1"}))
    spool.close_call(call, [Event("end", b"2"), Event("payload", b"3")])

    async with running(spool, broker):
        assert await spool.drain(10)

    assert [(r.subject, r.payload, r.headers) for r in broker.taken] == [
        ("alone", b"1", {"traceparent": "00-1"}),
        ("end", b"2", {}),
        ("payload", b"3", {}),
    ]
    assert broker.taken[0] == alone
    ids = [record.id for record in broker.taken]
    assert ids == sorted(set(ids))


def test_a_missing_root_is_refused_with_the_setting_to_change(tmp_path: Path, make_spool: MakeSpool) -> None:
    with pytest.raises(SpoolUnusable) as failure:
        make_spool(tmp_path / "absent")

    assert str(tmp_path / "absent") in str(failure.value)
    assert "TURNOUT_SPOOL_DIR" in str(failure.value)


def test_a_root_that_is_a_file_is_refused(tmp_path: Path, make_spool: MakeSpool) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(SpoolUnusable, match="TURNOUT_SPOOL_DIR"):
        make_spool(tmp_path / "file")


def test_a_record_past_the_bound_of_one_append_is_invalid_and_nothing_is_written(make_spool: MakeSpool) -> None:
    spool = make_spool(max_record_bytes=1000)
    call = spool.open_call(b"start")
    before = spool.usage

    with pytest.raises(Invalid) as too_large:
        spool.append(Event("subject", bytes(1000)))
    with pytest.raises(Invalid):
        spool.open_call(bytes(1000))
    with pytest.raises(Invalid):
        spool.close_call(call, [Event("a", bytes(500)), Event("b", bytes(500))])

    assert too_large.value.reason == "RECORD_TOO_LARGE"
    assert spool.usage == before
    spool.close_call(call, [])


def test_a_call_is_closed_once(make_spool: MakeSpool) -> None:
    spool = make_spool()
    call = spool.open_call(b"start")
    spool.close_call(call, [])

    with pytest.raises(ValueError, match="not open"):
        spool.close_call(call, [])


def test_payloads_are_shed_at_80_percent_and_new_calls_refused_at_100_but_ends_are_taken(make_spool: MakeSpool) -> None:
    spool = make_spool(bound_bytes=100_000, segment_bytes=10_000)
    call = spool.open_call(b"start")
    while not spool.is_shedding:
        spool.append(Event("subject", bytes(1000)))
    assert 80_000 <= spool.usage.bytes < 82_000

    while spool.usage.bytes < 100_000:
        spool.open_call(bytes(1000))

    with pytest.raises(Unavailable) as full:
        spool.open_call(b"start")
    assert full.value.reason == "SPOOL_FULL"
    assert full.value.retry_after_seconds is not None
    with pytest.raises(Unavailable):
        spool.append(Event("subject", b""))
    spool.close_call(call, [Event("end", b"")])


async def test_a_full_spool_takes_calls_again_once_the_broker_has_taken_its_records(
    make_spool: MakeSpool, broker: Broker, running: Running
) -> None:
    spool = make_spool(bound_bytes=100_000, segment_bytes=10_000)
    while spool.usage.bytes < 100_000:
        spool.append(Event("subject", bytes(1000)))
    with pytest.raises(Unavailable):
        spool.append(Event("subject", b""))

    async with running(spool, broker):
        assert await spool.drain(10)

    assert not spool.is_shedding
    spool.open_call(b"start")


async def test_acknowledged_segments_go_before_anything_is_shed(
    make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    spool = make_spool(bound_bytes=100_000, segment_bytes=10_000)

    async with running(spool, broker):
        for _ in range(30):
            for _ in range(10):
                spool.append(Event("subject", bytes(1000)))
                assert not spool.is_shedding
            assert await spool.drain(10)
        await until(lambda: spool.usage.bytes < 80_000)

    assert spool.usage.bytes > 50_000, "more was dropped than room was needed"
    assert len(broker.taken) == 300


async def test_a_call_that_outlives_its_segment_is_still_known_after_a_crash(
    tmp_path: Path, make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    spool = make_spool(retention_seconds=0, segment_bytes=2_000)
    long_call, lost_call = spool.open_call(b"long"), spool.open_call(b"lost")
    del lost_call
    (first,) = tmp_path.glob("*/*.seg")
    async with running(spool, broker):
        for _ in range(20):
            spool.append(Event("subject", bytes(1000)))
        await until(lambda: not first.exists())
    spool.close_call(long_call, [Event("end", b"long")])
    spool.close()

    heir = make_spool(retention_seconds=0)
    async with running(heir, broker):
        await until(lambda: heir.usage.folders == 1 and len(list(tmp_path.iterdir())) == 1)

    assert broker.payloads[20:] == [b"long", b"lost"]
    assert [record.subject for record in broker.taken[20:]] == ["end", "lost"]


def test_a_folder_that_vanished_makes_the_spool_unwritable(tmp_path: Path, make_spool: MakeSpool) -> None:
    spool = make_spool()
    for path in tmp_path.glob("*/*"):
        path.unlink()
    next(tmp_path.iterdir()).rmdir()

    with pytest.raises(Unavailable) as failure:
        spool.open_call(b"start")

    assert failure.value.reason == "SPOOL_UNWRITABLE"
    assert spool.usage.failed_writes == 1


async def test_usage_tells_what_is_pending_and_for_how_long(
    make_spool: MakeSpool, broker: Broker, running: Running
) -> None:
    now = 0.0
    spool = make_spool(clock=lambda: now)
    record = spool.append(Event("subject", b"1"))
    spool.append(Event("subject", b"2"))
    spool.open_call(b"start")
    now = record.time_ms / 1000 + 60

    usage = spool.usage
    assert (usage.pending_records, usage.open_calls, usage.folders) == (2, 1, 1)
    assert usage.oldest_pending_seconds == pytest.approx(60, abs=0.01)

    async with running(spool, broker):
        assert await spool.drain(10)
    assert (spool.usage.pending_records, spool.usage.oldest_pending_seconds) == (0, 0.0)


async def test_draining_gives_up_in_time_and_what_remains_is_there_at_the_next_start(
    make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    spool = make_spool()
    spool.append(Event("subject", b"1"))
    broker.is_down = True
    async with running(spool, broker):
        assert not await spool.drain(0.05)
    spool.close()

    broker.is_down = False
    async with running(make_spool(), broker):
        await until(lambda: broker.payloads == [b"1"])


async def test_draining_does_not_wait_for_company_or_for_a_long_back_off(
    make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    spool = make_spool(linger_seconds=60, backoff_min_seconds=60, backoff_max_seconds=60)
    spool.append(Event("subject", b"1"))
    broker.is_down = True
    async with running(spool, broker):
        await until(lambda: broker.failures > 0)
        broker.is_down = False
        assert await spool.drain(10)
        spool.append(Event("subject", b"2"))
        assert await spool.drain(10)


def test_a_closed_spool_takes_nothing(tmp_path: Path, make_spool: MakeSpool) -> None:
    spool = make_spool()
    spool.close()

    with pytest.raises(RuntimeError, match="closed"):
        spool.open_call(b"start")
    assert list(tmp_path.iterdir()) == []
