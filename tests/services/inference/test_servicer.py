from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from kit.status import reason_of
from tests.services.inference.answers import details, items_of, said_by
from tests.services.inference.conftest import RECOMMENDATION, model_entry
from tests.services.inference.fakes import until
from tests.services.scripted_registry import deployment_entry, key_entry, variant
from turnout.events.v1 import request_pb2
from turnout.executor.v1 import execution_pb2
from turnout.inference.v1 import artifact_service_pb2 as artifact_pb
from turnout.registry.v1 import deployment_pb2
from turnout.router.v1 import decision_pb2

ERROR = request_pb2.REQUEST_STATUS_ERROR
NOT_FOUND = grpc.StatusCode.NOT_FOUND
INVALID = grpc.StatusCode.INVALID_ARGUMENT


async def test_a_call_is_served_and_recorded(room: Any) -> None:
    manifest = room.make(1)
    await room.deploy(1)
    response = await room.recommend(
        thread="t1", identity={"id": "ada"}, trace_id="mine", metadata_json='{"page":"home"}', limit=3
    )

    assert items_of(response) == said_by(room.folder(manifest.digest), "u00003", 3)
    assert [item.title for item in response.items] == [f"Item {int(item.item_id[1:])}" for item in response.items]
    assert (response.model, response.model_number, response.cold_start) == ("mod_1", 1, False)
    assert response.decision == decision_pb2.Decision(
        deployment="dep_films",
        alias="live",
        revision="rev_2",
        revision_number="1.0",
        variant="var_v1",
        variant_slug="v1",
        evaluation=decision_pb2.EVALUATION_DEFAULT_MATCHED,
        propensity=1,
        key_kind=decision_pb2.KEY_KIND_IDENTITY,
    )
    [served] = room.served()
    assert served.request_id == response.request_id
    assert served.status == request_pb2.REQUEST_STATUS_OK
    assert served.kind == deployment_pb2.DEPLOYMENT_KIND_RECOMMENDATION
    assert (served.project, served.project_slug, served.deployment_slug) == ("prj_shop", "shop", "films")
    assert (served.user, served.identity, served.thread, served.caller_trace_id) == ("u00003", "ada", "t1", "mine")
    assert served.recommendation == request_pb2.Recommended(model="mod_1", item_count=3, cold_start=False)
    assert served.metadata_json == '{"page":"home"}'
    assert (served.decision, served.served_variant) == (response.decision, "var_v1")
    assert served.latency_us == response.latency_us > 0
    assert served.source == execution_pb2.SOURCE_API
    assert served.service_instance == room.runtime.options.instance
    assert len(served.trace_id) == 32
    assert room.key.split("_")[1] == served.api_key
    assert room.payloads() == [{"items": [{"item_id": item.item_id, "score": item.score} for item in response.items]}]


async def test_seen_items_are_left_out_unless_they_are_asked_for(room: Any) -> None:
    folder = room.folder(room.make(1).digest)
    await room.deploy(1)
    without, with_seen = await room.recommend(limit=1000), await room.recommend(limit=1000, include_seen=True)
    assert (len(without.items), len(with_seen.items)) == (47, 50)
    assert items_of(with_seen) == said_by(folder, "u00003", 1000, include_seen=True)
    assert len((await room.recommend()).items) == 10


async def test_strangers_get_what_is_popular_or_are_refused(room: Any) -> None:
    room.make(1)
    await room.deploy(1)
    response = await room.recommend(user_id="nobody ☃")
    assert response.cold_start
    assert items_of(response) == said_by(room.folder(room.manifests[1].digest), "nobody ☃")
    assert room.served()[0].recommendation.cold_start

    await room.deploy(1, refuse=True, revision="rev_3")
    failure = await room.failure(user_id="nobody ☃")
    assert (failure.code(), reason_of(failure)) == (NOT_FOUND, "UNKNOWN_USER")
    last = room.served()[-1]
    assert (last.status, last.reason) == (ERROR, "UNKNOWN_USER")
    assert not last.HasField("recommendation")
    assert details(failure, error_details_pb2.ErrorInfo).metadata["request_id"] == last.request_id
    assert len(room.payloads()) == 1


@pytest.mark.parametrize(
    ("fields", "code", "reason", "is_recorded"),
    [
        ({"deployment": "nothing"}, NOT_FOUND, "DEPLOYMENT_NOT_FOUND", False),
        ({"deployment": "foreign"}, NOT_FOUND, "DEPLOYMENT_NOT_FOUND", False),
        ({"deployment": "projects/other/deployments/foreign"}, NOT_FOUND, "DEPLOYMENT_NOT_FOUND", False),
        ({"deployment": "empty:beta"}, NOT_FOUND, "ALIAS_NOT_FOUND", False),
        ({"deployment": "empty"}, grpc.StatusCode.FAILED_PRECONDITION, "NO_ACTIVE_VARIANT", True),
        ({"deployment": "assistant"}, grpc.StatusCode.FAILED_PRECONDITION, "DEPLOYMENT_KIND_MISMATCH", True),
        ({"user_id": ""}, INVALID, "INVALID_REQUEST", False),
        ({"limit": 1001}, INVALID, "INVALID_REQUEST", False),
        ({"limit": -1}, INVALID, "INVALID_REQUEST", False),
        ({"deployment": "empty", "metadata_json": "{"}, INVALID, "JSON_MALFORMED", True),
        ({"deployment": "empty", "user_id": "a\0b"}, INVALID, "TEXT_NOT_STORABLE", True),
        ({"key": "tk_nonsense"}, grpc.StatusCode.UNAUTHENTICATED, "KEY_MALFORMED", False),
    ],
)
async def test_bad_input_gets_a_defined_status(
    room: Any, fields: dict[str, Any], code: grpc.StatusCode, reason: str, is_recorded: bool
) -> None:
    failure = await room.failure(**fields)
    assert (failure.code(), reason_of(failure)) == (code, reason)
    assert [served.reason for served in room.served()] == [reason] * is_recorded
    # A call that is recorded belongs to its deployment, whatever became of it.
    slug = fields.get("deployment")
    assert [served.decision.deployment for served in room.served()] == [f"dep_{slug}"] * is_recorded


async def test_a_key_without_the_scope_may_not(room: Any) -> None:
    poor, entry = key_entry("analytics:read")
    await room.put(entry)
    assert reason_of(await room.failure(key=poor)) == "SCOPE_MISSING"
    assert reason_of(await room.refused([artifact_pb.UploadModelRequest()], key=poor)) == "SCOPE_MISSING"
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await room.loaded(key=poor)
    assert reason_of(failure.value) == "SCOPE_MISSING"


async def test_another_tenants_project_is_not_found(room: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await room.loaded("other")
    assert (failure.value.code(), reason_of(failure.value)) == (NOT_FOUND, "PROJECT_NOT_FOUND")


async def test_a_variant_whose_model_is_not_there_is_unavailable_and_told(room: Any) -> None:
    await room.put(
        model_entry(1, "f" * 64), deployment_entry("films", variant("v1", model="mod_1"), kind=RECOMMENDATION)
    )
    failed = await room.until_loaded(1, "FAILED")
    assert (failed.model, failed.digest, failed.reason) == ("mod_1", "f" * 64, "ARTIFACT_MISSING")
    assert "TURNOUT_INFERENCE_ARTIFACTS_DIR" in failed.message
    failure = await room.failure()
    assert (failure.code(), reason_of(failure)) == (grpc.StatusCode.UNAVAILABLE, "MODEL_NOT_LOADED")
    assert details(failure, error_details_pb2.RetryInfo).retry_delay.seconds >= 1


async def test_a_damaged_new_model_leaves_the_old_one_serving(room: Any) -> None:
    room.make(1)
    broken = room.make(2)
    path = room.folder(broken.digest) / "seen_indices.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    await room.deploy(1)
    ready = await room.until_loaded(1)
    assert ready.size_bytes == room.manifests[1].size_bytes
    assert ready.load_time.seconds > 1_700_000_000
    await room.deploy(2, revision="rev_3")
    failed = await room.until_loaded(2, "FAILED")
    assert (failed.reason, failed.message.split(":")[0]) == ("ARTIFACT_FILE_CORRUPTED", "seen_indices.npy")
    response = await room.recommend()
    assert (response.model, response.decision.revision) == ("mod_1", "rev_3")
    assert room.served()[0].recommendation.model == "mod_1"


async def test_models_are_swapped_under_load_without_an_error_or_a_mixed_answer(room: Any) -> None:
    users = [f"u{number:05}" for number in range(20)]
    said: dict[str, dict[str, list[tuple[str, float, str]]]] = {}
    for number in (1, 2, 3, 4):
        folder = room.folder(room.make(number).digest)
        said[f"mod_{number}"] = {user: said_by(folder, user) for user in users}
    await room.deploy(1)
    answered: Counter[str] = Counter()
    is_over = False

    async def caller(place: int) -> None:
        while not is_over:
            user = users[(place + sum(answered.values())) % len(users)]
            response = await room.recommend(user_id=user)
            assert items_of(response) == said[response.model][user]
            answered[response.model] += 1

    async def until_it_serves(model: str) -> None:
        await until(lambda: answered[model] >= 20 or any(each.done() for each in callers))

    callers = [asyncio.create_task(caller(place)) for place in range(8)]
    await until_it_serves("mod_1")
    for number in (2, 3, 4):
        await room.deploy(number, revision=f"rev_{number}")
        await until_it_serves(f"mod_{number}")
    is_over = True
    await asyncio.gather(*callers)
    assert set(answered) == set(said)
    assert len(room.served()) == sum(answered.values())
    assert {served.status for served in room.served()} == {request_pb2.REQUEST_STATUS_OK}


async def test_calls_that_share_batches_get_their_own_answers(
    start_room: Callable[[], Any], environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("TURNOUT_INFERENCE_DIRECT_MULTIPLICATIONS", "0")
    async with start_room() as room:
        folder = room.folder(room.make(1).digest)
        await room.deploy(1)
        users = [f"u{number % 20:05}" for number in range(100)]
        responses = await asyncio.gather(*(room.recommend(user_id=user, limit=7) for user in users))
        for user, response in zip(users, responses, strict=True):
            found, expected = items_of(response), said_by(folder, user, 7)
            assert [item[0] for item in found] == [item[0] for item in expected]
            # Products of many users at once are summed in another order.
            assert [item[1] for item in found] == pytest.approx([item[1] for item in expected], rel=1e-5)
