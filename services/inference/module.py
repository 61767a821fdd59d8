"""Wiring of inference, from outside in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from catalog import watch
from catalog.config import CatalogConfig
from catalog.plan import Planner
from catalog.process import compiler
from kit import config
from kit.clock import SystemClock
from kit.errors import CannotStart
from kit.events.outbox import outbox
from kit.runtime import Runtime
from services.inference.application.batches import Computing
from services.inference.application.models import Models
from services.inference.application.recommending import Recommending
from services.inference.application.uploading import Uploading, UploadLimits
from services.inference.artifacts import FolderArtifacts
from services.inference.clients import RegistryClient
from services.inference.config import InferenceConfig
from services.inference.recorder import OutboxRecorder
from services.inference.servicer import ArtifactServicer, RecommendationServicer
from turnout.inference.v1 import artifact_service_pb2_grpc as artifact_rpc
from turnout.inference.v1 import recommendation_service_pb2_grpc as rpc

READY_SECONDS: Final = 10.0
"""How long a start waits for the models of the first view."""
_LOADERS: Final = 2


@asynccontextmanager
async def module(runtime: Runtime) -> AsyncIterator[None]:
    """Inference: owns artifacts; answers RecommendationService and ArtifactService; announces RequestServed and
    RequestPayload."""
    settings = config.load(InferenceConfig)
    catalog = await runtime.shared(watch.catalog)
    events = await runtime.shared(outbox)
    channel = await runtime.channel("registry")
    service_key = config.load(CatalogConfig).service_key.get_secret_value()
    clock = SystemClock()
    with (
        _threads("inference-files", settings.concurrent_uploads) as files,
        _threads("inference-load", _LOADERS) as loaders,
        _threads("inference-compute", settings.threads) as compute,
    ):
        artifacts = FolderArtifacts(_root(settings.artifacts_dir), files)
        await artifacts.in_thread(artifacts.remove_left_overs)
        computing = Computing(compute, settings.max_batch, settings.max_queued, settings.direct_multiplications)
        models = Models(catalog, artifacts, clock, computing, loaders)
        recorder = OutboxRecorder(events, runtime.options.instance, settings.capture_payloads)
        planner = Planner(runtime.tracing, await runtime.shared(compiler))
        recommending = Recommending(catalog, planner, models, recorder, clock)
        limits = UploadLimits(settings.max_artifact_bytes, settings.upload_idle_seconds, settings.concurrent_uploads)
        uploading = Uploading(catalog, artifacts, RegistryClient(channel, service_key), clock, limits)
        rpc.add_RecommendationServiceServicer_to_server(RecommendationServicer(recommending), runtime.server.registrar)
        artifact_rpc.add_ArtifactServiceServicer_to_server(ArtifactServicer(uploading), runtime.server.registrar)
        ready = runtime.ready_when("the models")
        try:
            async with (
                runtime.background("inference: models", models.run(ready, READY_SECONDS)),
                runtime.background("inference: left-overs", artifacts.sweep(clock)),
            ):
                yield
        finally:
            await models.close()
            await artifacts.close()


def _root(artifacts_dir: Path | None) -> Path:
    if artifacts_dir is None:
        raise CannotStart(
            "TURNOUT_INFERENCE_ARTIFACTS_DIR is not set: name a writable folder that every inference process sees and "
            "that outlives them"
        )
    return artifacts_dir


@contextmanager
def _threads(name: str, count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads of our own, so that neither uploads nor loads ever take one from the calls."""
    with ThreadPoolExecutor(count, name) as threads:
        try:
            yield threads
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
