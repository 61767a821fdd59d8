"""Contracts to domain and back. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from catalog.conditions import Seen, State
from catalog.convert import DEPLOYMENT_KINDS_TO_PROTO, fill_decision, fill_undecided, routing_from_proto
from catalog.explain import Candidate, RuleOutcome, RuleTrace
from catalog.plan import Decision
from catalog.routing import WEIGHTS_ALONE, Routing
from catalog.view import Completion, Recommendation, Revision, Serving, UnknownUsers, Variant
from kit import json
from kit.errors import AppError
from services.router.domain import (
    DEFAULT_PREFIX,
    Comparison,
    Experiment,
    Population,
    Simulated,
    Simulation,
    Trace,
    Unit,
)
from turnout.events.v1 import request_pb2
from turnout.executor.v1 import execution_pb2
from turnout.registry.v1 import deployment_pb2, revision_pb2
from turnout.router.v1 import routing_service_pb2 as pb

_OUTCOMES: Final = {
    RuleOutcome.TRUE: pb.RULE_OUTCOME_TRUE,
    RuleOutcome.FALSE: pb.RULE_OUTCOME_FALSE,
    RuleOutcome.MISSING: pb.RULE_OUTCOME_MISSING,
    RuleOutcome.ERROR: pb.RULE_OUTCOME_ERROR,
    RuleOutcome.INACTIVE: pb.RULE_OUTCOME_INACTIVE,
    RuleOutcome.NOT_REACHED: pb.RULE_OUTCOME_NOT_REACHED,
}


def unit_from_proto(request: pb.RouteRequest) -> Unit:
    """What a call says."""
    return Unit(request.context_json, request.routing_key, request.identity, request.thread, request.user)


def decision_to_response(decision: Decision) -> pb.RouteResponse:
    """A decision, and what its variant runs."""
    response = pb.RouteResponse()
    _fill_response(response, decision)
    return response


def results_to_proto(results: Iterable[Decision | AppError]) -> pb.BatchRouteResponse:
    """Decisions and failures, in their order."""
    response = pb.BatchRouteResponse()
    for found in results:
        result = response.results.add()
        if isinstance(found, AppError):
            result.failure.reason, result.failure.message = found.reason, found.message
        else:
            _fill_response(result.response, found)
    return response


def _fill_response(response: pb.RouteResponse, decision: Decision) -> None:
    target, variant = decision.target, decision.variant
    response.variant = f"projects/{target.project.slug}/deployments/{target.deployment.slug}/variants/{variant.slug}"
    response.variant_display_name = variant.display_name
    fill_decision(response.decision, decision)
    if isinstance(variant.serving, Completion):
        response.version = variant.serving.version
    else:
        response.model = variant.serving.model


def experiment_from_proto(
    request: pb.SimulateRequest, *, tenant: str, key_id: str, trace_id: str, deadline: float
) -> Experiment:
    """What is to be tried, and who asks."""
    population, calls = None, request.calls
    if request.HasField("population"):
        given = request.population
        population = Population(given.size, given.prefix or DEFAULT_PREFIX, tuple(given.contexts_json))
    says_nothing = not calls and population is None
    return Experiment(
        deployment=request.deployment,
        revision=request.revision,
        compared_revision=request.compared_revision,
        unit_count=1 if says_nothing else len(calls),
        units=(Unit(),)
        if says_nothing
        else (
            Unit(each.context_json, each.routing_key, each.identity, each.thread, each.user, each.request_id)
            for each in calls
        ),
        population=population,
        tenant=tenant,
        key_id=key_id,
        trace_id=trace_id,
        deadline=deadline,
    )


def revision_from_proto(revision: revision_pb2.Revision) -> Revision:
    """A revision as the registry answers it, as the catalog would hold it as far as decisions depend on it: of what a
    variant runs it has the name alone."""
    variants = tuple(
        Variant(
            uid=variant.uid,
            number=variant.number,
            slug=variant.slug,
            display_name=variant.display_name,
            active=variant.active,
            weight=variant.weight,
            serving=_serving(variant),
        )
        for variant in revision.variants
    )
    routing = WEIGHTS_ALONE
    if revision.HasField("routing"):
        routing = _by_uid(routing_from_proto(revision.routing), {each.slug: each.uid for each in variants})
    return Revision(revision.uid, revision.number, revision.salt, variants, routing)


def _serving(variant: deployment_pb2.Variant) -> Serving:
    if variant.WhichOneof("serving") == "recommendation":
        return Recommendation(variant.recommendation.model, UnknownUsers.POPULAR)
    return Completion(variant.completion.version, 0, None)


def _by_uid(routing: Routing, uids: dict[str, str]) -> Routing:
    """With the variants' uids, as the catalog has them, where people read slugs."""
    rules = tuple(
        replace(
            rule, shares=tuple(replace(share, variant=uids.get(share.variant, share.variant)) for share in rule.shares)
        )
        for rule in routing.rules
    )
    return replace(routing, rules=rules, baseline=uids.get(routing.baseline, routing.baseline))


def simulation_to_proto(simulation: Simulation) -> pb.SimulateResponse:
    """What would be."""
    total = simulation.decided_count
    response = pb.SimulateResponse(
        revision=simulation.revision.number,
        revision_uid=simulation.revision.uid,
        decided_count=total,
        matched_count=simulation.matched_count,
        outside_count=simulation.outside_count,
        refused_count=simulation.refused_count,
    )
    if simulation.trace is not None:
        _fill_trace(response.trace, simulation.trace)
    for share in simulation.shares:
        response.shares.add(
            variant=share.variant.uid,
            variant_slug=share.variant.slug,
            count=share.count,
            share=share.count / total,
            expected_share=share.expected_count / total,
        )
    for rule, count in simulation.rules:
        response.rules.add(rule=rule.uid, display_name=rule.display_name, count=count)
    if simulation.comparison is not None:
        _fill_comparison(response.comparison, simulation.comparison, total)
    return response


def _fill_comparison(proto: pb.Comparison, comparison: Comparison, total: int) -> None:
    proto.revision = comparison.revision.number
    proto.moved_count = comparison.moved_count
    proto.moved_share = comparison.moved_count / total
    for movement in comparison.movements:
        added = proto.movements.add(count=movement.count, share=movement.count / total)
        if movement.before is not None:
            added.from_variant, added.from_slug = movement.before.uid, movement.before.slug
        if movement.after is not None:
            added.to_variant, added.to_slug = movement.after.uid, movement.after.slug


def _fill_trace(proto: pb.Trace, trace: Trace) -> None:
    if trace.decision is not None:
        fill_decision(proto.decision, trace.decision)
    proto.refusal, proto.key, proto.request_id = trace.message, trace.key, trace.request_id
    proto.coverage, proto.coverage_draw = trace.target.revision.routing.coverage, trace.coverage_draw
    proto.rules.extend(map(_rule_to_proto, trace.rules))
    proto.candidates.extend(map(_candidate_to_proto, trace.candidates))


def _rule_to_proto(trace: RuleTrace) -> pb.RuleTrace:
    return pb.RuleTrace(
        rule=trace.rule.uid,
        display_name=trace.rule.display_name,
        condition=trace.rule.condition,
        outcome=_OUTCOMES[trace.outcome],
        message=trace.message,
        values=map(_seen_to_proto, trace.seen),
    )


def _seen_to_proto(seen: Seen) -> pb.SeenValue:
    value = json.dump(seen.value) if seen.state is State.BOUND else ""
    return pb.SeenValue(field=seen.field, value_json=value, unfit=seen.state is State.UNFIT)


def _candidate_to_proto(candidate: Candidate) -> pb.Candidate:
    return pb.Candidate(
        variant=candidate.variant.uid,
        variant_slug=candidate.variant.slug,
        weight=candidate.weight,
        active=candidate.variant.active,
        draw=candidate.draw,
        score=candidate.score,
        propensity=candidate.propensity,
    )


def served_to_proto(simulated: Simulated, *, service_instance: str) -> request_pb2.RequestServed:
    """What the log keeps of a call that was tried: nobody was served by it, so it has no served variant."""
    trace, target, unit = simulated.trace, simulated.trace.target, simulated.trace.unit
    event = request_pb2.RequestServed(
        request_id=trace.request_id,
        project=target.project.uid,
        project_slug=target.project.slug,
        deployment_slug=target.deployment.slug,
        latency_us=simulated.latency_us,
        status=request_pb2.REQUEST_STATUS_ERROR if trace.reason else request_pb2.REQUEST_STATUS_OK,
        reason=trace.reason,
        source=execution_pb2.SOURCE_SIMULATOR,
        api_key=simulated.key_id,
        identity=unit.identity,
        thread=unit.thread,
        # A record of its own needs a name of its own; without the other's, it could not be repeated in its turn.
        metadata_json=json.dump({"simulated_request_id": unit.request_id}) if unit.request_id else "",
        trace_id=simulated.trace_id,
        service_instance=service_instance,
        kind=DEPLOYMENT_KINDS_TO_PROTO[target.deployment.kind],
        user=unit.user,
        routing_key=unit.routing_key,
    )
    event.start_time.seconds, event.start_time.nanos = divmod(simulated.start_unix_ns, 1_000_000_000)
    if trace.decision is not None:
        fill_decision(event.decision, trace.decision)
    else:
        fill_undecided(event.decision, target, trace.refusal)
    if target.revision.routing.rules:
        event.context_json = unit.context_json
    return event
