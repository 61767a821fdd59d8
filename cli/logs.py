"""`turnout logs`: requests, one by one."""

from __future__ import annotations

from typing import Annotated, Final

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from cli import decisions, names, output, pages, proposals, request_facts
from cli.client import Client, failures_for_people
from kit import ids
from kit.errors import Invalid, NotFound
from turnout.analytics.v1 import log_service_pb2 as pb
from turnout.analytics.v1.log_service_pb2_grpc import LogServiceStub
from turnout.events.v1 import request_pb2
from turnout.executor.v1 import execution_pb2

_AROUND_SECONDS: Final = (2, 120)
"""How far from the time in its id a request is looked for: an id is made when the call arrives, by the clock that says
when it did. The second is for clocks that were put right meanwhile."""
_PAGE: Final = 1000
_LAST_SECOND: Final = 253_402_300_000
"""Timestamps end with the year 9999; ids do not."""


def logs(
    context: typer.Context,
    deployment: Annotated[
        str,
        typer.Argument(
            help="A deployment, or guide/variant-1. Default: all. Or a request's id, req_…: all that is known of it.",
            autocompletion=proposals.deployments,
            show_default=False,
        ),
    ] = "",
    variant: Annotated[str, typer.Option(help="Only this variant's.", autocompletion=proposals.variants)] = "",
    errors: Annotated[bool, typer.Option("--errors", help="Only those that ended in an error.")] = False,
    limit: pages.Limit = 20,
) -> None:
    """Show the newest requests, one a line, or all of one.

    Examples: turnout logs; turnout logs guide --errors; turnout logs guide/variant-1 --limit 100;
    turnout logs req_0123456789abcdefghjkmnpqrs
    """
    client: Client = context.obj
    if _is_request(deployment):
        if variant or errors:
            raise typer.BadParameter("one request is shown whatever it is: leave --variant and --errors out")
        with failures_for_people():
            log = _log(client, client.parent, deployment)
        if client.as_json:
            output.as_json(log)
        else:
            request_facts.tell(log.request)
        return
    with failures_for_people():
        named = names.deployment(client, deployment) if deployment else None
        if named and named.alias:
            raise typer.BadParameter(
                f"requests are shown of all aliases together: give {named.slug} alone", param_hint="deployment"
            )
        chosen = named.variant_or(variant) if named else variant
        stub = LogServiceStub(client.channel("analytics"))

        def page(token: str) -> tuple[list[pb.Log], str]:
            answer = stub.ListLogs(
                pb.ListLogsRequest(
                    parent=named.parent if named else client.parent,
                    page_size=min(limit, 1000),
                    page_token=token,
                    deployment=named.slug if named else "",
                    variant=chosen,
                    status=request_pb2.REQUEST_STATUS_ERROR if errors else request_pb2.REQUEST_STATUS_UNSPECIFIED,
                )
            )
            return list(answer.logs), answer.next_page_token

        found = pages.walk(page, limit)
    if client.as_json:
        output.as_json(found)
        return
    if not found:
        output.aside("there are no such requests; a new one is here within seconds")
    output.table(
        ["time", "request", "deployment", "variant", "status", "latency", "tokens", "attempts", "by", "propensity"],
        [_cells(log.request) for log in found],
        numbers=["latency", "tokens", "attempts", "propensity"],
        # Last, so that whoever takes the table apart finds the others where they were.
        spare=(9, 8),
    )


def one(client: Client, parent: str, request_id: str, *, deployment: str = "") -> request_pb2.RequestServed:
    """A request by its id.

    :param parent: `projects/{project}`
    :param deployment: slug or uid; empty for any
    :raises Invalid: `REQUEST_MALFORMED`
    :raises NotFound: `REQUEST_NOT_FOUND`
    """
    return _log(client, parent, request_id, deployment=deployment).request


def _is_request(text: str) -> bool:
    return ids.is_uid(text) and text.startswith("req_")


def _log(client: Client, parent: str, request_id: str, *, deployment: str = "") -> pb.Log:
    if not _is_request(request_id):
        raise Invalid(
            f"a request is named by its id, as req_…, not {request_id!r}; `turnout logs` shows them",
            reason="REQUEST_MALFORMED",
        )
    of = f" of {deployment}" if deployment else ""
    missing = NotFound(
        f"the log has no {request_id}{of}: a new one is there within seconds, and old ones go in time",
        reason="REQUEST_NOT_FOUND",
    )
    made = ids.time_ms_of(request_id) / 1000
    if made > _LAST_SECOND:
        raise missing
    stub = LogServiceStub(client.channel("analytics"))
    for seconds in _AROUND_SECONDS:
        request = pb.ListLogsRequest(
            parent=parent,
            page_size=_PAGE,
            deployment=deployment,
            start_time=_stamp(made - seconds),
            end_time=_stamp(made + seconds),
        )

        def page(token: str, request: pb.ListLogsRequest = request) -> tuple[list[pb.Log], str]:
            request.page_token = token
            answer = stub.ListLogs(request)
            return list(answer.logs), answer.next_page_token

        for log in pages.items(page):
            if log.request.request_id == request_id:
                return log
    raise missing


def _stamp(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMilliseconds(round(seconds * 1000))
    return stamp


def _cells(request: request_pb2.RequestServed) -> tuple[object, ...]:
    decision = request.decision
    simulated = " (simulated)" if request.source == execution_pb2.SOURCE_SIMULATOR else ""
    return (
        request.start_time.ToJsonString(),
        request.request_id,
        request.deployment_slug or "–",
        decision.variant_slug or "–",
        request_facts.status(request) + simulated,
        output.milliseconds(request.latency_us),
        request.usage.input_tokens + request.usage.output_tokens,
        len(request.attempts),
        decisions.by(decision),
        decisions.share(decision.propensity) if decision.variant else "–",
    )
