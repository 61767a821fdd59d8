"""`turnout simulate`: how calls would be decided, by any revision."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Final

import typer

from cli import contexts, logs, names, output, proposals, ranges, shares, traces
from cli.client import Client, failures_for_people
from kit.errors import Precondition
from turnout.events.v1 import request_pb2
from turnout.executor.v1 import execution_pb2
from turnout.router.v1 import decision_pb2
from turnout.router.v1 import routing_service_pb2 as pb
from turnout.router.v1.routing_service_pb2_grpc import RoutingServiceStub

_MAX_CALLS: Final = 10_000
_MAX_UNITS: Final = 100_000
_MAX_CONTEXTS: Final = 100
"""Of a population."""
_PANEL: Final = "What is tried"
_MANY: Final = "Many calls"


def simulate(
    context: typer.Context,
    deployment: Annotated[
        str,
        typer.Argument(
            help="Its name, such as guide, or guide:staging with an alias.", autocompletion=proposals.targets
        ),
    ],
    revision: Annotated[
        str,
        typer.Option(
            help="A revision's number or uid, a draft's too, or an alias. Default: that of the alias.",
            autocompletion=proposals.revisions,
            rich_help_panel=_PANEL,
        ),
    ] = "",
    compare: Annotated[
        str,
        typer.Option(
            help="A revision's number or uid, or an alias: who would get another variant than by that.",
            autocompletion=proposals.revisions,
            rich_help_panel=_PANEL,
        ),
    ] = "",
    replay: Annotated[
        str,
        typer.Option(
            help="A request's id, req_…, from `turnout logs`: decide it again, with its revision, context and keys.",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = "",
    context_given: contexts.Contexts = None,
    key: contexts.Key = "",
    identity: contexts.Identity = "",
    thread: contexts.Thread = "",
    user: contexts.User = "",
    contexts_file: Annotated[
        str,
        typer.Option(
            "--contexts",
            help="A file with one JSON object a line, or - for standard input: a call for each, or what the population "
            "has in turn.",
            show_default=False,
            rich_help_panel=_MANY,
        ),
    ] = "",
    population: Annotated[
        int | None,
        typer.Option(
            min=1, max=_MAX_UNITS, help="So many made-up units, each with a key of its own.", rich_help_panel=_MANY
        ),
    ] = None,
    prefix: Annotated[
        str, typer.Option(help="Begins the units' keys.", show_default="unit-", rich_help_panel=_MANY)
    ] = "",
    timeout_seconds: ranges.TimeoutSeconds = 120.0,
) -> None:
    """Try how calls are decided, by any revision, before anybody is served by it.

    One call shows the whole way: each rule with what it saw, the draw for coverage, and the variants' scores. Many show
    the shares that come of it. With --compare it says who would get another variant.

    Examples: turnout simulate guide --context country=ES --key user-42;
    turnout simulate guide --revision 2.0 --compare live --population 10000 --context country=ES;
    turnout simulate guide --revision 2.0 --contexts yesterday.jsonl;
    turnout simulate guide --replay req_0123456789abcdefghjkmnpqrs
    """
    client: Client = context.obj
    given = _Given(
        call=pb.SimulatedCall(
            context_json=contexts.context_json(context_given or []),
            routing_key=key,
            identity=identity,
            thread=thread,
            user=user,
        ),
        file=contexts_file,
        population=population,
        prefix=prefix,
    )
    request = pb.SimulateRequest(
        deployment=names.target(client, deployment), revision=revision, compared_revision=compare
    )
    with failures_for_people():
        served: request_pb2.RequestServed | None = None
        if replay:
            given.check_alone()
            served = _logged(client, deployment, replay)
            _repeat(request, served)
        else:
            given.fill(request)
        answer = RoutingServiceStub(client.channel("router")).Simulate(request, timeout=timeout_seconds)
    if client.as_json:
        output.as_json(answer, **({} if served is None else {"replayed": _replayed(served, answer)}))
        return
    if answer.HasField("trace"):
        output.tree(traces.drawn(answer.trace, title=f"{deployment}, revision {answer.revision}"))
    else:
        shares.tell(answer)
    if answer.HasField("comparison"):
        shares.tell_comparison(answer)
    if served is not None:
        _tell_replayed(served, answer, other=revision)
    elif not given.has_context and answer.rules:
        output.aside("— rules saw an empty context: --context country=ES, or --contexts FILE, gives them one")
    if answer.trace.request_id:
        output.aside(f"— served nobody; `turnout logs` has it as {answer.trace.request_id}")


@dataclass(frozen=True, slots=True)
class _Given:
    """The calls that options say."""

    call: pb.SimulatedCall
    file: str
    population: int | None
    prefix: str

    @property
    def has_context(self) -> bool:
        return bool(self.call.context_json or self.file)

    def check_alone(self) -> None:
        """:raises typer.BadParameter: if anything was given beside a request that is replayed"""
        if self.call.ListFields() or self.file or self.population or self.prefix:
            raise typer.BadParameter(
                "the request says its context and keys itself: beside it only --revision and --compare are given",
                param_hint="--replay",
            )

    def fill(self, request: pb.SimulateRequest) -> None:
        """:raises typer.BadParameter: for what does not go together"""
        if self.file and self.call.context_json:
            raise typer.BadParameter("give --context or --contexts, not both", param_hint="--contexts")
        if self.population is None:
            if self.prefix:
                raise typer.BadParameter("goes with --population", param_hint="--prefix")
            for each in contexts.many(self.file, most=_MAX_CALLS) if self.file else [self.call.context_json]:
                request.calls.add().MergeFrom(self.call)
                request.calls[-1].context_json = each
            return
        if any(field.name != "context_json" for field, _ in self.call.ListFields()):
            raise typer.BadParameter(
                "the population has keys of its own: leave --key, --identity, --thread and --user out",
                param_hint="--population",
            )
        request.population.size = self.population
        request.population.prefix = self.prefix
        if self.file:
            request.population.contexts_json.extend(contexts.many(self.file, most=_MAX_CONTEXTS))
        elif self.call.context_json:
            request.population.contexts_json.append(self.call.context_json)


def _logged(client: Client, deployment: str, request_id: str) -> request_pb2.RequestServed:
    """The request as it was decided.

    :raises Precondition: `NOT_DECIDED`
    """
    named = names.deployment(client, deployment)
    served = logs.one(client, named.parent, request_id, deployment=named.slug)
    if not served.decision.evaluation:
        why = f" ({served.reason})" if served.reason else ""
        raise Precondition(
            f"{request_id} has nothing to replay: it ended before it was decided{why}", reason="NOT_DECIDED"
        )
    return served


def _repeat(request: pb.SimulateRequest, served: request_pb2.RequestServed) -> None:
    """Decide as then; by another revision, where one was asked for."""
    request.revision = request.revision or served.decision.revision
    request.calls.add(
        context_json=served.context_json,
        routing_key=served.routing_key,
        identity=served.identity,
        thread=served.thread,
        user=served.user,
        request_id=_repeated_id(served),
    )


def _repeated_id(served: request_pb2.RequestServed) -> str:
    """What was hashed of a request that gave no key: its id, or that of the one which it repeated."""
    if served.source == execution_pb2.SOURCE_SIMULATOR and served.metadata_json:
        return str(json.loads(served.metadata_json).get("simulated_request_id", served.request_id))
    return served.request_id


def _outcome(trace: pb.Trace) -> decision_pb2.Decision:
    """What a call comes to; of one that would be refused, as the log would have it."""
    if trace.HasField("decision"):
        return trace.decision
    matched = next((rule for rule in trace.rules if rule.outcome == pb.RULE_OUTCOME_TRUE), None)
    refused = decision_pb2.Decision(
        evaluation=decision_pb2.EVALUATION_DEFAULT_MATCHED,
        outside_coverage=trace.coverage_draw >= trace.coverage,
    )
    if matched is not None:
        refused.evaluation = decision_pb2.EVALUATION_MATCHED
        refused.rule, refused.rule_name = matched.rule, matched.display_name
    return refused


def _decides(decision: decision_pb2.Decision) -> tuple[object, ...]:
    """What a replay must come to again."""
    return (
        decision.variant,
        decision.evaluation,
        decision.rule,
        decision.propensity,
        # A trace does not say it of a call that would be refused.
        decision.key_kind if decision.variant else None,
        decision.outside_coverage,
    )


def _replayed(served: request_pb2.RequestServed, answer: pb.SimulateResponse) -> dict[str, object]:
    return {
        "request_id": served.request_id,
        "revision": served.decision.revision_number,
        "variant": served.decision.variant,
        "variant_slug": served.decision.variant_slug,
        "rule": served.decision.rule,
        "refused": not served.decision.variant,
        "same": _decides(served.decision) == _decides(_outcome(answer.trace)),
    }


def _tell_replayed(served: request_pb2.RequestServed, answer: pb.SimulateResponse, *, other: str) -> None:
    then, now = served.decision, _outcome(answer.trace)
    was = f"got {then.variant_slug}" if then.variant else "was refused"
    because = "" if then.variant else f", as {_why_refused(then)}"
    by = f" by revision {answer.revision}" if other else ""
    at = f"by revision {then.revision_number} at {served.start_time.ToJsonString()}"
    output.say(f"{served.request_id} {was} {at}{because}; {_compared(then, now, by)}")
    if other and answer.rules and not served.context_json:
        output.aside("— no context is kept of it: it had none, or nothing asked for it then")


def _compared(then: decision_pb2.Decision, now: decision_pb2.Decision, by: str) -> str:
    """What comes out now, beside what came out then.

    :param by: which other revision decides now; empty if it is the same
    """
    if now.variant and now.variant != then.variant:
        return f"now {now.variant_slug} {'does' if then.variant else 'comes out'}{by}"
    if then.variant and not now.variant:
        return f"now it is refused{by}, as {_why_refused(now)}"
    is_same = _decides(then) == _decides(now)
    if now.variant:
        return f"the same variant comes out{'' if by or is_same else ', but for other reasons'}{by}"
    return f"the same refusal comes again{by}" if is_same else f"it is refused again{by}, but as {_why_refused(now)}"


def _why_refused(decision: decision_pb2.Decision) -> str:
    """What has nothing active, of a call that was assigned no variant."""
    if decision.outside_coverage:
        return "it is outside coverage, and the baseline is not active"
    if decision.evaluation == decision_pb2.EVALUATION_MATCHED:
        return f"rule {decision.rule_name or decision.rule} has nothing active to send it to"
    return "no rule matched, and no variant with a weight is active"
