"""How the registry is put together."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
from sqlalchemy.exc import SQLAlchemyError

from catalog import keys, watch
from catalog.keys import CatalogAuthenticator
from kit import calls, config, database, ids
from kit.changelog import ChangeLog, Feed
from kit.config import BadConfig
from kit.credentials_config import CredentialsConfig
from kit.egress import EgressPolicy
from kit.egress_config import EgressConfig
from kit.errors import CannotStart, Unavailable
from kit.migrations import require_current
from kit.runtime import Runtime
from kit.secrets import Keyring
from services.registry.application.api_keys import ApiKeys
from services.registry.application.bootstrap import Bootstrap, BootstrapKey
from services.registry.application.changes import Changes
from services.registry.application.deployments import Deployments
from services.registry.application.history import History
from services.registry.application.models import Models
from services.registry.application.projects import Projects
from services.registry.application.providers import Providers
from services.registry.application.variants import Variants
from services.registry.application.versions import Versions
from services.registry.authenticator import RegistryAuthenticator
from services.registry.clients import EgressCheck, KeyringVault
from services.registry.config import RegistryConfig
from services.registry.servicer import (
    ApiKeyServicer,
    CatalogServicer,
    DeploymentServicer,
    ModelServicer,
    ProjectServicer,
    ProviderServicer,
    VersionServicer,
)
from services.registry.store import PostgresStore
from services.registry.tables import SCHEMA
from turnout.registry.v1 import (
    api_key_service_pb2_grpc,
    catalog_service_pb2_grpc,
    deployment_service_pb2_grpc,
    model_service_pb2_grpc,
    project_service_pb2_grpc,
    provider_service_pb2_grpc,
    version_service_pb2_grpc,
)

MIGRATIONS = Path(__file__).parent / "migrations"


@asynccontextmanager
async def module(runtime: Runtime) -> AsyncIterator[None]:
    """Registry: owns projects, providers, versions, deployments and keys; tells followers what changed."""
    settings = config.load(RegistryConfig)
    storage = await runtime.shared(_storage)
    vault = KeyringVault(_keyring(config.load(CredentialsConfig)))
    check_url = EgressCheck(EgressPolicy(allow_private=config.load(EgressConfig).egress_allow_private))
    store = storage.store
    bootstrap = Bootstrap(store, keys, _now, _bootstrap_keys(settings))
    feed = Feed(storage.log, store.sessions, storage.url, on_recovery=bootstrap.ensure_keys)
    await bootstrap.ensure_keys()
    await feed.start()

    catalog = await runtime.shared(watch.catalog)

    async def seen_here(sequence: int) -> None:
        # A view that lags is no failure of a write that is committed.
        with suppress(Unavailable):
            await catalog.reach(sequence, calls.current())

    server = runtime.server.registrar
    projects = Projects(store, _now, ids.new_uid)
    providers = Providers(store, vault, check_url, _now, ids.new_uid)
    deployments = Deployments(store, _now, ids.new_uid)
    project_service_pb2_grpc.add_ProjectServiceServicer_to_server(ProjectServicer(projects), server)
    provider_service_pb2_grpc.add_ProviderServiceServicer_to_server(ProviderServicer(providers), server)
    version_service_pb2_grpc.add_VersionServiceServicer_to_server(VersionServicer(Versions(store, _now)), server)
    changes = Changes(_now, ids.new_uid)
    deployment_service_pb2_grpc.add_DeploymentServiceServicer_to_server(
        DeploymentServicer(deployments, Variants(store, changes), History(store, changes)), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelServicer(Models(store, _now, ids.new_uid)), server)
    api_key_service_pb2_grpc.add_ApiKeyServiceServicer_to_server(
        ApiKeyServicer(ApiKeys(store, keys, _now), seen_here), server
    )
    catalog_service_pb2_grpc.add_CatalogServiceServicer_to_server(CatalogServicer(feed), server)
    runtime.when_stopping(feed.close)
    async with runtime.background("registry: change log", feed.run()):
        yield


@asynccontextmanager
async def authenticator(runtime: Runtime) -> AsyncIterator[RegistryAuthenticator]:
    """Who checks keys in a process that holds the registry; made once (`await runtime.shared(authenticator)`)."""
    storage = await runtime.shared(_storage)
    by_view = CatalogAuthenticator(await runtime.shared(watch.catalog))
    yield RegistryAuthenticator(storage.store, by_view, lambda: time.time() * 1000)


@dataclass(frozen=True, slots=True)
class _Storage:
    url: str
    log: ChangeLog
    store: PostgresStore


@asynccontextmanager
async def _storage(runtime: Runtime) -> AsyncIterator[_Storage]:
    """The database, found to be there and at the right version.

    :raises CannotStart: otherwise, saying what to change
    """
    url = config.load(RegistryConfig).database_url.get_secret_value()
    if not url:
        raise BadConfig("bad settings:\n  TURNOUT_REGISTRY_DATABASE_URL: is not set")
    try:
        await require_current(url, schema=SCHEMA, folder=MIGRATIONS)
    except (Unavailable, SQLAlchemyError, asyncpg.PostgresError, ValueError) as error:
        # The type only: a driver's sentence may quote the address, and with it the password.
        cause = error.reason if isinstance(error, Unavailable) else type(error).__name__
        raise CannotStart(
            f"TURNOUT_REGISTRY_DATABASE_URL: the registry's database cannot be used ({cause}); "
            "is the address right, and does the server run?"
        ) from None
    async with database.sessions(url, schema=SCHEMA) as sessions:
        log = ChangeLog(SCHEMA)
        yield _Storage(url, log, PostgresStore(sessions, log))


def _keyring(settings: CredentialsConfig) -> Keyring | None:
    text = settings.key_encryption_keys.get_secret_value()
    try:
        return Keyring.parse(text) if text else None
    except ValueError as error:
        raise BadConfig(f"bad settings:\n  TURNOUT_KEY_ENCRYPTION_KEYS: {error}") from None


def _bootstrap_keys(settings: RegistryConfig) -> tuple[BootstrapKey, ...]:
    candidates = (
        BootstrapKey(
            "TURNOUT_REGISTRY_BOOTSTRAP_PLATFORM_KEY",
            settings.bootstrap_platform_key.get_secret_value(),
            "bootstrap platform key",
            ("platform:admin",),
        ),
        BootstrapKey(
            "TURNOUT_REGISTRY_BOOTSTRAP_SERVICE_KEY",
            settings.bootstrap_service_key.get_secret_value(),
            "bootstrap service key",
            ("catalog:credentials", "catalog:watch", "models:register"),
        ),
    )
    return tuple(key for key in candidates if key.text)


def _now() -> datetime:
    return datetime.now(UTC)
