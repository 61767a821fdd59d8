from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from catalog import plan
from catalog.targets import Target
from catalog.view import Completion, Deployment, DeploymentKind, Project, Revision, Variant, View
from completions.chat import Message, Role
from completions.version import Version
from kit.events.outbox import Outbox, lost_event_of
from kit.spool import ACKNOWLEDGED, Outcome, Record, Spool, SpoolOptions
from services.executor.domain import Attempt, FinishReason, ProviderAnswer, Run, RunCall, Source, Status, Usage
from services.executor.recorder import OutboxRecorder
from turnout.events.v1 import request_pb2, version_pb2

VARIANT = Variant("var_1", 1, "v1", "V1", True, 100, Completion("ver_1", 0, None))
REVISION = Revision("rev_1", "1.0", "salt", (VARIANT,))
DEPLOYMENT = Deployment("dep_1", "prj_shop", "assistant", DeploymentKind.COMPLETION, {"live": REVISION})
TARGET = Target(Project("prj_shop", 1, "shop"), DEPLOYMENT, "live", REVISION)


class Broker:
    """Takes everything."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    async def publish(self, batch: Sequence[Record]) -> Sequence[Outcome]:
        self.records += batch
        return [ACKNOWLEDGED] * len(batch)


def started() -> Run:
    call = RunCall(
        "assistant", "", (Message(Role.USER, "hello"),), "", "ada", "t1", "", "", Source.SDK, "prj_shop", "k", "a" * 32,
        1e12,
    )  # fmt: skip
    run = Run(
        "req_1", call, View(), TARGET.project, TARGET, 1_700_000_000_123_456_789, 0.0,
        call.messages, decision=plan.decide(TARGET, plan.KeyKind.THREAD, "t1"),
    )  # fmt: skip
    run.provider, run.model, run.version = "main", "test-model", "ver_1"
    return run


def ended(run: Run) -> Run:
    run.answer = ProviderAnswer(Message(Role.ASSISTANT, "hi"), FinishReason.STOP, Usage(1, 2), "m", 200)
    run.status, run.latency_us, run.cost_usd_micros = Status.OK, 7, 0
    return run


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


async def test_a_call_that_ends_leaves_one_record_and_what_was_said(tmp_path: Path) -> None:
    spool, run = spool_in(tmp_path / "spool"), started()
    recorder = OutboxRecorder(Outbox(spool), "ins_1", captures_payloads=True)
    recorder.close(recorder.open(run), ended(run))

    records = await published(spool, 2)
    assert [record.subject for record in records] == [
        "turnout.events.v1.RequestServed.shop",
        "turnout.events.v1.RequestPayload.shop",
    ]
    served = request_pb2.RequestServed.FromString(records[0].payload)
    assert (served.status, served.latency_us) == (request_pb2.REQUEST_STATUS_OK, 7)
    assert served.start_time.ToNanoseconds() == run.start_unix_ns
    # Known to be free is not the same as unknown.
    assert served.HasField("cost_usd_micros")
    said = request_pb2.RequestPayload.FromString(records[1].payload)
    assert (said.request_id, said.project) == ("req_1", "prj_shop")
    assert (said.index, said.count, said.truncated) == (0, 1, False)
    assert list(json.loads(said.data)) == ["message", "variables", "messages"]


async def test_a_call_whose_process_dies_is_recorded_as_lost_with_all_that_was_known(tmp_path: Path) -> None:
    dying, run = spool_in(tmp_path / "spool"), started()
    OutboxRecorder(Outbox(dying), "ins_1", captures_payloads=True).open(run)
    dying.close()

    [record] = await published(spool_in(tmp_path / "spool", adopt_interval_seconds=0.05), 1)
    lost = request_pb2.RequestServed.FromString(record.payload)
    assert lost.status == request_pb2.REQUEST_STATUS_LOST
    assert (lost.request_id, lost.project, lost.api_key, lost.identity) == ("req_1", "prj_shop", "k", "ada")
    assert (lost.decision.variant, lost.decision.deployment, lost.provider) == ("var_1", "dep_1", "main")
    assert lost.start_time.ToNanoseconds() == run.start_unix_ns
    assert (lost.service_instance, lost.trace_id) == ("ins_1", "a" * 32)


async def test_a_spool_that_is_nearly_full_keeps_the_record_and_sheds_what_was_said(tmp_path: Path) -> None:
    spool, run = spool_in(tmp_path / "spool", bound_bytes=1 << 10, segment_bytes=1 << 20), started()
    recorder, opened = OutboxRecorder(Outbox(spool), "ins_1", captures_payloads=True), []
    while not spool.is_shedding:
        opened.append(recorder.open(run))
    recorder.close(opened[0], ended(run))

    [record] = await published(spool, 1)
    assert request_pb2.RequestServed.FromString(record.payload).payload_shed


async def test_a_disk_that_fills_up_at_the_end_of_a_call_takes_the_record_without_what_was_said(tmp_path: Path) -> None:
    spool, run = spool_in(tmp_path / "spool"), started()
    recorder = OutboxRecorder(Outbox(spool), "ins_1", captures_payloads=True)
    opened = recorder.open(run)
    size = max(path.stat().st_size for path in tmp_path.rglob("*.seg"))
    run.said = (Message(Role.USER, "x" * 100_000),)
    run.base_version, run.version, run.seen_version = "ver_1", "ver_2", Version("prv_main", "test-model")
    run.attempts.append(Attempt("main", "test-model", 200, "", "", 0, 7))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        # To the spool, a file that may not grow is a disk that is full.
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 4096, limits[1]))
        recorder.close(opened, ended(run))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    recorder.close(recorder.open(run), run)
    records = await published(spool, 3)
    served = request_pb2.RequestServed.FromString(records[0].payload)
    assert (served.status, served.payload_shed) == (request_pb2.REQUEST_STATUS_OK, True)
    kinds = [record.subject.split(".")[3] for record in records]
    assert kinds.count("VersionSeen") == 1, "what had no room is told by the next call"


async def test_a_version_that_asked_nobody_is_not_told_of(tmp_path: Path) -> None:
    spool, run = spool_in(tmp_path / "spool"), ended(started())
    recorder = OutboxRecorder(Outbox(spool), "ins_1", captures_payloads=False)
    run.version, run.seen_version = "ver_2", Version("prv_main", "test-model")
    recorder.close(recorder.open(run), run)

    [record] = await published(spool, 1)
    assert "RequestServed" in record.subject


async def test_an_answer_that_was_not_taken_served_nobody(tmp_path: Path) -> None:
    spool, run = spool_in(tmp_path / "spool"), ended(started())
    run.status, run.reason = Status.ERROR, "OUTPUT_INVALID"
    recorder = OutboxRecorder(Outbox(spool), "ins_1", captures_payloads=False)
    recorder.close(recorder.open(run), run)

    [record] = await published(spool, 1)
    served = request_pb2.RequestServed.FromString(record.payload)
    assert (served.served_variant, served.usage.input_tokens) == ("", 1)


async def test_a_version_that_a_call_brought_along_is_told_of_once_a_day(tmp_path: Path) -> None:
    spool = spool_in(tmp_path / "spool")
    recorder = OutboxRecorder(Outbox(spool), "ins_1", captures_payloads=False)
    for hours in (0, 1, 25):
        run = ended(started())
        run.start_unix_ns += hours * 3600 * 10**9
        run.base_version, run.version = "ver_1", "ver_2"
        run.seen_version = Version("prv_main", "test-model", (Message(Role.USER, "hello"),))
        run.attempts.append(Attempt("main", "test-model", 200, "", "", 0, 7))
        recorder.close(recorder.open(run), run)

    records = await published(spool, 5)
    told = [record for record in records if "VersionSeen" in record.subject]
    assert {record.subject for record in told} == {"turnout.events.v1.VersionSeen.shop"}
    assert len(told) == 2
    seen = version_pb2.VersionSeen.FromString(told[0].payload)
    assert (seen.project, seen.version.uid, seen.version.provider, seen.request_id) == (
        "prj_shop",
        "ver_2",
        "prv_main",
        "req_1",
    )
    served = [request_pb2.RequestServed.FromString(r.payload) for r in records if "RequestServed" in r.subject]
    assert {(event.version, event.base_version) for event in served} == {("ver_2", "ver_1")}
