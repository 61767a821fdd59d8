"""A registry's stream, scripted: a fake of a peer's contract, served by the real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import grpc
import pytest
from pydantic import SecretStr

from catalog.config import CatalogConfig
from catalog.watch import Catalog
from kit.calls import Call, Principal
from kit.errors import AppError
from kit.interceptors import Auth, Chain, Validation
from kit.server import Server, ServerOptions
from kit.telemetry import Tracing
from turnout.registry.v1 import catalog_pb2 as pb
from turnout.registry.v1 import catalog_service_pb2 as service_pb
from turnout.registry.v1 import catalog_service_pb2_grpc as rpc

Message = service_pb.WatchCatalogResponse


class AnyKey:
    """Knows every key, until a test says why not."""

    def __init__(self) -> None:
        self.refusal: AppError | None = None

    async def authenticate(self, key: str, call: Call) -> Principal:
        if self.refusal is not None:
            raise self.refusal
        return Principal("service", "", frozenset({"catalog:watch"}))


class ScriptedRegistry(rpc.CatalogServiceServicer):
    """Sends what a test puts into `script`; an exception there ends the stream."""

    def __init__(self) -> None:
        self.script: asyncio.Queue[Message | BaseException] = asyncio.Queue()
        self.requests: list[service_pb.WatchCatalogRequest] = []
        self.reports: list[dict[str, int]] = []
        self.report_failures: list[BaseException] = []

    async def ReportKeyUses(
        self, request: service_pb.ReportKeyUsesRequest, context: Any
    ) -> service_pb.ReportKeyUsesResponse:
        if self.report_failures:
            raise self.report_failures.pop()
        self.reports.append({use.api_key: use.last_use_time.ToMilliseconds() for use in request.uses})
        return service_pb.ReportKeyUsesResponse()

    async def WatchCatalog(self, request: service_pb.WatchCatalogRequest, context: Any) -> AsyncIterator[Message]:
        self.requests.append(request)
        while True:
            message = await self.script.get()
            if isinstance(message, BaseException):
                raise message
            yield message

    def send_snapshot(self, sequence: int, entries: Iterable[pb.CatalogEntry], *, digest: bytes | None = None) -> None:
        entries = list(entries)
        real = blake2b(digest_size=32)
        for entry in entries:
            real.update(entry.SerializeToString(deterministic=True))
        self.script.put_nowait(Message(begin=service_pb.CatalogBegin(sequence=sequence, epoch="epoch")))
        for entry in entries:
            self.script.put_nowait(Message(chunk=service_pb.CatalogChunk(entries=[entry])))
        end = service_pb.CatalogEnd(digest=digest or real.digest(), entry_count=len(entries))
        self.script.put_nowait(Message(end=end))

    def send_change(self, sequence: int, *entries: pb.CatalogEntry) -> None:
        self.script.put_nowait(Message(change=service_pb.CatalogChange(sequence=sequence, entries=entries)))

    def send_heartbeat(self, sequence: int) -> None:
        self.script.put_nowait(Message(heartbeat=service_pb.CatalogHeartbeat(sequence=sequence)))

    def send_resumed(self) -> None:
        self.script.put_nowait(Message(resumed=service_pb.CatalogResumed(epoch="epoch")))


def project_entry(letter: str, slug: str) -> pb.CatalogEntry:
    """A tenant, as the registry tells of it."""
    uid = f"prj_{letter}"
    return pb.CatalogEntry(key=f"project/{uid}", project=pb.CatalogProject(uid=uid, number=1, slug=slug))


def key_entry(uid: str) -> pb.CatalogEntry:
    """A key, as the registry tells of it."""
    return pb.CatalogEntry(key=f"api_key/{uid}", api_key=pb.CatalogApiKey(uid=uid, secret_hash=b"hash"))


class Following:
    """A catalog that follows the scripted registry."""

    def __init__(self, registry: ScriptedRegistry, keys: AnyKey, address: str, channel: grpc.aio.Channel) -> None:
        self.registry = registry
        self.keys = keys
        self.address = address
        self.channel = channel
        self.project_entry = project_entry
        self.key_entry = key_entry

    @asynccontextmanager
    async def catalog(self, data_dir: Path | None = None, max_age_seconds: float = 0) -> AsyncIterator[Catalog]:
        settings = CatalogConfig(
            service_key=SecretStr("key"), data_dir=data_dir, catalog_max_age_seconds=max_age_seconds
        )
        catalog, wired, self.ready = Catalog(settings), asyncio.Event(), asyncio.Event()
        catalog.load_copy()
        wired.set()
        tasks = [
            asyncio.create_task(catalog.follow(self.channel, self.ready, wired)),
            asyncio.create_task(catalog.keep_copy()),
        ]
        try:
            yield catalog
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def following() -> AsyncIterator[Following]:
    tracing = Tracing(sample_ratio=0, resource={}, exporter=None)
    registry, keys = ScriptedRegistry(), AnyKey()
    options = ServerOptions("127.0.0.1:0", 100, 300, 0, shares_port=False)
    server = Server(Chain(tracing, (Auth(keys), Validation())), options)
    rpc.add_CatalogServiceServicer_to_server(registry, server.registrar)
    await server.start()
    address = f"127.0.0.1:{server.port}"
    channel = grpc.aio.insecure_channel(address)
    try:
        yield Following(registry, keys, address, channel)
    finally:
        await channel.close()
        await server.stop()
        tracing.shutdown()
