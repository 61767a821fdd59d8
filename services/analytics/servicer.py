"""RPC in, use case, RPC out."""

from __future__ import annotations

from typing import Any

import grpc

from kit import calls, resource_names
from services.analytics import convert
from services.analytics.application.logs import Listing
from services.analytics.application.metrics import Measuring
from turnout.analytics.v1 import log_service_pb2 as log_pb
from turnout.analytics.v1 import log_service_pb2_grpc as log_rpc
from turnout.analytics.v1 import metrics_service_pb2 as metrics_pb
from turnout.analytics.v1 import metrics_service_pb2_grpc as metrics_rpc

Context = grpc.aio.ServicerContext[Any, Any]


class MetricsServicer(metrics_rpc.MetricsServiceServicer):
    def __init__(self, measuring: Measuring) -> None:
        self._measuring = measuring

    async def QueryMetrics(
        self, request: metrics_pb.QueryMetricsRequest, context: Context
    ) -> metrics_pb.QueryMetricsResponse:
        (project,) = resource_names.parse(request.parent, "projects/*", field="parent")
        metrics = await self._measuring.query_metrics(
            project,
            tenant=calls.principal().tenant,
            deployment=request.deployment,
            start_us=convert.moment_of(request, "start_time"),
            end_us=convert.moment_of(request, "end_time"),
            dimension=convert.dimension_of(request.group_by),
        )
        return convert.metrics_to_proto(metrics)


class LogServicer(log_rpc.LogServiceServicer):
    def __init__(self, listing: Listing) -> None:
        self._listing = listing

    async def ListLogs(self, request: log_pb.ListLogsRequest, context: Context) -> log_pb.ListLogsResponse:
        (project,) = resource_names.parse(request.parent, "projects/*", field="parent")
        slug, page = await self._listing.list_logs(
            project,
            tenant=calls.principal().tenant,
            deployment=request.deployment,
            variant=request.variant,
            outcome=convert.outcome_of(request.status),
            start_us=convert.moment_of(request, "start_time"),
            end_us=convert.moment_of(request, "end_time"),
            page_size=request.page_size,
            token=request.page_token,
        )
        return convert.logs_to_proto(slug, page)
