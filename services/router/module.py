"""The router's wiring."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from catalog import watch
from catalog.plan import Planner
from catalog.process import compiler
from catalog.rules import Compiler
from kit import config, ids
from kit.clock import SystemClock
from kit.events.outbox import outbox
from kit.runtime import Runtime
from services.router.application.places import Places
from services.router.application.routing import Router
from services.router.application.simulating import Simulator
from services.router.clients import RegistryClient
from services.router.config import RouterConfig
from services.router.recorder import OutboxRecorder
from services.router.servicer import RoutingServicer
from turnout.router.v1 import routing_service_pb2_grpc as rpc


@asynccontextmanager
async def module(runtime: Runtime) -> AsyncIterator[None]:
    """Router: owns nothing yet; answers RoutingService; announces RequestServed of calls that were tried."""
    settings = config.load(RouterConfig)
    catalog = await runtime.shared(watch.catalog)
    recorder = OutboxRecorder(await runtime.shared(outbox), runtime.options.instance)
    registry = RegistryClient(await runtime.channel("registry"))
    compiled, clock = await runtime.shared(compiler), SystemClock()
    batches = Places(settings.concurrent_batches, what="decides batches", reason="ROUTER_BUSY")
    router = Router(catalog, Planner(runtime.tracing, compiled), Planner(None, compiled), clock, ids.new_uid, batches)
    simulator = Simulator(
        catalog,
        registry,
        # Of its own: what is tried must not push out what calls need. Of time it gets no more for that.
        Compiler(turns=compiled.turns),
        recorder,
        clock,
        ids.new_uid,
        max_running=settings.concurrent_simulations,
    )
    rpc.add_RoutingServiceServicer_to_server(RoutingServicer(router, simulator), runtime.server.registrar)
    yield
