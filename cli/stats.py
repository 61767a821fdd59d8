"""`turnout stats`: what was measured."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from cli import names, output, proposals, ranges
from cli.client import Client, failures_for_people
from turnout.analytics.v1 import metrics_service_pb2 as pb
from turnout.analytics.v1.metrics_service_pb2_grpc import MetricsServiceStub

_NUMBERS = ["requests", "errors", "cancelled", "lost", "tokens in", "tokens out", "cost", "p50", "p95", "p99"]
_RARE = ("lost", "cancelled")
"""What a terminal without room for all does without, where there is none of it."""


def stats(
    context: typer.Context,
    deployment: Annotated[
        str,
        typer.Argument(help="A deployment. Default: all.", autocompletion=proposals.deployments, show_default=False),
    ] = "",
    hours: ranges.Hours = 720,
) -> None:
    """Show requests, how they ended, tokens, cost and latency by deployment and variant.

    Examples: turnout stats; turnout stats guide --hours 24
    """
    client: Client = context.obj
    start = Timestamp()
    start.FromDatetime(datetime.now(UTC) - timedelta(hours=hours))
    with failures_for_people():
        named = names.deployment(client, deployment) if deployment else None
        if named:
            named.whole()
        answer = MetricsServiceStub(client.channel("analytics")).QueryMetrics(
            pb.QueryMetricsRequest(
                parent=named.parent if named else client.parent,
                deployment=named.slug if named else "",
                start_time=start,
            )
        )
    if client.as_json:
        output.as_json(answer)
        return
    tell(answer)


def tell(answer: pb.QueryMetricsResponse) -> None:
    """A line for each deployment and variant, and one for all."""
    rows = [(row.deployment_slug or "(none)", row.variant_slug or "(none)", *_cells(row)) for row in answer.rows]
    rows.append(("total", "", *_cells(answer.total)))
    columns = ["deployment", "variant", *_NUMBERS]
    places = {name: place for place, name in enumerate(columns)}
    output.table(
        columns,
        rows,
        numbers=_NUMBERS,
        spare=[*(places[name] for name in _RARE if rows[-1][places[name]] == "0"), places["p99"]],
        fits=True,
        unfolded=(0, 1),
    )


def _cells(row: pb.MetricsRow) -> tuple[str, ...]:
    cost = output.micros(row.cost_usd_micros) + (
        f" + {row.unknown_cost_requests} unknown" if row.unknown_cost_requests else ""
    )
    latencies = [
        output.milliseconds(getattr(row, name)) if row.HasField(name) else "–"
        for name in ("latency_p50_us", "latency_p95_us", "latency_p99_us")
    ]
    counts = (row.requests, row.errors, row.cancelled, row.lost, row.input_tokens, row.output_tokens)
    return (*(f"{count:,}" for count in counts), cost, *latencies)
