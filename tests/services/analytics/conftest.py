"""A real Postgres and NATS, analytics wired over them, and a fake registry that tells of two projects."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

import grpc
import pytest

from catalog.watch import Catalog, catalog
from kit import database, ids, migrations
from kit.calls import Call, Principal
from kit.database import Sessions
from kit.events.subjects import subject_of
from kit.interceptors import Auth, Chain, Validation
from kit.runtime import ProcessOptions, Runtime
from kit.server import Server, ServerOptions
from kit.spool import Record
from kit.telemetry import Tracing
from services.analytics.module import module
from services.analytics.store import PostgresStore
from stack.nats import Nats
from stack.postgres import Postgres
from turnout.analytics.v1 import log_service_pb2_grpc, metrics_service_pb2_grpc
from turnout.events.v1 import request_pb2
from turnout.registry.v1 import catalog_pb2, catalog_service_pb2, catalog_service_pb2_grpc, deployment_pb2

FOLDER = Path(__file__).parents[3] / "services" / "analytics" / "migrations"
SHOP, TOYS = "prj_" + "0" * 25 + "1", "prj_" + "0" * 25 + "2"
HELPER, QUIET = "dep_" + "0" * 25 + "1", "dep_" + "0" * 25 + "2"
RED, BLUE = "var_" + "0" * 25 + "1", "var_" + "0" * 25 + "2"


class Until(Protocol):
    async def __call__(self, condition: Callable[[], Any], seconds: float = 20) -> None: ...


class MakeEvent(Protocol):
    def __call__(self, **fields: Any) -> request_pb2.RequestServed: ...


@pytest.fixture(scope="session")
def until() -> Until:
    """Wait for a condition, awaited if need be, for at most so long."""

    async def wait(condition: Callable[[], Any], seconds: float = 20) -> None:
        async with asyncio.timeout(seconds):
            while True:
                found = condition()
                if asyncio.iscoroutine(found):
                    found = await found
                if found:
                    return
                await asyncio.sleep(0.01)

    return wait


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = Postgres(tmp_path_factory.mktemp("postgres"))
    with server:
        yield server
    server.remove_data()


@pytest.fixture(scope="session")
def migrated() -> Callable[[str], Coroutine[Any, Any, str]]:
    """Brings the database at an address to the newest version."""
    return lambda url: migrations.migrate(url, schema="analytics", folder=FOLDER)


_numbers = itertools.count()


@pytest.fixture
def database_url(postgres: Postgres) -> str:
    """Of an empty, migrated database."""
    name = f"analytics_{next(_numbers)}"
    postgres.create_database(name)
    asyncio.run(migrations.migrate(postgres.url(name), schema="analytics", folder=FOLDER))
    return postgres.url(name)


@pytest.fixture
async def sessions(database_url: str) -> AsyncIterator[Sessions]:
    async with database.sessions(database_url, schema="analytics") as opened:
        yield opened


@pytest.fixture(scope="session")
def today() -> int:
    return int(time.time()) // 86400


@pytest.fixture
def store(sessions: Sessions, today: int) -> PostgresStore:
    return PostgresStore(sessions, request_retention_days=90, payload_retention_days=30, today=lambda: today)


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[Nats]:
    with Nats(tmp_path / "nats") as server:
        yield server


def make_event_of(**fields: Any) -> request_pb2.RequestServed:
    """An ordinary request of a minute ago; fields change it, `start_us` its start, None for a decision removes it."""
    start_us = fields.pop("start_us", time.time_ns() // 1000 - 60_000_000)
    variant = fields.pop("variant", (RED, "red"))
    deployment = fields.pop("deployment", (HELPER, "helper"))
    tokens = fields.pop("tokens", (10, 5))
    event = request_pb2.RequestServed(
        **{
            "request_id": ids.new_uid("req"),
            "project": SHOP,
            "project_slug": "shop",
            "deployment_slug": deployment[1],
            "latency_us": 250_000,
            "status": request_pb2.REQUEST_STATUS_OK,
            "source": 1,
        }
        | fields
    )
    event.start_time.FromMicroseconds(start_us)
    if variant is not None:
        event.decision.deployment = deployment[0]
        event.decision.variant, event.decision.variant_slug = variant
    if tokens is not None:
        event.usage.input_tokens, event.usage.output_tokens = tokens
    return event


@pytest.fixture(scope="session")
def make_event() -> MakeEvent:
    return make_event_of


@pytest.fixture(scope="session")
def record_of() -> Callable[..., Record]:
    """An event as the spool publishes it, with a new id unless one is given."""

    def make(event: Any, event_id: str = "", *, slug: str = "shop") -> Record:
        identifier = event_id or ids.encode(ids.uuid7())
        return Record(identifier, subject_of(type(event), slug), event.SerializeToString(), {})

    return make


class FakeRegistry(catalog_service_pb2_grpc.CatalogServiceServicer):
    """Answers a snapshot of two projects, then heartbeats."""

    async def ReportKeyUses(self, request: Any, context: Any) -> catalog_service_pb2.ReportKeyUsesResponse:
        return catalog_service_pb2.ReportKeyUsesResponse()

    async def WatchCatalog(self, request: Any, context: Any) -> AsyncIterator[catalog_service_pb2.WatchCatalogResponse]:
        def variant(uid: str, slug: str, number: int) -> catalog_pb2.CatalogVariant:
            return catalog_pb2.CatalogVariant(
                uid=uid, slug=slug, number=number, completion=catalog_pb2.CatalogCompletion(version="ver_1")
            )

        def deployment(uid: str, slug: str, project: str) -> catalog_pb2.CatalogEntry:
            revision = catalog_pb2.CatalogRevision(
                uid="rev_1", number="1.0", variants=[variant(RED, "red", 1), variant(BLUE, "blue", 2)]
            )
            found = catalog_pb2.CatalogDeployment(
                uid=uid,
                slug=slug,
                project=project,
                kind=deployment_pb2.DEPLOYMENT_KIND_COMPLETION,
                revisions=[revision],
                aliases=[catalog_pb2.CatalogAlias(alias="live", revision="rev_1")],
            )
            return catalog_pb2.CatalogEntry(key=f"deployment/{uid}", deployment=found)

        entries = [
            catalog_pb2.CatalogEntry(
                key=f"project/{uid}", project=catalog_pb2.CatalogProject(uid=uid, slug=slug, number=number)
            )
            for uid, slug, number in ((SHOP, "shop", 1), (TOYS, "toys", 2))
        ] + [deployment(HELPER, "helper", SHOP), deployment(QUIET, "quiet", SHOP)]
        digest = blake2b(digest_size=32)
        for entry in entries:
            digest.update(entry.SerializeToString(deterministic=True))
        message = catalog_service_pb2.WatchCatalogResponse
        yield message(begin=catalog_service_pb2.CatalogBegin(sequence=1, epoch="e"))
        yield message(chunk=catalog_service_pb2.CatalogChunk(entries=entries))
        yield message(end=catalog_service_pb2.CatalogEnd(digest=digest.digest(), entry_count=len(entries)))
        while True:
            await asyncio.sleep(0.2)
            yield message(heartbeat=catalog_service_pb2.CatalogHeartbeat(sequence=1))


class NamedKeys:
    """Keys whose text is what they are: `<tenant uid>` of a project, `platform` or `watcher`."""

    async def authenticate(self, key: str, call: Call) -> Principal:
        scopes = {"platform": "platform:admin", "watcher": "catalog:watch", "powerless": "predict"}
        tenant = "" if key in scopes else key
        return Principal(key, tenant, frozenset({scopes.get(key, "analytics:read")}))


class Analytics:
    """A process with analytics in it."""

    def __init__(self, runtime: Runtime, channel: grpc.aio.Channel, followed: Catalog) -> None:
        self.runtime = runtime
        self.catalog = followed
        self.metrics: Any = metrics_service_pb2_grpc.MetricsServiceStub(channel)
        self.logs: Any = log_service_pb2_grpc.LogServiceStub(channel)

    @staticmethod
    def key(name: str = SHOP) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {name}"),)


Run = Callable[[], AbstractAsyncContextManager[Analytics]]


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, database_url: str, nats: Nats) -> Callable[[str, str], None]:
    monkeypatch.setenv("TURNOUT_ANALYTICS_DATABASE_URL", database_url)
    monkeypatch.setenv("TURNOUT_NATS_URL", nats.url)
    monkeypatch.setenv("TURNOUT_EVENTS_STREAM_MAX_BYTES", str(64 << 20))
    monkeypatch.setenv("TURNOUT_SERVICE_KEY", "watcher")
    return monkeypatch.setenv


@pytest.fixture
def run(settings: Callable[[str, str], None]) -> Run:
    """Starts a process with analytics, and a registry's contract to follow."""

    @asynccontextmanager
    async def start() -> AsyncIterator[Analytics]:
        tracing = Tracing(sample_ratio=0, resource={}, exporter=None)
        server = Server(
            Chain(tracing, (Auth(NamedKeys()), Validation())),
            ServerOptions("127.0.0.1:0", 100, 300, 0, shares_port=False),
        )
        catalog_service_pb2_grpc.add_CatalogServiceServicer_to_server(FakeRegistry(), server.registrar)
        options = ProcessOptions("ins_test", ("registry", "analytics"), {}, None, None)
        async with Runtime(options, server, tracing) as runtime:
            await runtime.enter(module)
            await server.start()
            runtime.wired.set()
            await asyncio.wait_for(runtime.ready_when("the catalog").wait(), 10)
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")
            try:
                yield Analytics(runtime, channel, await runtime.shared(catalog))
            finally:
                await channel.close()
                await server.stop()

    return start
