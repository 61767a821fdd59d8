from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from kit.errors import Unavailable
from kit.status import DETAILS_KEY, reason_of
from tests.catalog.plans import as_answered
from tests.services.scripted_registry import deployment_entry, key_entry, variant
from turnout.events.v1 import request_pb2
from turnout.executor.v1 import execution_pb2
from turnout.registry.v1 import catalog_pb2, deployment_pb2, routing_pb2
from turnout.router.v1 import decision_pb2
from turnout.router.v1 import routing_service_pb2 as pb

BEFORE = "req_" + "0" * 26


def spanish() -> catalog_pb2.CatalogEntry:
    """Spanish users to one variant of two, everybody else to another; nine in ten of them."""
    entry = deployment_entry(
        "assistant", variant("en"), variant("es", weight=0), variant("old", weight=0), revision="rev_2", number="2.0"
    )
    routing = entry.deployment.revisions[0].routing
    routing.fields.add(name="country", kind=routing_pb2.FIELD_KIND_STRING)
    routing.fields.add(name="age", kind=routing_pb2.FIELD_KIND_NUMBER)
    adults = routing.rules.add(uid="rul_1", display_name="Adults", condition="context.age >= 18.0", active=True)
    adults.variant = "var_old"
    spain = routing.rules.add(
        uid="rul_2", display_name="Spain", condition='context.country in ["ES", "MX"]', active=True
    )
    spain.split.shares.add(variant="var_es", weight=75)
    spain.split.shares.add(variant="var_en", weight=25)
    late = routing.rules.add(uid="rul_3", display_name="Late", condition="context.age > 1.0", active=True)
    late.variant = "var_old"
    routing.coverage, routing.baseline = 0.9, "var_old"
    return entry


def retry_seconds(failure: grpc.aio.AioRpcError) -> float:
    packed = dict(failure.trailing_metadata() or ())[DETAILS_KEY]
    for detail in status_pb2.Status.FromString(packed).details:
        if detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            delay = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
            return float(delay.seconds + delay.nanos / 1e9)
    return 0.0


async def test_a_trace_tells_every_step(room: Any) -> None:
    await room.put(spanish())
    call = pb.SimulatedCall(context_json='{"country": ["ES"], "age": "young"}', routing_key="ada")

    response = await room.simulate(calls=[call])

    assert (response.revision, response.revision_uid, response.decided_count) == ("2.0", "rev_2", 1)
    trace = response.trace
    assert [(each.display_name, each.outcome) for each in trace.rules] == [
        ("Adults", pb.RULE_OUTCOME_MISSING),
        ("Spain", pb.RULE_OUTCOME_TRUE),
        ("Late", pb.RULE_OUTCOME_NOT_REACHED),
    ]
    assert trace.rules[0].condition == "context.age >= 18.0"
    assert "present.age" in trace.rules[0].message
    assert list(trace.rules[0].values) == [pb.SeenValue(field="age", unfit=True)]
    assert list(trace.rules[1].values) == [pb.SeenValue(field="country", value_json='"ES"')]
    assert (trace.key, trace.coverage) == ("ada", 0.9)
    assert [(each.variant_slug, each.weight, each.active) for each in trace.candidates] == [
        ("es", 75, True),
        ("en", 25, True),
    ]
    assert [each.propensity for each in trace.candidates] == pytest.approx([0.675, 0.225])
    assert (trace.decision.rule, trace.decision.rule_name) == ("rul_2", "Spain")
    assert trace.decision.evaluation == decision_pb2.EVALUATION_MATCHED
    assert [(each.rule, each.count) for each in response.rules] == [("rul_1", 0), ("rul_2", 1), ("rul_3", 0)]
    assert not response.HasField("comparison")


async def test_one_call_is_kept_in_the_log_as_a_simulators(room: Any) -> None:
    await room.put(spanish())
    call = pb.SimulatedCall(context_json='{"country":"ES"}', identity="ada", thread="t", user="u", request_id=BEFORE)

    trace = (await room.simulate(calls=[call])).trace

    (served,) = room.served()
    assert served.start_time.seconds > 0
    assert served.latency_us >= 0
    for field in ("start_time", "latency_us"):
        served.ClearField(field)
    assert served == request_pb2.RequestServed(
        request_id=trace.request_id,
        project="prj_shop",
        project_slug="shop",
        deployment_slug="assistant",
        status=request_pb2.REQUEST_STATUS_OK,
        decision=trace.decision,
        source=execution_pb2.SOURCE_SIMULATOR,
        api_key=served.api_key,
        identity="ada",
        thread="t",
        user="u",
        metadata_json=json.dumps({"simulated_request_id": BEFORE}, separators=(",", ":")),
        trace_id=served.trace_id,
        service_instance=room.process.runtime.options.instance,
        kind=deployment_pb2.DEPLOYMENT_KIND_COMPLETION,
        context_json='{"country":"ES"}',
    )
    assert served.request_id.startswith("req_")
    assert served.request_id != BEFORE
    assert (len(served.trace_id), served.api_key) == (32, room.key.split("_")[1])


async def test_a_call_that_would_be_refused_is_no_failure(room: Any) -> None:
    response = await room.simulate("closed")

    assert not response.trace.HasField("decision")
    assert "activate one or raise a weight" in response.trace.refusal
    assert response.refused_count == 1
    (served,) = room.served()
    assert (served.status, served.reason) == (request_pb2.REQUEST_STATUS_ERROR, "NO_ACTIVE_VARIANT")
    assert served.decision == decision_pb2.Decision(
        deployment="dep_closed",
        alias="live",
        revision=response.revision_uid,
        revision_number=response.revision,
        evaluation=decision_pb2.EVALUATION_DEFAULT_MATCHED,
        key_kind=decision_pb2.KEY_KIND_REQUEST,
    )


async def test_the_log_says_by_which_rule_a_call_would_be_refused(room: Any) -> None:
    entry = spanish()
    del entry.deployment.revisions[0].variants[2]
    await room.put(entry)

    response = await room.simulate(calls=[pb.SimulatedCall(context_json='{"age":44}', routing_key="ada")])

    assert (response.trace.HasField("decision"), response.refused_count) == (False, 1)
    (served,) = room.served()
    assert (served.decision.rule, served.decision.rule_name, served.decision.variant) == ("rul_1", "Adults", "")
    assert served.decision.evaluation == decision_pb2.EVALUATION_MATCHED
    assert (served.context_json, served.routing_key) == ('{"age":44}', "ada")


@pytest.mark.parametrize("wrong", ["yesterday", "chg_" + "0" * 26, "req_1", "\0"])
async def test_a_request_to_repeat_that_is_none_is_refused_with_its_path(room: Any, wrong: str) -> None:
    failure = await room.simulation_failure(calls=[pb.SimulatedCall(), pb.SimulatedCall(request_id=wrong)])
    assert (failure.code(), reason_of(failure)) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_MALFORMED")
    assert "calls[1].request_id" in failure.details()


async def test_calls_and_a_population_are_counted_together(room: Any) -> None:
    await room.put(spanish())
    contexts = ['{"country": "ES"}', ""]

    response = await room.simulate(
        calls=[pb.SimulatedCall(context_json='{"age": 44}', user="u")] * 2,
        population=pb.Population(size=4000, contexts_json=contexts),
    )

    assert not response.HasField("trace")
    assert (response.decided_count, response.matched_count) == (4002, 2002)
    assert [each.count for each in response.rules] == [2, 2000, 0]
    assert [each.variant_slug for each in response.shares] == ["en", "es", "old"]
    assert sum(each.count for each in response.shares) == 4002
    assert sum(each.share for each in response.shares) == pytest.approx(1)
    assert sum(each.expected_share for each in response.shares) == pytest.approx(1)
    for share in response.shares:
        assert share.share == pytest.approx(share.expected_share, abs=0.03)
    assert response.outside_count == pytest.approx(400, abs=80)
    assert room.served() == []


@pytest.mark.parametrize("prefix", ["", "user-"])
async def test_the_units_of_a_population_are_those_that_route_knows_by_their_keys(room: Any, prefix: str) -> None:
    shares = (await room.simulate(population=pb.Population(size=60, prefix=prefix))).shares
    routed = [await room.route(routing_key=f"{prefix or 'unit-'}{number}") for number in range(60)]
    assert {each.variant_slug: each.count for each in shares} == {
        slug: sum(answer.decision.variant_slug == slug for answer in routed) for slug in ("mild", "wild")
    }


async def test_a_change_can_be_tried_against_what_is_live(room: Any) -> None:
    draft = catalog_pb2.CatalogRevision(uid="rev_draft", number="1.1", salt="dep_assistant")
    draft.variants.extend([variant("mild", weight=50), variant("wild", weight=50)])
    room.revisions.tell(as_answered(draft), "dep_assistant")

    response = await room.simulate(
        revision="1.1", compared_revision="live", population=pb.Population(size=2000, prefix="user-")
    )

    assert (response.revision, response.revision_uid) == ("1.1", "rev_draft")
    comparison = response.comparison
    assert comparison.revision == "1.0"
    pairs = {(each.from_slug, each.to_slug): each for each in comparison.movements}
    assert set(pairs) == {("mild", "mild"), ("mild", "wild"), ("wild", "wild")}
    assert [each.count for each in comparison.movements] == sorted(
        (each.count for each in pairs.values()), reverse=True
    )
    moved = pairs["mild", "wild"]
    assert (moved.from_variant, moved.to_variant) == ("var_mild", "var_wild")
    assert comparison.moved_count == moved.count == pytest.approx(800, abs=100)
    assert comparison.moved_share == moved.share == moved.count / 2000
    assert sum(each.count for each in pairs.values()) == 2000


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
async def test_the_registry_is_asked_with_the_callers_key_and_deadline(room: Any, header: str) -> None:
    value = f"Bearer {room.key}" if header == "authorization" else room.key
    request = pb.SimulateRequest(deployment="assistant:beta", revision="0.1")
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await room.stub.Simulate(request, metadata=((header, value),), timeout=3)

    assert (failure.value.code(), reason_of(failure.value)) == (grpc.StatusCode.NOT_FOUND, "REVISION_NOT_FOUND")
    assert "'assistant' has no revision '0.1'; give an alias (" in (failure.value.details() or "")
    (asker,) = room.revisions.askers
    assert asker.text(header) == value
    assert asker.principal.tenant == "prj_shop"
    # Time-outs are rounded on their way; without the caller's it would be 5 s.
    assert asker.remaining_seconds() < 4


async def test_what_the_registry_says_reaches_the_caller(room: Any) -> None:
    room.revisions.failure = Unavailable("the registry's database is down", reason="DATABASE_UNAVAILABLE")
    failure = await room.simulation_failure(revision="0.1")
    assert (failure.code(), reason_of(failure)) == (grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
    # What an alias points to is known here.
    assert (await room.simulate(revision="1.0", compared_revision="beta")).comparison.moved_count == 0


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"deployment": "nothing"}, grpc.StatusCode.NOT_FOUND, "DEPLOYMENT_NOT_FOUND"),
        ({"deployment": "foreign"}, grpc.StatusCode.NOT_FOUND, "DEPLOYMENT_NOT_FOUND"),
        ({"deployment": "assistant:none"}, grpc.StatusCode.NOT_FOUND, "ALIAS_NOT_FOUND"),
        ({"deployment": ""}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        ({"revision": "9.9"}, grpc.StatusCode.NOT_FOUND, "REVISION_NOT_FOUND"),
        ({"revision": "../../x"}, grpc.StatusCode.NOT_FOUND, "REVISION_NOT_FOUND"),
        ({"compared_revision": "odd#1"}, grpc.StatusCode.NOT_FOUND, "REVISION_NOT_FOUND"),
        ({"revision": "r" * 64}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        ({"population": pb.Population()}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        ({"population": pb.Population(size=100_001)}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        ({"calls": [pb.SimulatedCall()] * 10_001}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        ({"calls": [pb.SimulatedCall(context_json="7")]}, grpc.StatusCode.INVALID_ARGUMENT, "JSON_NOT_OBJECT"),
        ({"key": "tk_nonsense"}, grpc.StatusCode.UNAUTHENTICATED, "KEY_MALFORMED"),
    ],
)
async def test_bad_input_gets_a_defined_status(
    room: Any, fields: dict[str, Any], code: grpc.StatusCode, reason: str
) -> None:
    failure = await room.simulation_failure(**fields)
    assert (failure.code(), reason_of(failure)) == (code, reason)
    assert room.served() == []


async def test_a_wrong_context_is_named_by_its_path(room: Any) -> None:
    calls = [pb.SimulatedCall(context_json="{}")] * 3 + [pb.SimulatedCall(context_json="{")]
    assert "calls[3].context_json" in ((await room.simulation_failure(calls=calls)).details() or "")
    population = pb.Population(size=1, contexts_json=["", "[]"])
    failure = await room.simulation_failure(population=population)
    assert "population.contexts_json[1]" in (failure.details() or "")


async def test_simulating_needs_the_scope_to_read_the_registry(room: Any) -> None:
    poor, entry = key_entry("deployments:run")
    await room.put(entry)
    assert reason_of(await room.simulation_failure(key=poor)) == "SCOPE_MISSING"


def crowded() -> catalog_pb2.CatalogRevision:
    """What takes some 20 s to simulate as much as may be."""
    variants = [variant(f"v{number}", weight=1) for number in range(200)]
    return catalog_pb2.CatalogRevision(uid="rev_crowded", number="0.1", salt="s", variants=variants)


async def test_others_are_answered_while_somebody_simulates_and_whoever_leaves_makes_room(room: Any) -> None:
    room.revisions.tell(as_answered(crowded()), "dep_assistant")
    running = [room.simulating(revision="0.1", population=pb.Population(size=100_000)) for _ in range(2)]
    async with asyncio.timeout(10):
        await room.revisions.until_asked(2)

        busy = await room.simulation_failure(population=pb.Population(size=1))
        assert (busy.code(), reason_of(busy)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "SIMULATOR_BUSY")
        assert retry_seconds(busy) == 1.0
        single = await room.simulate(calls=[pb.SimulatedCall(routing_key="ada")])
        assert (await room.route(routing_key="ada")).decision == single.trace.decision
        assert not any(call.done() for call in running)

        for call in running:
            call.cancel()
        await room.until_free()


async def test_a_deadline_ends_a_simulation(room: Any) -> None:
    room.revisions.tell(as_answered(crowded()), "dep_assistant")
    everything = {"revision": "0.1", "population": pb.Population(size=100_000)}
    failures = await asyncio.gather(*(room.simulation_failure(**everything, timeout=0.3) for _ in range(2)))
    assert {failure.code() for failure in failures} == {grpc.StatusCode.DEADLINE_EXCEEDED}
    async with asyncio.timeout(10):
        await room.until_free()


async def test_ten_thousand_calls_are_few_enough(room: Any) -> None:
    calls = [
        pb.SimulatedCall(context_json=json.dumps({"n": number}), user=f"u{number}", request_id=BEFORE)
        for number in range(10_000)
    ]
    response = await room.simulate(calls=calls)
    assert response.decided_count == sum(each.count for each in response.shares) == 10_000
