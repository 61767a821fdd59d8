"""The other main story: trained models in weighted slots behind one name."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from pathlib import Path

import grpc
import pytest

from kit import status
from recommenders.artifact import open_artifact
from recommenders.scoring import Query
from stack.services import Installation
from tests.system.clients import Clients, eventually
from turnout.events.v1 import request_pb2
from turnout.inference.v1 import recommendation_service_pb2
from turnout.router.v1 import decision_pb2, routing_service_pb2

USERS = 40
WAITING = "waiting"
"""Who asks until a deployment answers, so that these calls can be told from a test's own."""


def expected(folder: Path, user: str, limit: int = 10) -> list[str]:
    recommender = open_artifact(folder)
    try:
        return [item.item_id for item in recommender.recommend([Query(user, limit)])[0].items]
    finally:
        recommender.close()


async def ready(clients: Clients, deployment: str) -> None:
    """Wait until the deployment answers."""
    await eventually(lambda: _answers(clients, deployment))


async def _answers(clients: Clients, deployment: str) -> None:
    try:
        await clients.recommend(deployment, WAITING)
    except grpc.aio.AioRpcError as error:
        raise AssertionError(status.reason_of(error)) from None


async def test_two_recommenders_answer_behind_one_name_and_each_call_is_counted_once(
    shop: Clients, artifacts: dict[str, Path]
) -> None:
    models = {name: await shop.upload(folder, name) for name, folder in artifacts.items()}
    again = await shop.upload(artifacts["als"])
    # With 41 users, nobody in one of them is one run in a thousand million.
    made = await shop.create_slots("top", **{models["als"].uid: 60, models["bm25"].uid: 40})
    await ready(shop, "top")
    by_uid = {model.uid: name for name, model in models.items()}

    assert again == models["als"]
    served: Counter[str] = Counter()
    for number in range(USERS):
        user = f"user-{number}"
        first, second = await shop.recommend("top", user), await shop.recommend("top", user, limit=3)
        assert [item.item_id for item in first.items] == expected(artifacts[by_uid[first.model]], user)
        assert first.items[:3] == second.items
        assert (first.decision.variant, first.decision.key_kind) == (
            second.decision.variant,
            decision_pb2.KEY_KIND_USER,
        )
        route = await shop.read(shop.routing.Route, routing_service_pb2.RouteRequest(deployment="top", user=user))
        assert route.decision == first.decision
        served[first.decision.variant] += 2
    stranger = await shop.recommend("top", "somebody else")
    assert stranger.cold_start
    served[stranger.decision.variant] += 1
    assert set(served) == {variant.uid for variant in made.variants}

    async def counted() -> None:
        logs = [log.request for log in await shop.all_logs("top")]
        ours = [log for log in logs if log.user != WAITING]
        assert Counter(log.decision.variant for log in ours) == served
        assert {log.status for log in ours} == {request_pb2.REQUEST_STATUS_OK}
        assert {log.recommendation.model for log in ours} == set(by_uid)
        assert [log.user for log in ours if log.recommendation.cold_start] == ["somebody else"]
        rows = (await shop.totals("top")).rows
        assert {row.variant: row.requests for row in rows} == Counter(log.decision.variant for log in logs)
        assert sum(row.ok for row in rows) == sum(log.status == request_pb2.REQUEST_STATUS_OK for log in logs)

    await eventually(counted)


async def test_a_swap_under_load_gives_no_error_and_no_mixed_answer(shop: Clients, artifacts: dict[str, Path]) -> None:
    als, bm25 = await shop.upload(artifacts["als"]), await shop.upload(artifacts["bm25"])
    folders = {als.uid: artifacts["als"], bm25.uid: artifacts["bm25"]}
    made = await shop.create_slots("swapped", **{als.uid: 100})
    await ready(shop, "swapped")
    lists = {(uid, user): expected(folder, f"user-{user}") for uid, folder in folders.items() for user in range(USERS)}
    seen: Counter[str] = Counter()
    stop = asyncio.Event()

    async def caller(user: int) -> None:
        while not stop.is_set():
            answer = await shop.recommend("swapped", f"user-{user}")
            assert [item.item_id for item in answer.items] == lists[answer.model, user]
            seen[answer.model] += 1

    callers = [asyncio.create_task(caller(user)) for user in range(8)]
    for uid in (bm25.uid, als.uid, bm25.uid):
        await shop.update_variant(made.variants[0].name, recommendation={"model": uid})
        before = seen[uid]
        async with asyncio.timeout(20):
            while seen[uid] < before + 50:
                await asyncio.sleep(0.01)
                assert not any(task.done() for task in callers), "a caller failed"
    stop.set()
    await asyncio.gather(*callers)
    assert set(seen) == {als.uid, bm25.uid}


async def test_a_weight_change_moves_only_who_must_move(shop: Clients, artifacts: dict[str, Path]) -> None:
    als, bm25 = await shop.upload(artifacts["als"]), await shop.upload(artifacts["bm25"])
    made = await shop.create_slots("moving", **{als.uid: 90, bm25.uid: 10})
    await ready(shop, "moving")

    async def slots() -> dict[str, str]:
        users = [f"somebody-{number}" for number in range(400)]
        answers = await asyncio.gather(*(shop.recommend("moving", user, limit=1) for user in users))
        return {user: answer.decision.variant for user, answer in zip(users, answers, strict=True)}

    before = await slots()
    await shop.update_variant(made.variants[1].name, weight=30)
    after = await slots()

    small = made.variants[1].uid
    share, spread = 0.1, 4 * math.sqrt(400 * 0.1 * 0.9)
    assert abs(Counter(before.values())[small] - 400 * share) < spread
    assert Counter(after.values())[small] > Counter(before.values())[small]
    assert all(after[user] == small for user in before if after[user] != before[user]), "raising moves only to it"


async def test_no_active_slot_is_a_precondition(shop: Clients, artifacts: dict[str, Path]) -> None:
    als = await shop.upload(artifacts["als"])
    made = await shop.create_slots("asleep", **{als.uid: 100})
    await shop.update_variant(made.variants[0].name, active=False)

    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await shop.recommend("asleep", "user-1")
    assert failure.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert status.reason_of(failure.value) == "NO_ACTIVE_VARIANT"


async def test_what_a_process_holds_can_be_seen(
    installation: Installation, shop: Clients, artifacts: dict[str, Path]
) -> None:
    als = await shop.upload(artifacts["als"])
    await shop.create_slots("held", **{als.uid: 100})
    await ready(shop, "held")
    loaded = await shop.read(
        shop.recommendations.ListLoadedModels,
        recommendation_service_pb2.ListLoadedModelsRequest(parent=shop.parent),
    )

    [model] = loaded.models
    assert (model.model, model.digest) == (als.uid, als.digest)
    assert model.state == recommendation_service_pb2.LOADED_MODEL_STATE_READY
    assert model.size_bytes == als.size_bytes
