from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from catalog import plan
from catalog.targets import Target
from kit.events.outbox import Outbox, lost_event_of
from kit.events.pieces import MAX_BYTES, PIECE_BYTES
from kit.spool import ACKNOWLEDGED, Outcome, Record, Spool, SpoolOptions
from recommenders.scoring import Answer, Item
from services.inference.domain import Recommendation, RecommendCall, Source, Status
from services.inference.payloads import payload
from services.inference.recorder import OutboxRecorder
from tests.services.inference.fakes import SHOP, deployment, model, variant
from turnout.events.v1 import request_pb2
from turnout.registry.v1 import deployment_pb2

FILMS = deployment(variant("v1", "mod_1"))
TARGET = Target(SHOP, FILMS, "live", FILMS.aliases["live"])


class Broker:
    """Takes everything."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    async def publish(self, batch: Sequence[Record]) -> Sequence[Outcome]:
        self.records += batch
        return [ACKNOWLEDGED] * len(batch)


def started() -> Recommendation:
    call = RecommendCall(
        "films", "u1", 0, False, "", "ada", "t1", '{"a":1}', "mine", Source.SDK, "prj_shop", "k", "a" * 32, 1e12
    )
    decided = plan.decide(TARGET, plan.KeyKind.USER, "u1")
    return Recommendation("req_1", call, TARGET, 1_700_000_000_123_456_789, 0.0, decided)


def ended(recommendation: Recommendation, items: int = 2) -> Recommendation:
    found = tuple(Item(f"i{number}", 2.0 - number, "A title") for number in range(items))
    recommendation.model, recommendation.answer = model(1), Answer(found, cold_start=True)
    recommendation.status, recommendation.latency_us = Status.OK, 7
    return recommendation


def spool_in(folder: Path, **options: Any) -> Spool:
    folder.mkdir(exist_ok=True)
    return Spool(SpoolOptions(root=folder, root_setting="TURNOUT_DATA_DIR", **options), lost=lost_event_of)


async def published(spool: Spool, count: int) -> list[Record]:
    broker = Broker()
    relay = asyncio.create_task(spool.run(broker))
    async with asyncio.timeout(10):
        while len(broker.records) < count:
            await asyncio.sleep(0.01)
    relay.cancel()
    await asyncio.gather(relay, return_exceptions=True)
    spool.close()
    return broker.records


async def test_a_call_that_ends_leaves_one_record_and_what_was_recommended(tmp_path: Path) -> None:
    spool, recommendation = spool_in(tmp_path / "spool"), started()
    recorder = OutboxRecorder(Outbox(spool), "ins_1", captures_payloads=True)
    recorder.close(recorder.open(recommendation), ended(recommendation))

    served, said = await published(spool, 2)
    event = request_pb2.RequestServed.FromString(served.payload)
    assert (event.status, event.latency_us, event.user) == (request_pb2.REQUEST_STATUS_OK, 7, "u1")
    assert event.kind == deployment_pb2.DEPLOYMENT_KIND_RECOMMENDATION
    assert event.recommendation == request_pb2.Recommended(model="mod_1", item_count=2, cold_start=True)
    assert (event.served_variant, event.payload_shed) == ("var_v1", False)
    piece = request_pb2.RequestPayload.FromString(said.payload)
    assert (piece.request_id, piece.project, piece.index, piece.count) == ("req_1", "prj_shop", 0, 1)
    assert json.loads(piece.data) == {"items": [{"item_id": "i0", "score": 2.0}, {"item_id": "i1", "score": 1.0}]}


async def test_a_call_without_an_answer_leaves_its_record_only(tmp_path: Path) -> None:
    spool, recommendation = spool_in(tmp_path / "spool"), started()
    recorder = OutboxRecorder(Outbox(spool), "ins_1", captures_payloads=True)
    opened = recorder.open(recommendation)
    recommendation.status, recommendation.reason = Status.ERROR, "MODEL_NOT_LOADED"
    recorder.close(opened, recommendation)

    [record] = await published(spool, 1)
    event = request_pb2.RequestServed.FromString(record.payload)
    assert (event.status, event.reason) == (request_pb2.REQUEST_STATUS_ERROR, "MODEL_NOT_LOADED")
    assert (event.served_variant, event.HasField("recommendation"), event.payload_shed) == ("", False, False)


async def test_a_call_whose_process_dies_is_recorded_as_lost_with_all_that_was_known(tmp_path: Path) -> None:
    dying = spool_in(tmp_path / "spool")
    OutboxRecorder(Outbox(dying), "ins_1", captures_payloads=True).open(started())
    dying.close()

    [record] = await published(spool_in(tmp_path / "spool", adopt_interval_seconds=0.05), 1)
    lost = request_pb2.RequestServed.FromString(record.payload)
    assert lost.status == request_pb2.REQUEST_STATUS_LOST
    assert (lost.request_id, lost.project, lost.api_key, lost.identity) == ("req_1", "prj_shop", "k", "ada")
    assert (lost.decision.variant, lost.user, lost.metadata_json) == ("var_v1", "u1", '{"a":1}')
    assert lost.kind == deployment_pb2.DEPLOYMENT_KIND_RECOMMENDATION
    assert lost.start_time.ToNanoseconds() == started().start_unix_ns


async def test_a_spool_that_is_nearly_full_keeps_the_record_and_sheds_what_was_recommended(tmp_path: Path) -> None:
    spool, recommendation = spool_in(tmp_path / "spool", bound_bytes=1 << 10, segment_bytes=1 << 20), started()
    recorder, opened = OutboxRecorder(Outbox(spool), "ins_1", captures_payloads=True), []
    while not spool.is_shedding:
        opened.append(recorder.open(recommendation))
    recorder.close(opened[0], ended(recommendation))
    [record] = await published(spool, 1)
    assert request_pb2.RequestServed.FromString(record.payload).payload_shed


async def test_payloads_that_nobody_wants_are_neither_kept_nor_shed(tmp_path: Path) -> None:
    spool, recommendation = spool_in(tmp_path / "spool"), started()
    recorder = OutboxRecorder(Outbox(spool), "ins_1", captures_payloads=False)
    recorder.close(recorder.open(recommendation), ended(recommendation))
    [record] = await published(spool, 1)
    assert not request_pb2.RequestServed.FromString(record.payload).payload_shed


def test_a_long_answer_travels_in_pieces_and_one_that_is_too_long_is_cut() -> None:
    long, too_long = payload(ended(started(), items=10_000)), payload(ended(started(), items=40_000))
    assert len(long.pieces) > 1
    assert max(map(len, long.pieces)) == PIECE_BYTES
    assert len(json.loads(b"".join(long.pieces))["items"]) == 10_000
    assert not long.truncated
    assert too_long.truncated
    assert sum(map(len, too_long.pieces)) == MAX_BYTES
