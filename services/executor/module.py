"""The executor's wiring."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from catalog import watch
from catalog.configurations import parameters_from_packed, version_from_packed
from catalog.plan import Planner
from catalog.process import compiler
from catalog.view import ProviderKind
from completions import vocabulary
from completions.version import Parameters, Version
from completions.vocabulary import Vocabulary
from kit import config
from kit.abreast import Abreast
from kit.clock import SystemClock
from kit.credentials_config import CredentialsConfig
from kit.egress import Egress, EgressPolicy
from kit.egress_config import EgressConfig
from kit.errors import CannotStart
from kit.events.outbox import outbox
from kit.runtime import Runtime
from kit.secrets import Keyring
from kit.telemetry import Tracing
from services.executor.application import Executor
from services.executor.application.attempts import Attempts
from services.executor.application.preparation import Preparation
from services.executor.breaker import BreakerPolicy, Breakers
from services.executor.config import ExecutorConfig
from services.executor.context import ContextWindows
from services.executor.contracts import Contracts
from services.executor.credentials import OpenedCredentials
from services.executor.idempotency import Idempotency, Unconfigured
from services.executor.limits import ProviderLimits
from services.executor.output_check import OutputChecks
from services.executor.ports import Provider
from services.executor.prepared import PreparedVersions
from services.executor.prices import GenaiPrices
from services.executor.providers.anthropic import Anthropic
from services.executor.providers.ollama import Ollama
from services.executor.providers.openai import OpenAi
from services.executor.recorder import OutboxRecorder
from services.executor.servicer import ExecutionServicer
from services.executor.traces import PastTraces
from turnout.executor.v1 import execution_service_pb2_grpc as rpc

_MAX_CONNECTIONS = 4096
"""To providers, and to any one of them: what bounds calls is the server's own limit, not the wait for a connection."""


@asynccontextmanager
async def module(runtime: Runtime) -> AsyncIterator[None]:
    """Executor: owns idempotency records; answers ExecutionService; announces RequestServed, RequestPayload and
    VersionSeen."""
    settings = config.load(ExecutorConfig)
    keyring = _keyring(config.load(CredentialsConfig))
    policy = EgressPolicy(allow_private=config.load(EgressConfig).egress_allow_private)
    catalog = await runtime.shared(watch.catalog)
    events = await runtime.shared(outbox)
    clock, prices = SystemClock(), GenaiPrices()
    counter = await asyncio.to_thread(_vocabulary) if settings.count_tokens else None
    abreast = runtime.abreast
    async with (
        Egress(
            policy,
            max_connections=_MAX_CONNECTIONS,
            max_connections_per_host=_MAX_CONNECTIONS,
            abreast=abreast,
        ) as egress,
        prices.loading(),
        _idempotency(runtime, settings) as idempotency,
    ):
        providers = _providers(egress, runtime.tracing, settings, abreast)
        executor = Executor(
            catalog=catalog,
            preparation=Preparation(
                Planner(runtime.tracing, await runtime.shared(compiler)),
                Contracts(max_contracts=settings.prepared_versions, max_bytes=settings.prepared_bytes // 4),
                PreparedVersions(
                    _PackedVersions(),
                    providers,
                    OutputChecks(max_checks=settings.prepared_versions, max_bytes=settings.prepared_bytes // 4),
                    max_versions=settings.prepared_versions,
                    max_bytes=settings.prepared_bytes,
                ),
                OpenedCredentials(keyring),
            ),
            attempts=Attempts(
                providers=providers,
                breakers=Breakers(_breaker_policy(settings), clock.uniform),
                limits=ProviderLimits(
                    clock.now, max_waiting=settings.max_waiting_calls, max_wait_seconds=settings.max_wait_seconds
                ),
                windows=ContextWindows(prices, counter),
                prices=prices,
                clock=clock,
                max_concurrent_calls=settings.max_concurrent_calls,
            ),
            recorder=OutboxRecorder(
                events,
                runtime.options.instance,
                settings.capture_payloads,
                PastTraces(runtime.tracing, round(settings.slow_seconds * 1e6)),
            ),
            clock=clock,
            abreast=abreast,
        )
        servicer = ExecutionServicer(executor, idempotency)
        rpc.add_ExecutionServiceServicer_to_server(servicer, runtime.server.registrar)
        yield


def _providers(
    egress: Egress, tracing: Tracing, settings: ExecutorConfig, abreast: Abreast
) -> dict[ProviderKind, Provider]:
    statuses = frozenset(settings.retry_statuses)
    sizes = settings.max_response_bytes, settings.max_stream_bytes
    openai = OpenAi(egress, tracing, statuses, *sizes, abreast)
    return {
        ProviderKind.OPENAI: openai,
        ProviderKind.OPENAI_COMPATIBLE: openai,
        ProviderKind.ANTHROPIC: Anthropic(egress, tracing, statuses, *sizes, abreast),
        ProviderKind.OLLAMA: Ollama(egress, tracing, statuses, *sizes, abreast),
    }


def _breaker_policy(settings: ExecutorConfig) -> BreakerPolicy:
    return BreakerPolicy(
        window_seconds=settings.breaker_window_seconds,
        min_failures=settings.breaker_min_failures,
        min_failed_share=settings.breaker_min_failed_share,
        ejection_seconds=settings.breaker_ejection_seconds,
        max_ejection_seconds=settings.breaker_max_ejection_seconds,
    )


@asynccontextmanager
async def _idempotency(runtime: Runtime, settings: ExecutorConfig) -> AsyncIterator[Idempotency]:
    """Calls that are made once, if there is a database that remembers them."""
    url = settings.database_url.get_secret_value()
    if not url:
        yield Idempotency(Unconfigured(), SystemClock())
        return
    # Late: without a database, no library for one is loaded.
    from services.executor.store import opened

    async with opened(url, owner=runtime.options.instance, max_bytes=settings.idempotency_max_bytes) as records:
        idempotency = Idempotency(records, SystemClock())
        try:
            async with runtime.background("executor: idempotency records", idempotency.keep_house()):
                yield idempotency
        finally:
            await idempotency.close()


@dataclass(frozen=True, slots=True)
class _PackedVersions:
    def unpack(self, packed: bytes) -> Version:
        return version_from_packed(packed)

    def unpack_parameters(self, packed: bytes) -> Parameters:
        return parameters_from_packed(packed)


def _vocabulary() -> Vocabulary:
    if not vocabulary.is_installed():
        raise CannotStart(
            "TURNOUT_EXECUTOR_COUNT_TOKENS is on, but bpe-openai is not installed; install it, or turn it off"
        )
    return vocabulary.load()


def _keyring(settings: CredentialsConfig) -> Keyring | None:
    """None if there are no keys: then only providers that want no credential can be called."""
    text = settings.key_encryption_keys.get_secret_value()
    if not text:
        return None
    try:
        return Keyring.parse(text)
    except ValueError as error:
        raise CannotStart(f"TURNOUT_KEY_ENCRYPTION_KEYS: {error}") from None
