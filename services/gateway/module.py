"""The gateway's wiring."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from catalog import watch
from catalog.keys import CatalogAuthenticator
from kit import config
from kit.errors import Unavailable
from kit.interceptors import Auth
from kit.runtime import Runtime
from services.gateway.application import Models
from services.gateway.config import GatewayConfig
from services.gateway.listener import Listener, ListenerOptions, Route
from services.gateway.servicer import MODELS_PATH, ChatCompletions, Health, ModelList
from turnout.executor.v1 import execution_service_pb2_grpc as rpc


@asynccontextmanager
async def module(runtime: Runtime) -> AsyncIterator[None]:
    """Gateway: owns nothing; answers HTTP; calls the executor."""
    await runtime.shared(listener)
    yield


@asynccontextmanager
async def listener(runtime: Runtime) -> AsyncIterator[Listener]:
    """The HTTP server, listening; made once (`await runtime.shared(listener)`)."""
    settings = config.load(GatewayConfig)
    catalog = await runtime.shared(watch.catalog)
    stub: rpc.ExecutionServiceAsyncStub = rpc.ExecutionServiceStub(await runtime.channel("executor"))
    known, auth = Models(catalog), Auth(CatalogAuthenticator(catalog))
    chat = ChatCompletions(
        stub,
        known,
        auth,
        call_timeout_seconds=settings.call_timeout_seconds,
        max_body_bytes=settings.max_body_bytes,
        unix_seconds=time.time,
        abreast=runtime.abreast,
    )
    models = ModelList(known, auth)

    def check_ready() -> None:
        if server.is_stopping:
            raise Unavailable("this process is stopping", reason="STOPPING")
        catalog.usable_view()

    health = Health(check_ready)
    routes = (
        Route("/v1/chat/completions", {"POST": chat.create}),
        Route(MODELS_PATH, {"GET": models.list_models, "HEAD": models.list_models}),
        Route(MODELS_PATH + "/{model}", {"GET": models.get_model, "HEAD": models.get_model}),
        Route("/healthz", {"GET": health.live, "HEAD": health.live}, is_probe=True),
        Route("/readyz", {"GET": health.ready, "HEAD": health.ready}, is_probe=True),
    )
    server = Listener(
        routes,
        runtime.tracing,
        ListenerOptions(
            address=settings.listen_address,
            shares_port=runtime.options.parent_pipe is not None,
            max_body_bytes=settings.max_body_bytes,
            max_header_bytes=settings.max_header_bytes,
            max_concurrent_requests=settings.max_concurrent_requests,
            read_timeout_seconds=settings.read_timeout_seconds,
            keep_alive_seconds=settings.keep_alive_seconds,
            drain_seconds=settings.drain_seconds,
        ),
    )
    runtime.when_stopping(server.stop_accepting)
    try:
        await server.start()
        runtime.ports["http"] = server.port
        yield server
    finally:
        await server.drain()
