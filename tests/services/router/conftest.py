"""The room over a real server; a scripted registry is its only peer, and NATS is down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from kit import calls
from kit.errors import NotFound
from kit.spool.folder import folder_paths
from kit.spool.record import frames, records_of
from kit.spool.segment import MAGIC, list_segments, read
from kit.status import reason_of
from services.router.module import module
from tests.services import scripted_registry
from tests.services.scripted_registry import Following, deployment_entry, key_entry, project_entry, variant
from turnout.events.v1 import request_pb2
from turnout.registry.v1 import (
    catalog_pb2,
    deployment_pb2,
    deployment_service_pb2,
    deployment_service_pb2_grpc,
    revision_pb2,
)
from turnout.router.v1 import routing_service_pb2 as pb
from turnout.router.v1 import routing_service_pb2_grpc as rpc


class ScriptedRevisions(deployment_service_pb2_grpc.DeploymentServiceServicer):
    """Tells revisions by their names, and remembers who asked."""

    def __init__(self) -> None:
        self.revisions: dict[str, revision_pb2.Revision] = {}
        self.askers: list[calls.Call] = []
        self.failure: Exception | None = None

    async def GetRevision(
        self, request: deployment_service_pb2.GetRevisionRequest, context: Any
    ) -> revision_pb2.Revision:
        self.askers.append(calls.current())
        if self.failure is not None:
            raise self.failure
        found = self.revisions.get(request.name)
        if found is None:
            raise NotFound("there is no such revision", reason="REVISION_NOT_FOUND", resource=request.name)
        return found

    async def until_asked(self, count: int) -> None:
        """Wait until somebody has asked so often."""
        while len(self.askers) < count:
            await asyncio.sleep(0.01)

    def tell(self, revision: revision_pb2.Revision, deployment: str) -> None:
        """Know a revision, by its number and its uid.

        :param deployment: uid
        """
        for segment in (revision.uid, revision.number):
            self.revisions[f"projects/shop/deployments/{deployment}/revisions/{segment}"] = revision


@dataclass
class Room:
    """A running router and what a test needs around it."""

    stub: Any
    process: Following
    revisions: ScriptedRevisions
    key: str
    spool: Path

    def _metadata(self, key: str | None) -> tuple[tuple[str, str]]:
        return (("authorization", f"Bearer {self.key if key is None else key}"),)

    async def route(self, deployment: str = "assistant", *, key: str | None = None, **fields: Any) -> pb.RouteResponse:
        request = pb.RouteRequest(deployment=deployment, **fields)
        response: pb.RouteResponse = await self.stub.Route(request, metadata=self._metadata(key), timeout=20)
        return response

    async def batch_route(self, *requests: pb.RouteRequest, key: str | None = None) -> list[pb.BatchRouteResult]:
        request = pb.BatchRouteRequest(requests=requests)
        response = await self.stub.BatchRoute(request, metadata=self._metadata(key), timeout=20)
        return list(response.results)

    def simulating(
        self, deployment: str = "assistant", *, key: str | None = None, timeout: float = 60, **fields: Any
    ) -> Any:
        """A call of Simulate that is under way."""
        request = pb.SimulateRequest(deployment=deployment, **fields)
        return self.stub.Simulate(request, metadata=self._metadata(key), timeout=timeout)

    async def simulate(self, *args: Any, **fields: Any) -> pb.SimulateResponse:
        response: pb.SimulateResponse = await self.simulating(*args, **fields)
        return response

    async def failure(self, *args: Any, **fields: Any) -> grpc.aio.AioRpcError:
        """The failure of a Route that must fail."""
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await self.route(*args, **fields)
        return failure.value

    async def simulation_failure(self, *args: Any, **fields: Any) -> grpc.aio.AioRpcError:
        """The failure of a Simulate that must fail."""
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await self.simulate(*args, **fields)
        return failure.value

    async def until_free(self) -> None:
        """Wait until nobody simulates too much to let another one."""
        while True:
            try:
                await self.simulate(population=pb.Population(size=1))
            except grpc.aio.AioRpcError as failure:
                if reason_of(failure) != "SIMULATOR_BUSY":
                    raise
                await asyncio.sleep(0.01)
            else:
                return

    async def put(self, *entries: catalog_pb2.CatalogEntry) -> None:
        """Change the catalog, and wait until the process has it."""
        # A machine that stands still for two seconds makes the process follow anew: it must find what it had.
        known = {entry.key: entry for entry in self.process.registry.entries}
        for entry in entries:
            known[entry.key] = catalog_pb2.CatalogEntry()
            known[entry.key].CopyFrom(entry)
        self.process.registry.entries = tuple(known.values())
        await self.process.put(*entries)

    def served(self) -> list[request_pb2.RequestServed]:
        """What was recorded."""
        found = []
        for folder in folder_paths(self.spool):
            for segment in list_segments(folder):
                start, size = len(MAGIC), segment.path.stat().st_size
                for frame in frames(read(segment.path, start, size, size), start, size):
                    for record in records_of(frame):
                        assert record.subject == "turnout.events.v1.RequestServed.shop"
                        found.append(request_pb2.RequestServed.FromString(record.payload))
        return found


@pytest.fixture
async def room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Room]:
    monkeypatch.setenv("TURNOUT_SERVICE_KEY", scripted_registry.SERVICE_KEY)
    monkeypatch.setenv("TURNOUT_DATA_DIR", str(tmp_path))
    # Nothing listens there: events wait in the spool, where the tests read them.
    monkeypatch.setenv("TURNOUT_NATS_URL", "nats://127.0.0.1:1")
    key, entry = key_entry("deployments:run", "registry:read")
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
    revisions = ScriptedRevisions()  # type: ignore[abstract]  # asked for nothing else
    async with scripted_registry.following(*entries, services=("router",)) as process:
        deployment_service_pb2_grpc.add_DeploymentServiceServicer_to_server(revisions, process.server.registrar)
        await process.runtime.enter(module)
        await scripted_registry.serve(process)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{process.server.port}") as channel:
            yield Room(rpc.RoutingServiceStub(channel), process, revisions, key, tmp_path / "spool")
        await process.server.stop()
