from __future__ import annotations

from typing import Any

import grpc
import pytest

from kit.status import reason_of
from tests.services.scripted_registry import deployment_entry, key_entry, variant
from turnout.router.v1 import decision_pb2
from turnout.router.v1 import routing_service_pb2 as pb


async def test_a_decision_is_told_and_nothing_runs(room: Any) -> None:
    response = await room.route("assistant:beta", routing_key="ada")

    slug = response.decision.variant_slug
    assert response == pb.RouteResponse(
        decision=decision_pb2.Decision(
            deployment="dep_assistant",
            alias="beta",
            revision="rev_1",
            revision_number="1.0",
            variant=f"var_{slug}",
            variant_slug=slug,
            evaluation=decision_pb2.EVALUATION_DEFAULT_MATCHED,
            propensity={"mild": 0.9, "wild": 0.1}[slug],
            key_kind=decision_pb2.KEY_KIND_ROUTING_KEY,
        ),
        variant=f"projects/shop/deployments/assistant/variants/{slug}",
        variant_display_name={"mild": "Mild", "wild": ""}[slug],
        version={"mild": "ver_1", "wild": "ver_2"}[slug],
    )


async def test_the_same_key_is_always_answered_the_same(room: Any) -> None:
    answers = [await room.route(user=f"user-{number}") for number in range(40)]
    again = [await room.route(user=f"user-{number}") for number in range(40)]

    assert answers == again
    assert {answer.decision.variant_slug for answer in answers} == {"mild", "wild"}


async def test_a_call_without_a_key_is_one_draw_of_many(room: Any) -> None:
    await room.put(deployment_entry("assistant", variant("mild", weight=50), variant("wild", weight=50)))

    answers = [await room.route() for _ in range(60)]

    assert {answer.decision.key_kind for answer in answers} == {decision_pb2.KEY_KIND_REQUEST}
    assert {answer.decision.variant_slug for answer in answers} == {"mild", "wild"}


async def test_recommenders_are_routed_too(room: Any) -> None:
    response = await room.route("films", user="1")
    assert (response.model, response.decision.variant_slug) == ("mod_1", "als")


async def test_a_change_of_the_registry_changes_the_answer(room: Any) -> None:
    await room.put(deployment_entry("assistant", variant("new"), revision="rev_2", number="1.1"))
    response = await room.route()
    assert (response.decision.variant_slug, response.decision.revision_number) == ("new", "1.1")


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"deployment": "nothing"}, grpc.StatusCode.NOT_FOUND, "DEPLOYMENT_NOT_FOUND"),
        ({"deployment": "foreign"}, grpc.StatusCode.NOT_FOUND, "DEPLOYMENT_NOT_FOUND"),
        ({"deployment": "assistant:none"}, grpc.StatusCode.NOT_FOUND, "ALIAS_NOT_FOUND"),
        ({"deployment": "closed"}, grpc.StatusCode.FAILED_PRECONDITION, "NO_ACTIVE_VARIANT"),
        ({"deployment": ""}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        ({"deployment": "d" * 401}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        ({"routing_key": "k" * 513}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        ({"user": "u" * 257}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        ({"user": "u\0"}, grpc.StatusCode.INVALID_ARGUMENT, "TEXT_NOT_STORABLE"),
        ({"context_json": "{"}, grpc.StatusCode.INVALID_ARGUMENT, "JSON_MALFORMED"),
        ({"context_json": "[]"}, grpc.StatusCode.INVALID_ARGUMENT, "JSON_NOT_OBJECT"),
        ({"context_json": f'{{"a":"{"x" * (16 << 10)}"}}'}, grpc.StatusCode.INVALID_ARGUMENT, "JSON_TOO_LARGE"),
        ({"context_json": '{"a":' + "[" * 16 + "]" * 16 + "}"}, grpc.StatusCode.INVALID_ARGUMENT, "JSON_TOO_DEEP"),
        ({"context_json": '{"a":"\\u0000"}'}, grpc.StatusCode.INVALID_ARGUMENT, "TEXT_NOT_STORABLE"),
        ({"context_json": '{"a":"\\ud800"}'}, grpc.StatusCode.INVALID_ARGUMENT, "JSON_MALFORMED"),
        ({"key": "tk_nonsense"}, grpc.StatusCode.UNAUTHENTICATED, "KEY_MALFORMED"),
    ],
)
async def test_bad_input_gets_a_defined_status(
    room: Any, fields: dict[str, Any], code: grpc.StatusCode, reason: str
) -> None:
    failure = await room.failure(**fields)
    assert (failure.code(), reason_of(failure)) == (code, reason)


async def test_a_key_without_the_scope_is_denied_and_a_platform_key_names_the_project(room: Any) -> None:
    poor, poor_entry = key_entry("registry:read")
    platform, platform_entry = key_entry("platform:admin", project="")
    await room.put(poor_entry, platform_entry)

    assert reason_of(await room.failure(key=poor)) == "SCOPE_MISSING"
    assert reason_of(await room.failure(key=platform)) == "TARGET_NEEDS_PROJECT"
    response = await room.route("projects/other/deployments/foreign", key=platform)
    assert response.decision.deployment == "dep_foreign"


async def test_a_batch_is_decided_in_order_and_failures_stand_in_their_places(room: Any) -> None:
    results = await room.batch_route(
        pb.RouteRequest(deployment="assistant:beta", routing_key="ada"),
        pb.RouteRequest(deployment="nothing"),
        pb.RouteRequest(deployment="closed"),
        pb.RouteRequest(deployment="films", user="1"),
        pb.RouteRequest(deployment="assistant", context_json="[]"),
    )

    assert results[0].response == await room.route("assistant:beta", routing_key="ada")
    assert results[3].response == await room.route("films", user="1")
    failures = [results[place].failure for place in (1, 2, 4)]
    assert [each.reason for each in failures] == ["DEPLOYMENT_NOT_FOUND", "NO_ACTIVE_VARIANT", "JSON_NOT_OBJECT"]
    assert all(each.message for each in failures)
    assert len(results) == 5


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_batch_has_one_to_a_thousand_calls(room: Any, count: int) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await room.batch_route(*[pb.RouteRequest(deployment="assistant")] * count)
    assert reason_of(failure.value) == "INVALID_REQUEST"


async def test_a_call_of_a_batch_that_breaks_the_contract_is_named(room: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await room.batch_route(pb.RouteRequest(deployment="assistant"), pb.RouteRequest())
    assert "requests[1].deployment" in (failure.value.details() or "")


async def test_nothing_is_recorded_of_what_is_only_routed(room: Any) -> None:
    await room.route()
    await room.batch_route(pb.RouteRequest(deployment="assistant"))
    assert room.served() == []
