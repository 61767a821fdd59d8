"""One decision, whoever is asked: the planner in the process, `Route`, `BatchRoute` and `Simulate`."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog import plan, targets
from catalog.conditions import read_context
from catalog.convert import fill_decision, fill_undecided
from catalog.plan import Decision, NothingActive, Refusal
from catalog.view import View
from kit.errors import AppError
from kit.status import reason_of
from tests.catalog import plans
from tests.catalog.choices import decide
from turnout.events.v1 import request_pb2
from turnout.registry.v1 import catalog_pb2, deployment_pb2
from turnout.router.v1 import decision_pb2
from turnout.router.v1 import routing_service_pb2 as pb

TARGETS = st.sampled_from(
    [
        "agent",
        "agent",
        "agent:beta",
        "agent/production#1",
        "dep_agent",
        "dep_agent:live",
        "projects/shop/deployments/agent:beta",
        "missing",
    ]
)
CALLS = st.fixed_dictionaries(
    {
        "context_json": st.one_of(st.just(""), plans.CONTEXTS),
        "routing_key": plans.NAMES,
        "identity": plans.NAMES,
        "thread": plans.NAMES,
        "user": plans.NAMES,
    }
)
REPEATED = "req_" + "0" * 26
SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def decided_by(view: View, target: str, call: dict[str, str], request_id: str = "") -> Any:
    context_json, keys = call["context_json"], {name: key for name, key in call.items() if name != "context_json"}
    try:
        resolved = targets.resolve(view, target, tenant="prj_shop")
        return decide(resolved, *plan.choose_key(request_id=request_id, **keys), read_context(context_json))
    except AppError as error:
        return error


def told(decision: Decision) -> decision_pb2.Decision:
    message = decision_pb2.Decision()
    fill_decision(message, decision)
    return message


def told_refusal(refusal: Refusal) -> decision_pb2.Decision:
    message = decision_pb2.Decision()
    fill_undecided(message, refusal.target, refusal)
    return message


def assert_explained(trace: pb.Trace, response: pb.SimulateResponse) -> None:
    """What a trace shows leads to its decision."""
    true = [each.rule for each in trace.rules if each.outcome == pb.RULE_OUTCOME_TRUE]
    scored = [each for each in trace.candidates if each.score]
    if trace.HasField("decision"):
        decision = trace.decision
        assert ([decision.rule] if decision.rule else []) == true
        assert decision.outside_coverage == (trace.coverage_draw >= trace.coverage)
        if not decision.outside_coverage:
            winner = max(scored, key=lambda each: each.score)
            assert (winner.variant, winner.propensity) == (decision.variant, decision.propensity)
        assert {each.variant: each.count for each in response.shares if each.count} == {decision.variant: 1}
        assert [each.expected_share for each in response.shares if each.count] == [decision.propensity]
    else:
        assert trace.refusal
        assert trace.coverage_draw >= trace.coverage or not scored
        assert response.refused_count == 1
    assert [each.rule for each in response.rules if each.count] == true


@SETTINGS
@given(entry=plans.deployments(), target=TARGETS, call=CALLS, has_key=st.booleans())
async def test_planner_route_and_simulate_agree_in_every_field(
    room: Any, entry: catalog_pb2.CatalogEntry, target: str, call: dict[str, str], has_key: bool
) -> None:
    if has_key or not any(call[name] for name in ("routing_key", "identity", "thread", "user")):
        call["routing_key"] = call["routing_key"] or "ada"
    await room.put(entry)
    decided = decided_by(room.process.catalog.usable_view(), target, call)
    (batched,) = await room.batch_route(pb.RouteRequest(deployment=target, **call))
    if isinstance(decided, AppError):
        assert reason_of(await room.failure(target, **call)) == decided.reason
        assert (batched.failure.reason, batched.failure.message) == (decided.reason, decided.message)
        if decided.reason != "NO_ACTIVE_VARIANT":
            assert reason_of(await room.simulation_failure(target, calls=[call])) == decided.reason
            return
    simulated = await room.simulate(target, calls=[call])
    assert_explained(simulated.trace, simulated)
    recorded = room.served()[-1]
    assert recorded.request_id == simulated.trace.request_id
    if isinstance(decided, AppError):
        assert isinstance(decided, NothingActive)
        assert simulated.trace.refusal == decided.message
        assert (recorded.status, recorded.reason) == (request_pb2.REQUEST_STATUS_ERROR, decided.reason)
        assert recorded.decision == told_refusal(decided.refusal)
        return

    routed = await room.route(target, **call)
    assert routed == batched.response
    assert routed.decision == simulated.trace.decision == recorded.decision == told(decided)
    assert recorded.status == request_pb2.REQUEST_STATUS_OK
    assert (simulated.revision, simulated.revision_uid) == (decided.target.revision.number, decided.target.revision.uid)
    assert routed.variant == f"projects/shop/deployments/agent/variants/{decided.variant.slug}"
    assert routed.variant_display_name == decided.variant.display_name
    assert getattr(decided.variant.serving, routed.WhichOneof("serving") or "") == (routed.version or routed.model)


@SETTINGS
@given(past=plans.revisions("rev_past", "0.9"), call=CALLS)
async def test_a_revision_of_the_registry_decides_as_the_catalog_had_it(
    room: Any, past: catalog_pb2.CatalogRevision, call: dict[str, str]
) -> None:
    entry = catalog_pb2.CatalogEntry(
        key="deployment/dep_agent",
        deployment=catalog_pb2.CatalogDeployment(
            uid="dep_agent",
            project="prj_shop",
            slug="agent",
            kind=deployment_pb2.DEPLOYMENT_KIND_COMPLETION,
            aliases=[catalog_pb2.CatalogAlias(alias="live", revision="rev_past")],
            revisions=[past],
        ),
    )
    await room.put(entry)
    while_live = await room.simulate("agent", calls=[call | {"request_id": REPEATED}])
    entry.deployment.revisions[0].uid, entry.deployment.revisions[0].number = "rev_now", "1.0"
    entry.deployment.aliases[0].revision = "rev_now"
    del entry.deployment.revisions[0].variants[:]
    await room.put(entry)
    room.revisions.tell(plans.as_answered(past), "dep_agent")

    for segment in ("0.9", "rev_past"):
        later = await room.simulate("agent", revision=segment, calls=[call | {"request_id": REPEATED}])
        later.trace.request_id = while_live.trace.request_id
        # No alias points there any more.
        assert later.trace.decision.alias == ""
        later.trace.decision.alias = while_live.trace.decision.alias
        if not while_live.trace.HasField("decision"):
            later.trace.ClearField("decision")
        assert later == while_live


@SETTINGS
@given(entry=plans.deployments(), call=CALLS)
async def test_a_logged_decision_is_repeated_exactly(
    room: Any, entry: catalog_pb2.CatalogEntry, call: dict[str, str]
) -> None:
    entry.deployment.aliases.add(alias="canary", revision=entry.deployment.revisions[0].uid)
    await room.put(entry)
    first = await room.simulate("agent:canary", calls=[call])
    logged = room.served()[-1]
    # Since then it changed.
    room.revisions.tell(plans.as_answered(entry.deployment.revisions[0]), "dep_agent")
    entry.deployment.revisions[0].uid, entry.deployment.revisions[0].salt = "rev_later", "later"
    for alias in entry.deployment.aliases:
        alias.revision = "rev_later"
    await room.put(entry)

    again = await room.simulate(
        f"dep_agent:{logged.decision.alias}",
        revision=first.revision_uid,
        calls=[
            pb.SimulatedCall(
                context_json=logged.context_json,
                routing_key=logged.routing_key,
                identity=logged.identity,
                thread=logged.thread,
                user=logged.user,
                request_id=logged.request_id,
            )
        ],
    )

    assert logged.decision.alias == "canary"
    repeated = room.served()[-1].decision
    assert repeated.alias == ""
    repeated.alias = "canary"
    assert repeated == logged.decision
    assert again.trace.HasField("decision") == bool(logged.decision.variant)
    assert again.trace.key == first.trace.key
