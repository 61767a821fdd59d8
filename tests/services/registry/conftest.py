from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.message import Message

from catalog import keys, watch
from catalog.watch import Catalog
from kit import status
from kit.errors import AppError
from kit.interceptors import Auth, Chain, Validation
from kit.migrations import migrate
from kit.runtime import ProcessOptions, Runtime
from kit.secrets import Keyring
from kit.server import Server, ServerOptions
from kit.telemetry import Tracing
from services.registry import module as registry_module
from services.registry.tables import SCHEMA
from stack.postgres import Postgres
from turnout.registry.v1 import api_key_service_pb2 as key_service_pb
from turnout.registry.v1 import (
    api_key_service_pb2_grpc,
    catalog_service_pb2_grpc,
    change_request_service_pb2_grpc,
    deployment_pb2,
    deployment_service_pb2,
    deployment_service_pb2_grpc,
    model_pb2,
    model_service_pb2,
    model_service_pb2_grpc,
    project_service_pb2,
    project_service_pb2_grpc,
    prompt_service_pb2_grpc,
    provider_pb2,
    provider_service_pb2,
    provider_service_pb2_grpc,
    version_pb2,
    version_service_pb2_grpc,
)

STUBS = (
    project_service_pb2_grpc.ProjectServiceStub,
    provider_service_pb2_grpc.ProviderServiceStub,
    version_service_pb2_grpc.VersionServiceStub,
    prompt_service_pb2_grpc.PromptServiceStub,
    deployment_service_pb2_grpc.DeploymentServiceStub,
    change_request_service_pb2_grpc.ChangeRequestServiceStub,
    model_service_pb2_grpc.ModelServiceStub,
    api_key_service_pb2_grpc.ApiKeyServiceStub,
    catalog_service_pb2_grpc.CatalogServiceStub,
)


@dataclass
class Client:
    """Calls a registry over TCP with one key, and reads its own writes."""

    channel: grpc.aio.Channel
    key: str
    project: str = ""
    """Slug of the key's project."""
    sequence: int = 0
    rpcs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for stub in STUBS:
            made = stub(self.channel)
            self.rpcs |= {name: rpc for name, rpc in vars(made).items() if not name.startswith("_")}

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.key}"), (keys.SEQUENCE_HEADER, str(self.sequence)))

    async def call(self, rpc: str, request: Message) -> Any:
        """The answer of a unary rpc."""
        call = self.rpcs[rpc](request, metadata=self.metadata, timeout=20)
        answer = await call
        for name, value in await call.trailing_metadata():
            if name == keys.SEQUENCE_HEADER:
                self.sequence = int(value)
        return answer

    async def fails(self, rpc: str, request: Message) -> AppError:
        """The error of a unary rpc, as a caller would understand it."""
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await self.rpcs[rpc](request, metadata=self.metadata, timeout=20)
        return status.from_rpc_error(failure.value, peer="registry")

    def watch(self, request: Message) -> Any:
        """The catalog's stream."""
        return self.rpcs["WatchCatalog"](request, metadata=self.metadata)


@dataclass
class Registry:
    """A registry that runs here, on a port of its own."""

    url: str
    runtime: Runtime
    catalog: Catalog
    channel: grpc.aio.Channel
    platform: Client
    service: Client

    async def new_project(
        self, slug: str = "", scopes: tuple[str, ...] = ("registry:read", "registry:write", "keys:admin")
    ) -> Client:
        """A project, and a client with a key of it."""
        slug = slug or f"p{uuid.uuid4().hex[:12]}"
        await self.platform.call("CreateProject", project_service_pb2.CreateProjectRequest(project_id=slug))
        return await self.client(slug, scopes)

    async def client(self, project: str, scopes: tuple[str, ...]) -> Client:
        """A client with a new key."""
        request = key_service_pb.CreateApiKeyRequest(parent=f"projects/{project}")
        request.api_key.display_name = "test"
        request.api_key.scopes.extend(scopes)
        key = await self.platform.call("CreateApiKey", request)
        return Client(self.channel, key.key, project, self.platform.sequence)


@dataclass(frozen=True)
class Keys:
    """The bootstrap keys of an installation."""

    platform: str
    service: str


Start = Callable[..., AbstractAsyncContextManager[Registry]]


@asynccontextmanager
async def _start(url: str, bootstrap: Keys, **environment: str) -> AsyncIterator[Registry]:
    settings = {
        "TURNOUT_REGISTRY_DATABASE_URL": url,
        "TURNOUT_REGISTRY_BOOTSTRAP_PLATFORM_KEY": bootstrap.platform,
        "TURNOUT_REGISTRY_BOOTSTRAP_SERVICE_KEY": bootstrap.service,
        "TURNOUT_SERVICE_KEY": bootstrap.service,
        "TURNOUT_KEY_ENCRYPTION_KEYS": KEYRING,
        "TURNOUT_EGRESS_ALLOW_PRIVATE": "false",
        "TURNOUT_REGISTRY_MODEL_CHECK": "false",
        **environment,
    }
    auth, tracing = Auth(), Tracing(sample_ratio=0, resource={}, exporter=None)
    options = ServerOptions("127.0.0.1:0", 1000, 300, 0, shares_port=False)
    server = Server(Chain(tracing, (auth, Validation())), options)
    process = ProcessOptions("ins_test", ("registry",), {}, None, None)
    async with AsyncExitStack() as stack:
        runtime = await stack.enter_async_context(Runtime(process, server, tracing))
        with pytest.MonkeyPatch.context() as patch:
            for name, value in settings.items():
                patch.setenv(name, value)
            catalog = await runtime.shared(watch.catalog)
            await runtime.enter(registry_module.module)
            auth.use(await runtime.shared(registry_module.authenticator))
        await server.start()
        stack.push_async_callback(server.stop)
        runtime.wired.set()
        await asyncio.wait_for(runtime.ready_when("the catalog").wait(), 10)
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")
        stack.push_async_callback(channel.close)
        yield Registry(
            url, runtime, catalog, channel, Client(channel, bootstrap.platform), Client(channel, bootstrap.service)
        )


KEYRING = Keyring.generate_setting("test")
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def start() -> Start:
    """Starts a registry on a migrated database: `start(url, keys, **environment)`."""
    return _start


@pytest.fixture(scope="session")
def keyring() -> str:
    """The setting of the registries' key-encryption keys."""
    return KEYRING


def _new_database(postgres: Postgres) -> str:
    return asyncio.run(_migrated(postgres, f"registry_{next(_numbers)}"))


async def _migrated(postgres: Postgres, name: str) -> str:
    postgres.create_database(name)
    await migrate(postgres.url(name), schema=SCHEMA, folder=registry_module.MIGRATIONS)
    return postgres.url(name)


@pytest.fixture(scope="session")
def migrated() -> Callable[[Postgres, str], Awaitable[str]]:
    """Makes a migrated database; its address."""
    return _migrated


@pytest.fixture(scope="module")
def database_url(postgres: Postgres) -> str:
    """A migrated database for the tests of one module."""
    return _new_database(postgres)


@pytest.fixture
def own_database(postgres: Postgres) -> str:
    """A migrated database for one test."""
    return _new_database(postgres)


def _new_keys() -> Keys:
    return Keys(keys.new_key().text, keys.new_key().text)


@pytest.fixture(scope="session")
def new_keys() -> Callable[[], Keys]:
    """Makes bootstrap keys."""
    return _new_keys


@pytest.fixture(scope="module")
def bootstrap_keys() -> Keys:
    """The bootstrap keys of one module's registries."""
    return _new_keys()


@pytest.fixture
async def registry(database_url: str, bootstrap_keys: Keys, start: Start) -> AsyncIterator[Registry]:
    """A registry on the module's database."""
    async with start(database_url, bootstrap_keys) as running:
        yield running


@pytest.fixture
async def shop(registry: Registry) -> Client:
    """A client of a fresh project that has a provider `main`."""
    client = await registry.new_project()
    await client.call(
        "CreateProvider",
        provider_service_pb2.CreateProviderRequest(
            parent=f"projects/{client.project}",
            provider_id="main",
            provider=provider_pb2.Provider(kind=provider_pb2.PROVIDER_KIND_OPENAI),
        ),
    )
    return client


def _deployment_request(project: str, slug: str = "helper", texts: tuple[str, ...] = ("Hello {{ name }}",)) -> Any:
    request = deployment_service_pb2.CreateDeploymentRequest(parent=f"projects/{project}", deployment_id=slug)
    request.deployment.kind = deployment_pb2.DEPLOYMENT_KIND_COMPLETION
    for text in texts:
        request.deployment.variants.add().completion.new_version.CopyFrom(_version(text))
    return request


def _version(text: str = "Hello {{ name }}") -> version_pb2.Version:
    version = version_pb2.Version(provider="main", model="small")
    version.messages.add(role=3, content=text)
    return version


@pytest.fixture(scope="session")
def deployment_request() -> Callable[..., Any]:
    """Makes `CreateDeploymentRequest(project, slug, texts)`: a variant of a new version for each text."""
    return _deployment_request


@pytest.fixture(scope="session")
def new_version() -> Callable[..., version_pb2.Version]:
    """Makes a version with one user message."""
    return _version


def _model_request(client: Client, seed: str = "a", **fields: Any) -> Any:
    model = model_pb2.Model(digest=blake2b(seed.encode(), digest_size=32).hexdigest(), algorithm="als", **fields)
    key = client.key.split("_")[1]
    return model_service_pb2.RegisterModelRequest(parent=f"projects/{client.project}", model=model, on_behalf_of=key)


@pytest.fixture(scope="session")
def model_request() -> Callable[..., Any]:
    """Makes `RegisterModelRequest(client, seed, **fields)`: another artifact for each seed, on behalf of the client."""
    return _model_request


async def _eventually(condition: Callable[[], Awaitable[object]], what: str, seconds: float = 10) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not await condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"not within {seconds} s: {what}")


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Awaitable[None]]:
    """Waits for an asynchronous condition, at most 10 s."""
    return _eventually


def _methods() -> list[Any]:
    pool = descriptor_pool.Default()
    names = (
        "Project", "Provider", "Prompt", "Version", "Deployment", "ChangeRequest", "Model", "ApiKey", "Catalog",
    )  # fmt: skip
    services = [pool.FindServiceByName(f"turnout.registry.v1.{name}Service") for name in names]
    return [method for service in services for method in service.methods]


@pytest.fixture(scope="session")
def methods() -> list[Any]:
    """The descriptors of all rpcs of the registry."""
    return _methods()


async def _state_of(url: str) -> dict[str, Any]:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        tables = await connection.fetch(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = $1 ORDER BY 1", SCHEMA
        )
        return {
            table: await connection.fetch(f'SELECT * FROM {SCHEMA}."{table}" ORDER BY 1, 2')
            for (table,) in tables
            if table != "alembic_version"
        }
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def state_of() -> Callable[[str], Awaitable[dict[str, Any]]]:
    """Everything that is stored, to find that nothing changed."""
    return _state_of
