"""Decisions without calls, on whole installations: what the router alone can show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from kit import status
from stack.services import Installation
from tests.system.clients import Clients, tenant
from turnout.router.v1 import routing_service_pb2 as pb

pytestmark = pytest.mark.slow


async def simulate(clients: Clients, deployment: str, **fields: Any) -> pb.SimulateResponse:
    return await clients.read(clients.routing.Simulate, pb.SimulateRequest(deployment=deployment, **fields))


async def test_a_past_revision_is_tried_against_what_is_live(
    shop: Clients, installation: Installation, artifacts: dict[str, Path]
) -> None:
    als, bm25 = await shop.upload(artifacts["als"]), await shop.upload(artifacts["bm25"])
    made = await shop.create_slots("films", **{als.uid: 90, bm25.uid: 10})
    before = await simulate(shop, "films", population=pb.Population(size=1000))
    await shop.update_variant(made.variants[1].name, weight=30)
    name = f"{shop.parent}/deployments/films"

    live = await simulate(shop, name, population=pb.Population(size=1000))
    past = await simulate(
        shop, "films", revision=before.revision, compared_revision="live", population=pb.Population(size=1000)
    )

    assert live.revision_uid != before.revision_uid == past.revision_uid
    assert list(past.shares) == list(before.shares)
    assert [each.expected_share for each in live.shares] == [0.75, 0.25]
    moves = {(each.from_variant, each.to_variant) for each in past.comparison.movements}
    als_slot, bm25_slot = (variant.uid for variant in made.variants)
    # Who had the second slot keeps it when its weight falls, or goes to the first: nobody comes to it.
    assert moves == {(als_slot, als_slot), (bm25_slot, bm25_slot), (bm25_slot, als_slot)}
    by_uid = await simulate(shop, "films:live", revision=before.revision_uid, calls=[pb.SimulatedCall(user="u")])
    assert by_uid.trace.decision.revision == before.revision_uid

    async with tenant(installation) as other:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await simulate(other, name, revision=before.revision)
        assert status.reason_of(failure.value) == "DEPLOYMENT_NOT_FOUND"
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await simulate(shop, "films", revision="9.9")
    assert status.reason_of(failure.value) == "REVISION_NOT_FOUND"


async def test_a_batch_is_what_each_call_would_be(shop: Clients, artifacts: dict[str, Path]) -> None:
    als, bm25 = await shop.upload(artifacts["als"]), await shop.upload(artifacts["bm25"])
    await shop.create_slots("top", **{als.uid: 50, bm25.uid: 50})
    calls = [pb.RouteRequest(deployment="top", user=f"user-{number}") for number in range(999)]

    batch = await shop.read(
        shop.routing.BatchRoute, pb.BatchRouteRequest(requests=[*calls, pb.RouteRequest(deployment="nothing")])
    )

    for call, result in list(zip(calls, batch.results, strict=False))[:20]:
        assert result.response == await shop.read(shop.routing.Route, call)
    assert {result.WhichOneof("result") for result in batch.results[:-1]} == {"response"}
    assert batch.results[-1].failure.reason == "DEPLOYMENT_NOT_FOUND"
