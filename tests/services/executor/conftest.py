"""The room over a real server: a scripted registry and a scripted provider are its only peers, and NATS is down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from google.protobuf import duration_pb2
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from catalog import watch
from catalog.keys import RATED_SCOPES, CatalogAuthenticator, new_key
from kit import ids
from kit.calls import Call, Principal
from kit.interceptors import Auth, Chain, Rates, Validation
from kit.runtime import ProcessOptions, Runtime
from kit.secrets import Keyring, Secret, seal
from kit.server import Server, ServerOptions
from kit.spool.folder import folder_paths
from kit.spool.record import frames, records_of
from kit.spool.segment import MAGIC, list_segments, read
from kit.telemetry import Span, Tracing
from services.executor.module import module
from tests.services.executor.upstreams import Upstream
from turnout.chat.v1 import message_pb2
from turnout.events.v1 import request_pb2
from turnout.executor.v1 import execution_service_pb2 as pb
from turnout.executor.v1 import execution_service_pb2_grpc as rpc
from turnout.registry.v1 import catalog_pb2, catalog_service_pb2, catalog_service_pb2_grpc, version_pb2
from turnout.registry.v1.provider_pb2 import PROVIDER_KIND_OPENAI_COMPATIBLE, ProviderKind

KEYRING_SETTING = Keyring.generate_setting("test")
CREDENTIAL = "sk-planted-credential-0123456789"


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    upstream = Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, limit=8 << 20)
    upstream.port = server.sockets[0].getsockname()[1]
    yield upstream
    server.close()


class Registry(catalog_service_pb2_grpc.CatalogServiceServicer):
    """Tells one snapshot, then what a test changes."""

    def __init__(self) -> None:
        self.entries: list[catalog_pb2.CatalogEntry] = []
        self.changes: asyncio.Queue[catalog_service_pb2.CatalogChange] = asyncio.Queue()

    async def ReportKeyUses(self, request: Any, context: Any) -> catalog_service_pb2.ReportKeyUsesResponse:
        return catalog_service_pb2.ReportKeyUsesResponse()

    async def WatchCatalog(self, request: Any, context: Any) -> AsyncIterator[catalog_service_pb2.WatchCatalogResponse]:
        response, digest = catalog_service_pb2.WatchCatalogResponse, blake2b(digest_size=32)
        for entry in self.entries:
            digest.update(entry.SerializeToString(deterministic=True))
        yield response(begin=catalog_service_pb2.CatalogBegin(sequence=1, epoch="e"))
        yield response(chunk=catalog_service_pb2.CatalogChunk(entries=self.entries))
        yield response(end=catalog_service_pb2.CatalogEnd(digest=digest.digest(), entry_count=len(self.entries)))
        sequence = 1
        while True:
            try:
                change = await asyncio.wait_for(self.changes.get(), 0.2)
            except TimeoutError:
                yield response(heartbeat=catalog_service_pb2.CatalogHeartbeat(sequence=sequence))
            else:
                sequence = change.sequence
                yield response(change=change)


class Gate:
    """Lets this process follow the scripted registry, and checks everybody else's key as the product does."""

    def __init__(self) -> None:
        self.inner: CatalogAuthenticator | None = None

    async def authenticate(self, key: str, call: Call) -> Principal:
        if key == "service":
            return Principal("service", "", frozenset({"catalog:watch", "catalog:credentials"}))
        assert self.inner is not None
        return await self.inner.authenticate(key, call)


@dataclass
class Room:
    """A running executor and what a test needs around it."""

    stub: Any
    registry: Registry
    catalog: watch.Catalog
    runtime: Runtime
    spool: Path
    upstream: Upstream
    spans: InMemorySpanExporter
    tracing: Tracing
    key: str
    sequence: int = 1
    credential: str = CREDENTIAL

    async def run(
        self, deployment: str = "assistant", *, key: str | None = None, timeout: float = 20, **fields: Any
    ) -> Any:
        """A call with the variables that the usual deployment wants, unless `fields` says otherwise."""
        fields.setdefault("variables_json", '{"country":"France"}')
        metadata = (("authorization", f"Bearer {self.key if key is None else key}"),)
        return await self.stub.Run(pb.RunRequest(deployment=deployment, **fields), metadata=metadata, timeout=timeout)

    def stream(self, deployment: str = "assistant", *, timeout: float = 20, **fields: Any) -> Any:
        """A streamed call, as :meth:`run`."""
        fields.setdefault("variables_json", '{"country":"France"}')
        request = pb.RunStreamRequest(run=pb.RunRequest(deployment=deployment, **fields))
        metadata = (("authorization", f"Bearer {self.key}"),)
        return self.stub.RunStream(request, metadata=metadata, timeout=timeout)

    async def failure(self, *args: Any, **fields: Any) -> grpc.aio.AioRpcError:
        """The failure of a call that must fail."""
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await self.run(*args, **fields)
        return failure.value

    def events(self) -> list[tuple[str, bytes]]:
        """Everything written to the spool: subject and payload."""
        found = []
        for folder in folder_paths(self.spool):
            for segment in list_segments(folder):
                start, size = len(MAGIC), segment.path.stat().st_size
                for frame in frames(read(segment.path, start, size, size), start, size):
                    found += [(record.subject, record.payload) for record in records_of(frame)]
        return found

    def served(self) -> list[request_pb2.RequestServed]:
        """The records of ended calls."""
        name = "turnout.events.v1.RequestServed.shop"
        return [request_pb2.RequestServed.FromString(data) for subject, data in self.events() if subject == name]

    def payloads(self) -> list[request_pb2.RequestPayload]:
        """What was said."""
        name = "turnout.events.v1.RequestPayload.shop"
        return [request_pb2.RequestPayload.FromString(data) for subject, data in self.events() if subject == name]

    async def finished_spans(self) -> list[Span]:
        """All spans so far."""
        self.tracing.shutdown()
        return cast("list[Span]", list(self.spans.get_finished_spans()))

    async def put(self, *entries: catalog_pb2.CatalogEntry) -> None:
        """Change the catalog, and wait until the room has it."""
        self.sequence += 1
        self.registry.changes.put_nowait(catalog_service_pb2.CatalogChange(sequence=self.sequence, entries=entries))
        await self.catalog.reach(self.sequence)

    async def put_deployment(self, **fields: Any) -> None:
        """Replace the usual deployment's parts; see `deployment_entry` and `version_entry`."""
        of_version = {name: fields.pop(name) for name in ("messages", "extra", "model") if name in fields}
        await self.put(version_entry(**of_version), deployment_entry(**fields))

    version_entry = staticmethod(lambda **fields: version_entry(**fields))
    provider_entry = staticmethod(lambda *args, **fields: provider_entry(*args, **fields))


def key_entry(*scopes: str, project: str = "prj_shop", expire_time_ms: int = 0) -> tuple[str, catalog_pb2.CatalogEntry]:
    """A key's text, and the key as the registry tells of it."""
    key = new_key()
    entry = catalog_pb2.CatalogApiKey(
        uid=key.uid, project=project, secret_hash=key.secret_hash, scopes=scopes, expire_time_ms=expire_time_ms
    )
    return key.text, catalog_pb2.CatalogEntry(key=f"api_key/{key.uid}", api_key=entry)


def provider_entry(
    base_url: str, kind: ProviderKind.ValueType = PROVIDER_KIND_OPENAI_COMPATIBLE
) -> catalog_pb2.CatalogEntry:
    """The usual provider."""
    provider = catalog_pb2.CatalogProvider(
        uid="prv_main", project="prj_shop", slug="main", kind=kind, base_url=base_url
    )
    return catalog_pb2.CatalogEntry(key="provider/prv_main", provider=provider)


def version_entry(
    messages: tuple[tuple[int, str], ...] = ((message_pb2.ROLE_USER, "What is the capital of {{ country }}?"),),
    model: str = "test-model",
    extra: dict[str, Any] | None = None,
) -> catalog_pb2.CatalogEntry:
    """The usual version."""
    version = version_pb2.Version(
        uid="ver_1",
        provider="prv_main",
        model=model,
        messages=[message_pb2.Message(role=role, content=text) for role, text in messages],  # type: ignore[arg-type]
        parameters=version_pb2.Parameters(temperature=0.5, max_output_tokens=64),
        **(extra or {}),
    )
    entry = catalog_pb2.CatalogVersion(project="prj_shop", version=version)
    return catalog_pb2.CatalogEntry(key="version/prj_shop/ver_1", version=entry)


def deployment_entry(
    slug: str = "assistant",
    *,
    max_retries: int = 0,
    attempt_timeout: float = 0,
    weight: float = 100,
    project: str = "prj_shop",
    version: str = "ver_1",
) -> catalog_pb2.CatalogEntry:
    """The usual deployment."""
    completion = catalog_pb2.CatalogCompletion(version=version, max_retries=max_retries)
    if attempt_timeout:
        seconds = int(attempt_timeout)
        completion.attempt_timeout.CopyFrom(
            duration_pb2.Duration(seconds=seconds, nanos=int((attempt_timeout - seconds) * 1e9))
        )
    variant = catalog_pb2.CatalogVariant(
        uid=f"var_{slug}", number=1, slug="v1", active=True, weight=weight, completion=completion
    )
    deployment = catalog_pb2.CatalogDeployment(
        uid=f"dep_{slug}",
        project=project,
        slug=slug,
        kind=1,  # type: ignore[arg-type]
        aliases=[catalog_pb2.CatalogAlias(alias="live", revision="rev_1")],
        revisions=[catalog_pb2.CatalogRevision(uid="rev_1", number="1.0", salt=f"dep_{slug}", variants=[variant])],
    )
    return catalog_pb2.CatalogEntry(key=f"deployment/dep_{slug}", deployment=deployment)


def credential_entry(secret: str = CREDENTIAL) -> catalog_pb2.CatalogEntry:
    """The usual provider's credential, sealed as the registry does."""
    envelope = seal(Keyring.parse(KEYRING_SETTING), Secret(secret), context=b"prv_main").to_bytes()
    credential = catalog_pb2.CatalogCredential(provider="prv_main", envelope=envelope)
    return catalog_pb2.CatalogEntry(key="credential/prv_main", credential=credential)


def project_entry(uid: str, slug: str) -> catalog_pb2.CatalogEntry:
    """A tenant."""
    return catalog_pb2.CatalogEntry(
        key=f"project/{uid}", project=catalog_pb2.CatalogProject(uid=uid, number=1, slug=slug)
    )


@asynccontextmanager
async def running(upstream: Upstream, data_dir: Path, sample_ratio: float = 0) -> AsyncIterator[Room]:
    """A room, in a process of its own but for the process."""
    key, usual_key = key_entry("deployments:run")
    registry, gate = Registry(), Gate()
    registry.entries = [
        project_entry("prj_shop", "shop"),
        project_entry("prj_other", "other"),
        usual_key,
        provider_entry(upstream.base_url),
        credential_entry(),
        version_entry(),
        deployment_entry(),
        deployment_entry("foreign", project="prj_other"),
    ]
    spans = InMemorySpanExporter()
    tracing = Tracing(sample_ratio=sample_ratio, resource={}, exporter=spans)
    options = ServerOptions("127.0.0.1:0", 1000, 300, 0.2, shares_port=False)
    server = Server(Chain(tracing, (Auth(gate), Rates(RATED_SCOPES), Validation())), options)
    process = ProcessOptions(ids.new_uid("ins"), ("registry", "executor"), {}, None, None)
    try:
        async with Runtime(process, server, tracing) as runtime:
            catalog_service_pb2_grpc.add_CatalogServiceServicer_to_server(registry, server.registrar)
            catalog = await runtime.shared(watch.catalog)
            gate.inner = CatalogAuthenticator(catalog)
            await runtime.enter(module)
            await server.start()
            runtime.wired.set()
            await catalog.reach(1)
            async with grpc.aio.insecure_channel(
                f"127.0.0.1:{server.port}", options=(("grpc.max_receive_message_length", 32 << 20),)
            ) as channel:
                yield Room(
                    rpc.ExecutionServiceStub(channel),
                    registry,
                    catalog,
                    runtime,
                    data_dir / "spool",
                    upstream,
                    spans,
                    tracing,
                    key,
                )
            await server.stop()
    finally:
        tracing.shutdown()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.setenv("TURNOUT_DATA_DIR", str(tmp_path))
    # Nothing listens there: events wait in the spool, where the tests read them.
    monkeypatch.setenv("TURNOUT_NATS_URL", "nats://127.0.0.1:1")
    monkeypatch.setenv("TURNOUT_KEY_ENCRYPTION_KEYS", KEYRING_SETTING)
    monkeypatch.setenv("TURNOUT_EGRESS_ALLOW_PRIVATE", "true")
    monkeypatch.setenv("TURNOUT_SERVICE_KEY", "service")
    return monkeypatch


@pytest.fixture
async def room(upstream: Upstream, environment: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Room]:
    async with running(upstream, tmp_path) as room:
        yield room


@pytest.fixture
async def traced_room(upstream: Upstream, environment: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Room]:
    async with running(upstream, tmp_path, sample_ratio=1) as room:
        yield room


@pytest.fixture
def start_room(upstream: Upstream, environment: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Starts a room once a test has set its environment."""
    return lambda: running(upstream, tmp_path)


@pytest.fixture
def make_key() -> Any:
    return key_entry
