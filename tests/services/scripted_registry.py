"""A registry's catalog stream, scripted, and the room of a test that follows it: for rooms that live by the catalog."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from catalog import watch
from catalog.keys import CatalogAuthenticator, new_key
from kit import ids
from kit.calls import Call, Principal
from kit.interceptors import Auth, Chain, Validation
from kit.runtime import ProcessOptions, Runtime
from kit.server import Server, ServerOptions
from kit.telemetry import Tracing
from turnout.registry.v1 import catalog_pb2, deployment_pb2
from turnout.registry.v1 import catalog_service_pb2 as pb
from turnout.registry.v1 import catalog_service_pb2_grpc as rpc

SERVICE_KEY = "service"


class ScriptedRegistry(rpc.CatalogServiceServicer):
    """Tells one snapshot, then what a test changes."""

    def __init__(self, *entries: catalog_pb2.CatalogEntry) -> None:
        self.entries = entries
        self.changes: asyncio.Queue[pb.CatalogChange] = asyncio.Queue()

    async def ReportKeyUses(self, request: pb.ReportKeyUsesRequest, context: Any) -> pb.ReportKeyUsesResponse:
        return pb.ReportKeyUsesResponse()

    async def WatchCatalog(
        self, request: pb.WatchCatalogRequest, context: Any
    ) -> AsyncIterator[pb.WatchCatalogResponse]:
        response, digest, sequence = pb.WatchCatalogResponse, blake2b(digest_size=32), 1
        for entry in self.entries:
            digest.update(entry.SerializeToString(deterministic=True))
        yield response(begin=pb.CatalogBegin(sequence=sequence, epoch="e"))
        yield response(chunk=pb.CatalogChunk(entries=self.entries))
        yield response(end=pb.CatalogEnd(digest=digest.digest(), entry_count=len(self.entries)))
        while True:
            try:
                change = await asyncio.wait_for(self.changes.get(), 0.2)
            except TimeoutError:
                yield response(heartbeat=pb.CatalogHeartbeat(sequence=sequence))
            else:
                sequence = change.sequence
                yield response(change=change)


class Gate:
    """Lets this process follow the scripted registry, and checks everybody else's key as the product does."""

    def __init__(self) -> None:
        self.inner: CatalogAuthenticator | None = None

    async def authenticate(self, key: str, call: Call) -> Principal:
        if key == SERVICE_KEY:
            return Principal("service", "", frozenset({"catalog:watch"}))
        assert self.inner is not None
        return await self.inner.authenticate(key, call)


@dataclass
class Following:
    """A process that follows the scripted registry; rooms and servicers may still enter."""

    runtime: Runtime
    server: Server
    catalog: watch.Catalog
    registry: ScriptedRegistry
    sequence: int = 1

    async def put(self, *entries: catalog_pb2.CatalogEntry) -> None:
        """Change the catalog, and wait until the process has it."""
        self.sequence += 1
        self.registry.changes.put_nowait(pb.CatalogChange(sequence=self.sequence, entries=entries))
        await self.catalog.reach(self.sequence)


@asynccontextmanager
async def following(
    *entries: catalog_pb2.CatalogEntry,
    services: tuple[str, ...],
    peers: dict[str, str] | None = None,
    tracing: Tracing | None = None,
    gate: Gate | None = None,
) -> AsyncIterator[Following]:
    """A process whose catalog holds `entries` once :func:`serve` has returned.

    TURNOUT_SERVICE_KEY must be :data:`SERVICE_KEY` in the environment.
    """
    tracing = tracing or Tracing(sample_ratio=0, resource={}, exporter=None)
    gate, registry = gate or Gate(), ScriptedRegistry(*entries)
    options = ServerOptions("127.0.0.1:0", 1000, 300, 5, shares_port=False)
    server = Server(Chain(tracing, (Auth(gate), Validation())), options)
    process = ProcessOptions(ids.new_uid("ins"), ("registry", *services), peers or {}, None, None)
    async with Runtime(process, server, tracing) as runtime:
        rpc.add_CatalogServiceServicer_to_server(registry, server.registrar)
        catalog = await runtime.shared(watch.catalog)
        gate.inner = CatalogAuthenticator(catalog)
        yield Following(runtime, server, catalog, registry)


async def serve(followed: Following) -> None:
    """Listen, and wait until the catalog is there."""
    await followed.server.start()
    followed.runtime.wired.set()
    await followed.catalog.reach(1)


def key_entry(*scopes: str, project: str = "prj_shop", expire_time_ms: int = 0) -> tuple[str, catalog_pb2.CatalogEntry]:
    """A key's text, and the key as the registry tells of it."""
    key = new_key()
    entry = catalog_pb2.CatalogApiKey(
        uid=key.uid, project=project, secret_hash=key.secret_hash, scopes=scopes, expire_time_ms=expire_time_ms
    )
    return key.text, catalog_pb2.CatalogEntry(key=f"api_key/{key.uid}", api_key=entry)


def project_entry(uid: str, slug: str) -> catalog_pb2.CatalogEntry:
    """A tenant."""
    return catalog_pb2.CatalogEntry(
        key=f"project/{uid}", project=catalog_pb2.CatalogProject(uid=uid, number=1, slug=slug)
    )


def variant(
    slug: str = "v1",
    *,
    uid: str = "",
    weight: float = 100,
    active: bool = True,
    version: str = "",
    model: str = "",
    display_name: str = "",
) -> catalog_pb2.CatalogVariant:
    """A variant that runs a version, or a trained model if one is named."""
    made = catalog_pb2.CatalogVariant(
        uid=uid or f"var_{slug}", number=1, slug=slug, display_name=display_name, active=active, weight=weight
    )
    if model:
        made.recommendation.model = model
        made.recommendation.unknown_users = deployment_pb2.UNKNOWN_USERS_POPULAR
    else:
        made.completion.version = version or "ver_1"
    return made


def deployment_entry(
    slug: str,
    *variants: catalog_pb2.CatalogVariant,
    project: str = "prj_shop",
    salt: str = "",
    revision: str = "rev_1",
    number: str = "1.0",
    aliases: tuple[str, ...] = ("live",),
    kind: deployment_pb2.DeploymentKind.ValueType = deployment_pb2.DEPLOYMENT_KIND_COMPLETION,
) -> catalog_pb2.CatalogEntry:
    """A deployment with one revision, which all its aliases point to."""
    made = catalog_pb2.CatalogRevision(uid=revision, number=number, salt=salt or f"dep_{slug}", variants=variants)
    deployment = catalog_pb2.CatalogDeployment(
        uid=f"dep_{slug}",
        project=project,
        slug=slug,
        kind=kind,
        aliases=[catalog_pb2.CatalogAlias(alias=alias, revision=revision) for alias in aliases],
        revisions=[made],
    )
    return catalog_pb2.CatalogEntry(key=f"deployment/dep_{slug}", deployment=deployment)
