"""`turnout simulate`: how calls would be decided, by any revision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final

import typer

from cli import contexts, decisions, logs, names, output, proposals, ranges, traces
from cli.client import Client, failures_for_people
from kit.errors import Precondition
from turnout.events.v1 import request_pb2
from turnout.router.v1 import decision_pb2
from turnout.router.v1 import routing_service_pb2 as pb
from turnout.router.v1.routing_service_pb2_grpc import RoutingServiceStub

_MAX_CALLS: Final = 10_000
_MAX_UNITS: Final = 100_000
_MAX_CONTEXTS: Final = 100
"""Of a population."""
_BAR: Final = 20
"""Characters of all calls."""
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
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
            help="A revision's number or uid, a draft's too. Default: that of the alias.",
            autocompletion=proposals.numbers,
            rich_help_panel=_PANEL,
        ),
    ] = "",
    compare: Annotated[
        str,
        typer.Option(
            help="A revision's number, or an alias: who would get another variant than by that.",
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
    request = pb.SimulateRequest(deployment=deployment, revision=revision, compared_revision=compare)
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
        _tell_shares(answer)
    if answer.HasField("comparison"):
        _tell_comparison(answer)
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
    if not served.HasField("decision"):
        why = f" ({served.reason})" if served.reason else ""
        raise Precondition(
            f"{request_id} has nothing to replay: it ended before a variant was chosen{why}", reason="NOT_DECIDED"
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
        request_id=served.request_id,
    )


def _decides(decision: decision_pb2.Decision) -> tuple[object, ...]:
    """What a replay must come to again."""
    return (
        decision.variant,
        decision.evaluation,
        decision.rule,
        decision.propensity,
        decision.key_kind,
        decision.outside_coverage,
    )


def _replayed(served: request_pb2.RequestServed, answer: pb.SimulateResponse) -> dict[str, object]:
    return {
        "request_id": served.request_id,
        "revision": served.decision.revision_number,
        "variant": served.decision.variant,
        "variant_slug": served.decision.variant_slug,
        "same": _decides(served.decision) == _decides(answer.trace.decision),
    }


def _tell_replayed(served: request_pb2.RequestServed, answer: pb.SimulateResponse, *, other: str) -> None:
    then, now = served.decision, answer.trace.decision
    at = served.start_time.ToJsonString()
    comes = "the same variant comes out" if then.variant == now.variant else f"now {now.variant_slug or 'nothing'} does"
    if then.variant == now.variant and not other and _decides(then) != _decides(now):
        comes += ", but for other reasons"
    by = f" by revision {answer.revision}" if other else ""
    output.say(f"{served.request_id} got {then.variant_slug} by revision {then.revision_number} at {at}; {comes}{by}")
    if other and answer.rules and not served.context_json:
        output.aside("— no context is kept of it: it had none, or nothing asked for it then")


def _tell_shares(answer: pb.SimulateResponse) -> None:
    count = answer.decided_count
    parts = [f"{answer.matched_count:,} by a rule"] if answer.rules else []
    parts += [f"{answer.outside_count:,} outside coverage"] if answer.outside_count else []
    parts += [f"{answer.refused_count:,} refused"] if answer.refused_count else []
    told = f": {', '.join(parts)}" if parts else ""
    output.say(f"{count:,} decided by revision {answer.revision}{told}")
    output.say("")
    output.table(
        ["variant", "count", "share", "", "expected", ""],
        [
            (
                each.variant_slug,
                f"{each.count:,}",
                decisions.share(each.share),
                _bar(each.share),
                decisions.share(each.expected_share),
                _bar(each.expected_share),
            )
            for each in answer.shares
        ],
        numbers=["count", "share", "expected"],
    )
    if answer.rules:
        output.say("")
        none = ("(none: by weights)", count - answer.matched_count)
        rows: Iterable[tuple[str, int]] = [
            *((each.display_name or each.rule, each.count) for each in answer.rules),
            none,
        ]
        output.table(
            ["rule", "count", "share"],
            [(name, f"{decided:,}", decisions.share(decided / count if count else 0.0)) for name, decided in rows],
            numbers=["count", "share"],
        )


def _tell_comparison(answer: pb.SimulateResponse) -> None:
    comparison, count = answer.comparison, answer.decided_count
    than = f"than by revision {comparison.revision}"
    output.say("")
    if answer.HasField("trace"):
        before = next((each.from_slug or "refused" for each in comparison.movements), "refused")
        same = not comparison.moved_count
        output.say(f"by revision {comparison.revision} it would be {before}{', too' if same else ''}")
        return
    if not comparison.moved_count:
        output.say(f"none of {count:,} would get another variant {than}")
    else:
        moved = f"{comparison.moved_count:,} of {count:,} ({decisions.share(comparison.moved_share)})"
        output.say(f"{moved} would get another variant {than}")
    output.say("")
    output.table(
        ["from", "to", "count", "share"],
        [
            (
                each.from_slug or "(refused)",
                "(stays)" if each.from_variant == each.to_variant else each.to_slug or "(refused)",
                f"{each.count:,}",
                decisions.share(each.share),
            )
            for each in comparison.movements
        ],
        numbers=["count", "share"],
    )


def _bar(share: float) -> str:
    """A part of 1; what is not nothing shows."""
    eighths = round(min(max(share, 0.0), 1.0) * _BAR * 8)
    if share > 0:
        eighths = max(eighths, 1)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()
