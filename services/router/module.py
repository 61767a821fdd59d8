"""The router's wiring."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from catalog import watch
from kit import ids
from kit.runtime import Runtime
from services.router.application import Router
from services.router.servicer import RoutingServicer
from turnout.router.v1 import routing_service_pb2_grpc as rpc


@asynccontextmanager
async def module(runtime: Runtime) -> AsyncIterator[None]:
    """Router: owns nothing yet; answers RoutingService."""
    router = Router(await runtime.shared(watch.catalog), ids.new_uid)
    rpc.add_RoutingServiceServicer_to_server(RoutingServicer(router), runtime.server.registrar)
    yield
