"""The room over a real server; a scripted registry is its only peer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from services.router.module import module
from tests.services import scripted_registry
from tests.services.scripted_registry import Following, deployment_entry, key_entry, project_entry, variant
from turnout.registry.v1 import catalog_pb2, deployment_pb2
from turnout.router.v1 import routing_service_pb2 as pb
from turnout.router.v1 import routing_service_pb2_grpc as rpc


@dataclass
class Room:
    """A running router and what a test needs around it."""

    stub: Any
    process: Following
    key: str

    async def route(self, deployment: str = "assistant", *, key: str | None = None, **fields: Any) -> pb.RouteResponse:
        metadata = (("authorization", f"Bearer {self.key if key is None else key}"),)
        request = pb.RouteRequest(deployment=deployment, **fields)
        response: pb.RouteResponse = await self.stub.Route(request, metadata=metadata, timeout=20)
        return response

    async def failure(self, *args: Any, **fields: Any) -> grpc.aio.AioRpcError:
        """The failure of a call that must fail."""
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await self.route(*args, **fields)
        return failure.value

    async def put(self, *entries: catalog_pb2.CatalogEntry) -> None:
        await self.process.put(*entries)


@pytest.fixture
async def room(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Room]:
    monkeypatch.setenv("TURNOUT_SERVICE_KEY", scripted_registry.SERVICE_KEY)
    key, entry = key_entry("deployments:run")
    entries = (
        entry,
        project_entry("prj_shop", "shop"),
        project_entry("prj_other", "other"),
        deployment_entry(
            "assistant",
            variant("mild", weight=90, display_name="Mild"),
            variant("wild", weight=10, version="ver_2"),
            aliases=("live", "beta"),
        ),
        deployment_entry(
            "films",
            variant("als", model="mod_1"),
            kind=deployment_pb2.DEPLOYMENT_KIND_RECOMMENDATION,
            revision="rev_films",
        ),
        deployment_entry("closed", variant(weight=0)),
        deployment_entry("foreign", variant(), project="prj_other"),
    )
    async with scripted_registry.following(*entries, services=("router",)) as process:
        await process.runtime.enter(module)
        await scripted_registry.serve(process)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{process.server.port}") as channel:
            yield Room(rpc.RoutingServiceStub(channel), process, key)
        await process.server.stop()
