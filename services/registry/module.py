"""How the registry is put together."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
from sqlalchemy.exc import SQLAlchemyError

from catalog import keys, watch
from kit import calls, config, database, ids
from kit.changelog import ChangeLog, Feed
from kit.config import BadConfig
from kit.credentials_config import CredentialsConfig
from kit.egress import Egress, EgressPolicy
from kit.egress_config import EgressConfig
from kit.errors import CannotStart, Unavailable
from kit.events.broker import broker
from kit.events.consumer import ConsumerOptions, consume
from kit.metrics import metrics
from kit.runtime import Runtime
from kit.schema_version import require_current
from kit.secrets import Keyring
from services.registry.application.api_keys import ApiKeys
from services.registry.application.bootstrap import Bootstrap, BootstrapKey
from services.registry.application.change_requests import ChangeRequests
from services.registry.application.changes import Changes
from services.registry.application.compatibility import Compatibility
from services.registry.application.credentials import Credentials
from services.registry.application.deployments import Deployments
from services.registry.application.expiry import Expiry
from services.registry.application.history import History
from services.registry.application.models import Models
from services.registry.application.projects import Projects
from services.registry.application.prompts import Prompts
from services.registry.application.provider_models import ModelChecks, ProviderModels
from services.registry.application.providers import Providers
from services.registry.application.sightings import Sightings
from services.registry.application.snippets import Snippets
from services.registry.application.variants import Variants
from services.registry.application.versions import Versions
from services.registry.authenticator import RegistryAuthenticator
from services.registry.clients import EgressCheck, KeyringVault
from services.registry.config import RegistryConfig
from services.registry.domain import Addresses
from services.registry.providers import KeptModelLists, ModelListReader
from services.registry.servicer import (
    ApiKeyServicer,
    CatalogServicer,
    ChangeRequestServicer,
    DeploymentServicer,
    ModelServicer,
    ProjectServicer,
    PromptServicer,
    ProviderServicer,
    VersionServicer,
)
from services.registry.store import PostgresStore
from services.registry.subscriber import BATCH_EVENTS, DURABLE, SUBJECTS, Subscriber
from services.registry.tables import SCHEMA
from turnout.registry.v1 import (
    api_key_service_pb2_grpc,
    catalog_service_pb2_grpc,
    change_request_service_pb2_grpc,
    deployment_service_pb2_grpc,
    model_service_pb2_grpc,
    project_service_pb2_grpc,
    prompt_service_pb2_grpc,
    provider_service_pb2_grpc,
    version_service_pb2_grpc,
)

MIGRATIONS = Path(__file__).parent / "migrations"


@asynccontextmanager
async def module(runtime: Runtime) -> AsyncIterator[None]:
    """Registry: owns projects, providers, versions, deployments and keys; tells followers what changed."""
    settings = config.load(RegistryConfig)
    storage = await runtime.shared(_storage)
    vault, check_url, lists = _vault(), EgressCheck(_egress_policy()), await runtime.shared(_model_lists)
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
    expiry = timedelta(seconds=settings.version_expiry_seconds) or None
    projects = Projects(store, _now, ids.new_uid)
    providers = Providers(store, vault, check_url, _now, ids.new_uid)
    changes = Changes(_now, ids.new_uid, timedelta(seconds=settings.approval_time_seconds))
    model_checks = ModelChecks(store, lists, settings.model_check)
    deployments = Deployments(store, changes, model_checks)
    project_service_pb2_grpc.add_ProjectServiceServicer_to_server(ProjectServicer(projects), server)
    provider_service_pb2_grpc.add_ProviderServiceServicer_to_server(
        ProviderServicer(providers, ProviderModels(store, lists), Credentials(store, vault)), server
    )
    version_service_pb2_grpc.add_VersionServiceServicer_to_server(
        VersionServicer(Versions(store, _now, model_checks, expiry)), server
    )
    deployment_service_pb2_grpc.add_DeploymentServiceServicer_to_server(
        DeploymentServicer(
            deployments,
            Variants(store, changes, model_checks),
            History(store, changes),
            Compatibility(store),
            Snippets(store, Addresses(settings.http_url, settings.grpc_address)),
        ),
        server,
    )
    change_request_service_pb2_grpc.add_ChangeRequestServiceServicer_to_server(
        ChangeRequestServicer(ChangeRequests(store, changes), _now), server
    )
    prompts = Prompts(store, _now, ids.new_uid)
    prompt_service_pb2_grpc.add_PromptServiceServicer_to_server(PromptServicer(prompts), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelServicer(Models(store, _now, ids.new_uid)), server)
    api_keys = ApiKeys(store, keys, _now)
    api_key_service_pb2_grpc.add_ApiKeyServiceServicer_to_server(ApiKeyServicer(api_keys, seen_here), server)
    catalog_service_pb2_grpc.add_CatalogServiceServicer_to_server(CatalogServicer(feed, api_keys), server)
    runtime.when_stopping(feed.close)
    async with runtime.background("registry: change log", feed.run()), _seen_versions(runtime, store, expiry):
        yield


@asynccontextmanager
async def _seen_versions(runtime: Runtime, store: PostgresStore, expiry: timedelta | None) -> AsyncIterator[None]:
    """Versions come to be known by the calls that run them, and go when nobody does any more."""
    connected, measured = await runtime.shared(broker), await runtime.shared(metrics)
    subscriber = Subscriber(Sightings(store, _now), measured)
    options = ConsumerOptions(durable=DURABLE, subjects=SUBJECTS, batch_size=BATCH_EVENTS)
    consumption = consume(
        connected, options, subscriber.handle, subscriber.on_poison, linked_span=runtime.tracing.linked_span
    )
    async with AsyncExitStack() as work:
        await work.enter_async_context(runtime.background("registry: versions seen", consumption))
        if expiry is not None:
            sweeps = Expiry(store, _now, expiry).run()
            await work.enter_async_context(runtime.background("registry: expiry of versions", sweeps))
        yield


@asynccontextmanager
async def authenticator(runtime: Runtime) -> AsyncIterator[RegistryAuthenticator]:
    """Who checks keys in a process that holds the registry; made once (`await runtime.shared(authenticator)`)."""
    storage = await runtime.shared(_storage)
    yield RegistryAuthenticator(storage.store, await runtime.shared(watch.catalog), lambda: time.time() * 1000)


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


@asynccontextmanager
async def _model_lists(runtime: Runtime) -> AsyncIterator[KeptModelLists]:
    """What asks providers for their models."""
    async with Egress(_egress_policy(), max_connections=64, max_connections_per_host=8) as egress:
        reader = ModelListReader(egress, _vault(), _now, timeout_seconds=5)
        async with KeptModelLists(reader.read, time.monotonic) as lists:
            yield lists


def _egress_policy() -> EgressPolicy:
    return EgressPolicy(allow_private=config.load(EgressConfig).egress_allow_private)


def _vault() -> KeyringVault:
    return KeyringVault(_keyring(config.load(CredentialsConfig)))


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
