from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import nats.errors
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from kit import calls
from kit.calls import Call, Method
from kit.errors import CannotStart, Unavailable
from kit.events.outbox import Outbox, lost_event_of, outbox, start_of
from kit.events.stream import STREAM
from kit.interceptors import Chain
from kit.metrics import metrics
from kit.runtime import ProcessOptions, Runtime
from kit.server import Server, ServerOptions
from kit.spool import ACKNOWLEDGED, Event, Outcome, Record, Spool, SpoolOptions
from kit.telemetry import TraceContext, Tracing
from stack.nats import Nats
from tests.served import under
from turnout.events.v1 import request_pb2

SERVED = "turnout.events.v1.RequestServed.shop"


@pytest.fixture
def data_dir(tmp_path: Path, nats: Nats, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("TURNOUT_DATA_DIR", str(folder))
    monkeypatch.setenv("TURNOUT_NATS_URL", nats.url)
    monkeypatch.setenv("TURNOUT_EVENTS_STREAM_MAX_BYTES", str(64 << 20))
    return folder


def runtime() -> Runtime:
    tracing = Tracing(sample_ratio=0, resource={}, exporter=None)
    server = Server(Chain(tracing, ()), ServerOptions("127.0.0.1:0", 100, 300, 0, shares_port=False))
    return Runtime(ProcessOptions("ins_test", (), {}, None, None), server, tracing)


async def messages(broker: Any) -> list[tuple[str, bytes, dict[str, str]]]:
    manager = broker.connection().manager
    last = (await manager.stream_info(STREAM)).state.last_seq
    found = [await manager.get_msg(STREAM, seq=sequence) for sequence in range(1, last + 1)]
    return [(message.subject, message.data, message.headers) for message in found]


async def test_the_events_of_a_call_reach_the_stream_before_the_process_ends(data_dir: Path, broker: Any) -> None:
    lost = request_pb2.RequestServed(request_id="req_1", status=request_pb2.REQUEST_STATUS_LOST)
    served = request_pb2.RequestServed(request_id="req_1", status=request_pb2.REQUEST_STATUS_OK)
    payload = request_pb2.RequestPayload(request_id="req_1", data=b"{}")

    async with runtime() as process:
        box = await process.shared(outbox)
        opened = box.open(lost, "shop")
        box.close(opened, served, payload)
        box.append(payload, "toys")
        assert not box.is_shedding
        await box._spool.drain(10)

    found = await messages(broker)
    assert [(subject, data) for subject, data, _ in found] == [
        (SERVED, served.SerializeToString()),
        ("turnout.events.v1.RequestPayload.shop", payload.SerializeToString()),
        ("turnout.events.v1.RequestPayload.toys", payload.SerializeToString()),
    ]


async def test_events_of_a_call_carry_its_trace(data_dir: Path, broker: Any) -> None:
    place = TraceContext("a" * 32, "b" * 16, sampled=True)

    async def serve(box: Any) -> None:
        calls.enter(Call(Method("/x/Y", "z"), {}, "", 0, place))
        box.append(request_pb2.RequestServed(), "shop")

    async with runtime() as process:
        box = await process.shared(outbox)
        await asyncio.create_task(serve(box))
        await box._spool.drain(10)

    [(_, _, headers)] = await messages(broker)
    assert headers["traceparent"] == place.traceparent()


async def test_what_a_sampled_call_leaves_behind_has_one_span_that_all_of_it_continues(tmp_path: Path) -> None:
    exporter = InMemorySpanExporter()
    tracing = Tracing(sample_ratio=1, resource={}, exporter=exporter)
    spool = Spool(SpoolOptions(root=tmp_path, root_setting="TURNOUT_DATA_DIR"), lost=lost_event_of)
    taken: list[Record] = []

    class Taking:
        async def publish(self, batch: Sequence[Record]) -> Sequence[Outcome]:
            taken.extend(batch)
            return [ACKNOWLEDGED for _ in batch]

    served = tracing.server_span("call", tracing.begin(None), is_root=True)
    assert served is not None

    async def serve() -> None:
        with served, under(served):
            calls.enter(Call(Method("/x/Y", "z"), {}, "", 0, served.place))
            box = Outbox(spool, tracing)
            opened = box.open(request_pb2.RequestServed(), "shop")
            box.close(opened, request_pb2.RequestServed(request_id="req_1"), request_pb2.RequestPayload())

    await asyncio.create_task(serve())
    relay = asyncio.create_task(spool.run(Taking()))
    assert await spool.drain(10)
    relay.cancel()
    tracing.shutdown()

    [sent] = [each for each in exporter.get_finished_spans() if each.name.startswith("send ")]
    assert sent.name == "send turnout.events.v1.RequestServed"
    assert (sent.attributes or {})["messaging.destination.name"] == SERVED
    assert (sent.attributes or {})["messaging.batch.message_count"] == 2
    assert sent.context is not None
    place = f"00-{sent.context.trace_id:032x}-{sent.context.span_id:016x}-01"
    assert [record.headers["traceparent"] for record in taken] == [place, place]


async def test_a_call_that_never_ended_is_reported_lost_by_the_next_process(data_dir: Path, broker: Any) -> None:
    lost = request_pb2.RequestServed(request_id="req_1", status=request_pb2.REQUEST_STATUS_LOST)
    # A spool that is closed with an open call looks like that of a process that was killed.
    (data_dir / "spool").mkdir()
    options = SpoolOptions(root=data_dir / "spool", root_setting="TURNOUT_DATA_DIR")
    dead = Spool(options, lost=lost_event_of)
    dead.open_call(start_of(Event(SERVED, lost.SerializeToString())))
    dead.close()

    async with runtime() as process:
        await process.shared(outbox)
        await asyncio.wait_for(_stored(broker, 1), 15)

    assert [(subject, data) for subject, data, _ in await messages(broker)] == [(SERVED, lost.SerializeToString())]


async def test_a_stop_while_nats_is_down_is_quick_and_keeps_the_events(data_dir: Path, nats: Nats) -> None:
    nats.kill()
    async with runtime() as process:
        box = await process.shared(outbox)
        box.append(request_pb2.RequestServed(), "shop")
        stopping_at = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - stopping_at < 3

    assert list((data_dir / "spool").glob("*/*.seg"))


async def test_without_a_data_folder_the_start_fails_and_names_the_setting(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong in ("", str(data_dir / "absent"), "/proc"):
        if wrong:
            monkeypatch.setenv("TURNOUT_DATA_DIR", wrong)
        else:
            monkeypatch.delenv("TURNOUT_DATA_DIR")
        async with runtime() as process:
            with pytest.raises(CannotStart, match="TURNOUT_DATA_DIR"):
                await process.shared(outbox)


@given(st.text(max_size=50), st.binary(max_size=200), st.one_of(st.none(), st.text(min_size=1, max_size=60)))
def test_the_start_of_a_call_holds_the_event_that_reports_it_lost(
    subject: str, payload: bytes, trace: str | None
) -> None:
    event = Event(subject, payload, {} if trace is None else {"traceparent": trace})

    assert lost_event_of(start_of(event)) == event


@given(st.binary(max_size=4).filter(lambda data: data[:1] != b"\1" or len(data) < 5))
def test_a_start_of_another_format_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="start of a call"):
        lost_event_of(data)


async def _stored(broker: Any, count: int) -> None:
    messages = 0
    while messages < count:
        await asyncio.sleep(0.05)
        with suppress(nats.errors.Error, Unavailable):
            messages = (await broker.connection().manager.stream_info(STREAM)).state.messages


async def test_metrics_see_each_event_of_a_type_and_the_books_of_the_spool(data_dir: Path, broker: Any) -> None:
    seen: list[bytes] = []
    async with runtime() as process:
        measured = await process.shared(metrics)
        measured.on_event("turnout.events.v1.RequestServed", seen.append)
        box = await process.shared(outbox)
        served = request_pb2.RequestServed(request_id="req_1")
        box.append(served, "shop")
        box.append(request_pb2.RequestPayload(request_id="req_1"), "shop")
        await box._spool.drain(10)
        books = {reading.name: reading.value for reading in measured.readings()}

    assert seen == [served.SerializeToString()]
    assert books["turnout_spool_pending_records"] == 0
    assert books["turnout_spool_size_bytes"] > 0
    assert books["turnout_spool_bound_bytes"] == 2 << 30
    assert "turnout_spool_publish_failures" in books
