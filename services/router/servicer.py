"""RoutingService: RPC in, application, RPC out."""

from __future__ import annotations

from typing import Any

import grpc

from kit import calls
from services.router import convert
from services.router.application import Router
from turnout.router.v1 import routing_service_pb2 as pb
from turnout.router.v1 import routing_service_pb2_grpc as rpc


class RoutingServicer(rpc.RoutingServiceServicer):
    """Decides for callers."""

    def __init__(self, router: Router) -> None:
        self._router = router

    async def Route(self, request: pb.RouteRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.RouteResponse:
        decision = self._router.route(
            request.deployment,
            routing_key=request.routing_key,
            identity=request.identity,
            thread=request.thread,
            user=request.user,
            tenant=calls.principal().tenant,
        )
        return convert.decision_to_response(decision)
