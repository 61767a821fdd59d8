"""`turnout logs`: requests, one by one."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import names, output, pages, proposals
from cli.client import Client, failures_for_people
from turnout.analytics.v1 import log_service_pb2 as pb
from turnout.analytics.v1.log_service_pb2_grpc import LogServiceStub
from turnout.events.v1 import request_pb2


def logs(
    context: typer.Context,
    deployment: Annotated[
        str,
        typer.Argument(
            help="A deployment, or guide/variant-1. Default: all.",
            autocompletion=proposals.deployments,
            show_default=False,
        ),
    ] = "",
    variant: Annotated[str, typer.Option(help="Only this variant's.", autocompletion=proposals.variants)] = "",
    errors: Annotated[bool, typer.Option("--errors", help="Only those that ended in an error.")] = False,
    limit: pages.Limit = 20,
) -> None:
    """Show the newest requests, one a line.

    Examples: turnout logs; turnout logs guide --errors; turnout logs guide/variant-1 --limit 100
    """
    client: Client = context.obj
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
        ["time", "request", "deployment", "variant", "status", "latency", "tokens", "attempts"],
        [_cells(log.request) for log in found],
        numbers=["latency", "tokens", "attempts"],
    )


def _cells(request: request_pb2.RequestServed) -> tuple[object, ...]:
    status = request_pb2.RequestStatus.Name(request.status).removeprefix("REQUEST_STATUS_")
    return (
        request.start_time.ToJsonString(),
        request.request_id,
        request.deployment_slug,
        request.decision.variant_slug or "–",
        f"{status} {request.reason}".strip(),
        output.milliseconds(request.latency_us),
        request.usage.input_tokens + request.usage.output_tokens,
        len(request.attempts),
    )
