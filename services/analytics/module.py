"""Wiring of analytics, from outside in."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from catalog import watch
from kit import config, database, schema_version
from kit.errors import CannotStart, Conflict, Unavailable
from kit.events.broker import broker
from kit.events.consumer import ConsumerOptions, consume
from kit.runtime import Runtime
from services.analytics.application.ingestion import Ingestion
from services.analytics.application.logs import Listing
from services.analytics.application.metrics import Measuring
from services.analytics.config import AnalyticsConfig
from services.analytics.domain.request import DAY_MS
from services.analytics.servicer import LogServicer, MetricsServicer
from services.analytics.store import PostgresStore
from services.analytics.subscriber import DURABLE, SUBJECTS, Subscriber
from turnout.analytics.v1 import log_service_pb2_grpc as log_rpc
from turnout.analytics.v1 import metrics_service_pb2_grpc as metrics_rpc

log = logging.getLogger(__name__)

SCHEMA: Final = "analytics"
_HOUSEKEEPING_SECONDS: Final = 3600.0
_HOUSEKEEPING_RETRY_SECONDS: Final = 30.0


@asynccontextmanager
async def module(runtime: Runtime) -> AsyncIterator[None]:
    """Analytics: owns requests, payloads and rollups; answers MetricsService and LogService; listens to requests."""
    settings = config.load(AnalyticsConfig)
    url = settings.database_url.get_secret_value()
    await _require_schema(url)
    catalog = await runtime.shared(watch.catalog)
    connected = await runtime.shared(broker)
    async with database.sessions(url, schema=SCHEMA) as sessions:
        store = PostgresStore(
            sessions,
            request_retention_days=settings.request_retention_days,
            payload_retention_days=settings.payload_retention_days,
            today=lambda: _now_us() // (DAY_MS * 1000),
        )
        measuring = Measuring(store, catalog, settings.request_retention_days, _now_us)
        metrics_rpc.add_MetricsServiceServicer_to_server(MetricsServicer(measuring), runtime.server.registrar)
        log_rpc.add_LogServiceServicer_to_server(
            LogServicer(Listing(store, catalog, _now_us)), runtime.server.registrar
        )
        subscriber = Subscriber(Ingestion(store))
        options = ConsumerOptions(durable=DURABLE, subjects=SUBJECTS, batch_size=settings.batch_events)
        consumption = consume(
            connected, options, subscriber.handle, subscriber.on_poison, linked_span=runtime.tracing.linked_span
        )
        async with (
            runtime.background("analytics: housekeeping", _keep_house(store)),
            runtime.background("analytics: consumer", consumption),
        ):
            yield


async def _require_schema(url: str) -> None:
    """:raises CannotStart: if the database is not named, not there, or not at the version that this code needs"""
    if not url:
        raise CannotStart("TURNOUT_ANALYTICS_DATABASE_URL is not set: name a database as postgresql+asyncpg://…")
    try:
        await schema_version.require_current(url, schema=SCHEMA, folder=Path(__file__).parent / "migrations")
    except Unavailable as error:
        raise CannotStart(f"TURNOUT_ANALYTICS_DATABASE_URL: {error}") from error


async def _keep_house(store: PostgresStore) -> None:
    while True:
        try:
            await store.keep_house()
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)
        except (Unavailable, Conflict) as error:
            log.warning("housekeeping waits", extra={"reason": error.reason})
            await asyncio.sleep(_HOUSEKEEPING_RETRY_SECONDS)


def _now_us() -> int:
    return time.time_ns() // 1000
