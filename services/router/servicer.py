"""RoutingService: RPC in, application, RPC out."""

from __future__ import annotations

import asyncio
from typing import Any, TypeAlias

import grpc

from kit import calls
from services.router import convert
from services.router.application.routing import Router
from services.router.application.simulating import Simulator
from turnout.router.v1 import routing_service_pb2 as pb
from turnout.router.v1 import routing_service_pb2_grpc as rpc

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class RoutingServicer(rpc.RoutingServiceServicer):
    """Decides for callers."""

    def __init__(self, router: Router, simulator: Simulator) -> None:
        self._router = router
        self._simulator = simulator

    async def Route(self, request: pb.RouteRequest, context: Context) -> pb.RouteResponse:
        decision = await self._router.route(
            request.deployment, convert.unit_from_proto(request), tenant=calls.principal().tenant
        )
        return convert.decision_to_response(decision)

    async def BatchRoute(self, request: pb.BatchRouteRequest, context: Context) -> pb.BatchRouteResponse:
        wanted = [(each.deployment, convert.unit_from_proto(each)) for each in request.requests]
        return convert.results_to_proto(await self._router.batch_route(wanted, tenant=calls.principal().tenant))

    async def Simulate(self, request: pb.SimulateRequest, context: Context) -> pb.SimulateResponse:
        call, principal = calls.current(), calls.principal()
        simulation = await self._simulator.simulate(
            convert.experiment_from_proto(
                request,
                tenant=principal.tenant,
                key_id=principal.key_id,
                trace_id=call.trace.trace_id,
                deadline=call.deadline,
            )
        )
        # Between many variants there may be 40,000 movements.
        return await asyncio.to_thread(convert.simulation_to_proto, simulation)
