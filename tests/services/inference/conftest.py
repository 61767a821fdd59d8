"""The room over a real server with real artifacts: a scripted registry is its only peer, and NATS is down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from catalog import watch
from catalog.keys import SEQUENCE_HEADER, CatalogAuthenticator
from kit import calls, ids
from kit.calls import Call, Principal
from kit.errors import Unavailable
from kit.interceptors import Auth, Chain, Validation
from kit.runtime import ProcessOptions, Runtime
from kit.server import Server, ServerOptions
from kit.spool.folder import folder_paths
from kit.spool.record import frames, records_of
from kit.spool.segment import MAGIC, list_segments, read
from kit.telemetry import Tracing
from recommenders.artifact import MANIFEST, Manifest, parse_manifest
from services.inference.module import module
from tests.services.inference.artifacts import write
from tests.services.scripted_registry import (
    SERVICE_KEY,
    Gate,
    ScriptedRegistry,
    deployment_entry,
    key_entry,
    project_entry,
    variant,
)
from turnout.events.v1 import request_pb2
from turnout.inference.v1 import artifact_service_pb2 as artifact_pb
from turnout.inference.v1 import artifact_service_pb2_grpc as artifact_rpc
from turnout.inference.v1 import recommendation_service_pb2 as pb
from turnout.inference.v1 import recommendation_service_pb2_grpc as rpc
from turnout.registry.v1 import (
    catalog_pb2,
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    deployment_pb2,
    model_pb2,
    model_service_pb2,
    model_service_pb2_grpc,
)

RECOMMENDATION = deployment_pb2.DEPLOYMENT_KIND_RECOMMENDATION


class ServiceGate(Gate):
    """Our own key may also register models."""

    async def authenticate(self, key: str, call: Call) -> Principal:
        if key == SERVICE_KEY:
            return Principal("service", "", frozenset({"catalog:watch", "models:register"}))
        return await super().authenticate(key, call)


class ScriptedModels(model_service_pb2_grpc.ModelServiceServicer):
    """Registers what it is told, unless a test has taken it down."""

    def __init__(self) -> None:
        self.requests: list[model_service_pb2.RegisterModelRequest] = []
        self.is_down = False

    async def RegisterModel(self, request: model_service_pb2.RegisterModelRequest, context: Any) -> model_pb2.Model:
        if self.is_down:
            raise Unavailable("the registry's database is down", reason="DATABASE_UNAVAILABLE")
        self.requests.append(request)
        known = sorted({each.model.digest for each in self.requests})
        model = model_pb2.Model()
        model.CopyFrom(request.model)
        model.uid, model.number = f"mod_{known.index(model.digest)}", 1 + known.index(model.digest)
        calls.current().trailing_metadata.append((SEQUENCE_HEADER, "7"))
        return model


def model_entry(number: int, digest: str, project: str = "prj_shop") -> catalog_pb2.CatalogEntry:
    """A trained model `mod_<number>`."""
    model = catalog_pb2.CatalogModel(uid=f"mod_{number}", project=project, number=number, digest=digest)
    return catalog_pb2.CatalogEntry(key=f"model/{model.uid}", model=model)


@dataclass
class Room:
    """A running room and what a test needs around it."""

    stub: Any
    artifact_stub: Any
    registry: ScriptedRegistry
    models: ScriptedModels
    catalog: watch.Catalog
    runtime: Runtime
    spool: Path
    artifacts: Path
    key: str
    address: str
    sequence: int = 1
    manifests: dict[int, Manifest] = field(default_factory=dict)

    def make(self, number: int, seed: int | None = None, **shape: int) -> Manifest:
        """Put an artifact of a seed where the room finds it; by default the model's number."""
        made = self.artifacts / "incoming" / f"made-{number}"
        manifest = write(made, number if seed is None else seed, **shape)
        place = self.folder(manifest.digest)
        place.parent.mkdir(exist_ok=True)
        if not place.exists():
            made.rename(place)
        self.manifests[number] = manifest
        return manifest

    def folder(self, digest: str) -> Path:
        """Where an artifact lies."""
        return self.artifacts / digest[:2] / digest

    async def recommend(
        self,
        deployment: str = "films",
        user_id: str = "u00003",
        *,
        key: str | None = None,
        timeout: float = 20,
        **rest: Any,
    ) -> Any:
        """A call."""
        metadata = (("authorization", f"Bearer {self.key if key is None else key}"),)
        request = pb.RecommendRequest(deployment=deployment, user_id=user_id, **rest)
        return await self.stub.Recommend(request, metadata=metadata, timeout=timeout)

    async def failure(self, *args: Any, **rest: Any) -> grpc.aio.AioRpcError:
        """The failure of a call that must fail."""
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await self.recommend(*args, **rest)
        return failure.value

    async def loaded(self, project: str = "shop", *, key: str | None = None) -> list[Any]:
        """What the process holds."""
        metadata = (("authorization", f"Bearer {self.key if key is None else key}"),)
        request = pb.ListLoadedModelsRequest(parent=f"projects/{project}")
        return list((await self.stub.ListLoadedModels(request, metadata=metadata, timeout=20)).models)

    async def until_loaded(self, number: int, state: str = "READY") -> Any:
        """One model, once it is so far."""
        wanted = pb.LoadedModelState.Value(f"LOADED_MODEL_STATE_{state}")
        async with asyncio.timeout(10):
            while True:
                for loaded in await self.loaded():
                    if (loaded.model_number, loaded.state) == (number, wanted):
                        return loaded
                await asyncio.sleep(0.01)

    async def upload(
        self, pieces: Sequence[artifact_pb.UploadModelRequest], *, key: str | None = None, timeout: float = 20
    ) -> tuple[Any, list[tuple[str, Any]]]:
        """The model that an upload makes, and what came with the answer."""
        metadata = (("authorization", f"Bearer {self.key if key is None else key}"),)
        call = self.artifact_stub.UploadModel(iter(pieces), metadata=metadata, timeout=timeout)
        return await call, list(await call.trailing_metadata() or ())

    async def refused(self, pieces: Sequence[artifact_pb.UploadModelRequest], **rest: Any) -> grpc.aio.AioRpcError:
        """The failure of an upload that must fail."""
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await self.upload(pieces, **rest)
        return failure.value

    def kept(self) -> list[str]:
        """Every file below the artifacts' folder."""
        return sorted(str(path.relative_to(self.artifacts)) for path in self.artifacts.rglob("*") if path.is_file())

    async def until_nothing_comes_in(self) -> None:
        """Wait until no upload has left anything on its way in."""
        async with asyncio.timeout(10):
            while list((self.artifacts / "incoming").iterdir()):
                await asyncio.sleep(0.01)

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

    def payloads(self) -> list[Any]:
        """What was recommended."""
        name = "turnout.events.v1.RequestPayload.shop"
        return [
            json.loads(request_pb2.RequestPayload.FromString(data).data)
            for subject, data in self.events()
            if subject == name
        ]

    async def put(self, *entries: catalog_pb2.CatalogEntry) -> None:
        """Change the catalog, and wait until the room has it."""
        self.sequence += 1
        self.registry.changes.put_nowait(catalog_service_pb2.CatalogChange(sequence=self.sequence, entries=entries))
        await self.catalog.reach(self.sequence)

    async def deploy(self, *models: int, slug: str = "films", revision: str = "rev_2", refuse: bool = False) -> None:
        """Put models behind the slots of a deployment, with all weight on the first."""
        variants = []
        for place, number in enumerate(models):
            made = variant(f"v{place + 1}", model=f"mod_{number}", weight=0 if place else 100)
            if refuse:
                made.recommendation.unknown_users = deployment_pb2.UNKNOWN_USERS_REFUSE
            variants.append(made)
        entries = [model_entry(number, self.manifests[number].digest) for number in models]
        await self.put(*entries, deployment_entry(slug, *variants, kind=RECOMMENDATION, revision=revision))


def pieces_of(
    folder: Path, *, parent: str = "projects/shop", chunk_bytes: int = 1 << 16, **header: str
) -> list[artifact_pb.UploadModelRequest]:
    """An upload of an artifact's folder, as a client makes it."""
    text = (folder / MANIFEST).read_bytes()
    request = artifact_pb.UploadModelRequest
    found = [request(header=artifact_pb.UploadModelHeader(parent=parent, manifest=text, **header))]
    for file in parse_manifest(text).files:
        data = (folder / file.name).read_bytes()
        for start in range(0, len(data), chunk_bytes):
            chunk = artifact_pb.UploadModelChunk(file=file.name, data=data[start : start + chunk_bytes])
            found.append(request(chunk=chunk))
    return found


@asynccontextmanager
async def running(data_dir: Path, artifacts: Path) -> AsyncIterator[Room]:
    """A room, in a process of its own but for the process."""
    key, usual_key = key_entry("predict", "registry:read", "registry:write")
    gate, models = ServiceGate(), ScriptedModels()  # type: ignore[abstract]  # asked for nothing else
    registry = ScriptedRegistry(
        project_entry("prj_shop", "shop"),
        project_entry("prj_other", "other"),
        usual_key,
        deployment_entry("assistant", variant()),
        deployment_entry("foreign", project="prj_other", kind=RECOMMENDATION),
        deployment_entry("empty", kind=RECOMMENDATION),
    )
    tracing = Tracing(sample_ratio=0, resource={}, exporter=None)
    options = ServerOptions("127.0.0.1:0", 20_000, 300, 0.2, shares_port=False)
    server = Server(Chain(tracing, (Auth(gate), Validation())), options)
    process = ProcessOptions(ids.new_uid("ins"), ("registry", "inference"), {}, None, None)
    async with Runtime(process, server, tracing) as runtime:
        catalog_service_pb2_grpc.add_CatalogServiceServicer_to_server(registry, server.registrar)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(models, server.registrar)
        catalog = await runtime.shared(watch.catalog)
        gate.inner = CatalogAuthenticator(catalog)
        await runtime.enter(module)
        await server.start()
        runtime.wired.set()
        await catalog.reach(1)
        address = f"127.0.0.1:{server.port}"
        async with grpc.aio.insecure_channel(address) as channel:
            stubs = rpc.RecommendationServiceStub(channel), artifact_rpc.ArtifactServiceStub(channel)
            yield Room(*stubs, registry, models, catalog, runtime, data_dir / "spool", artifacts, key, address)
        await server.stop()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.setenv("TURNOUT_DATA_DIR", str(tmp_path))
    # Nothing listens there: events wait in the spool, where the tests read them.
    monkeypatch.setenv("TURNOUT_NATS_URL", "nats://127.0.0.1:1")
    monkeypatch.setenv("TURNOUT_SERVICE_KEY", SERVICE_KEY)
    (tmp_path / "artifacts").mkdir()
    monkeypatch.setenv("TURNOUT_INFERENCE_ARTIFACTS_DIR", str(tmp_path / "artifacts"))
    return monkeypatch


@pytest.fixture
def start_room(environment: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], Any]:
    """Starts a room once a test has set its environment."""
    return lambda: running(tmp_path, tmp_path / "artifacts")


@pytest.fixture
async def room(start_room: Callable[[], Any]) -> AsyncIterator[Room]:
    async with start_room() as room:
        yield room
