"""The executor's wiring."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from catalog import watch
from catalog.view import ProviderKind
from completions.version import Version
from kit import config
from kit.clock import SystemClock
from kit.credentials_config import CredentialsConfig
from kit.egress import Egress, EgressPolicy
from kit.egress_config import EgressConfig
from kit.errors import CannotStart
from kit.events.outbox import outbox
from kit.runtime import Runtime
from kit.secrets import Keyring
from services.executor import convert
from services.executor.application import Executor
from services.executor.config import ExecutorConfig
from services.executor.contracts import Contracts
from services.executor.credentials import OpenedCredentials
from services.executor.ports import Provider
from services.executor.prepared import PreparedVersions
from services.executor.prices import GenaiPrices
from services.executor.providers.openai import OpenAi
from services.executor.providers.unsupported import Unsupported
from services.executor.recorder import OutboxRecorder
from services.executor.servicer import ExecutionServicer
from turnout.executor.v1 import execution_service_pb2_grpc as rpc

_MAX_CONNECTIONS = 4096
"""To providers, and to any one of them: what bounds calls is the server's own limit, not the wait for a connection."""


@asynccontextmanager
async def module(runtime: Runtime) -> AsyncIterator[None]:
    """Executor: owns nothing yet; answers ExecutionService; announces RequestServed and RequestPayload."""
    settings = config.load(ExecutorConfig)
    keyring = _keyring(config.load(CredentialsConfig))
    policy = EgressPolicy(allow_private=config.load(EgressConfig).egress_allow_private)
    catalog = await runtime.shared(watch.catalog)
    events = await runtime.shared(outbox)
    prices = GenaiPrices()
    async with (
        Egress(policy, max_connections=_MAX_CONNECTIONS, max_connections_per_host=_MAX_CONNECTIONS) as egress,
        prices.loading(),
    ):
        openai = OpenAi(
            egress,
            runtime.tracing,
            frozenset(settings.retry_statuses),
            max_response_bytes=settings.max_response_bytes,
            max_stream_bytes=settings.max_stream_bytes,
        )
        providers: dict[ProviderKind, Provider] = dict.fromkeys(ProviderKind, Unsupported())
        providers |= dict.fromkeys((ProviderKind.OPENAI, ProviderKind.OPENAI_COMPATIBLE), openai)
        executor = Executor(
            catalog=catalog,
            contracts=Contracts(settings.prepared_versions),
            prepared=PreparedVersions(_PackedVersions(), providers, settings.prepared_versions),
            providers=providers,
            credentials=OpenedCredentials(keyring),
            recorder=OutboxRecorder(events, runtime.options.instance, settings.capture_payloads),
            prices=prices,
            clock=SystemClock(),
        )
        servicer = ExecutionServicer(executor)
        rpc.add_ExecutionServiceServicer_to_server(servicer, runtime.server.registrar)
        yield


@dataclass(frozen=True, slots=True)
class _PackedVersions:
    def unpack(self, packed: bytes) -> Version:
        return convert.version_from_packed(packed)


def _keyring(settings: CredentialsConfig) -> Keyring | None:
    """None if there are no keys: then only providers that want no credential can be called."""
    text = settings.key_encryption_keys.get_secret_value()
    if not text:
        return None
    try:
        return Keyring.parse(text)
    except ValueError as error:
        raise CannotStart(f"TURNOUT_KEY_ENCRYPTION_KEYS: {error}") from None
