"""Taking artifacts in: received, checked, kept, registered; or nothing of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from kit import json
from kit.errors import Deadline, Exhausted, Invalid
from recommenders.artifact import MANIFEST, Manifest, parse_manifest
from services.inference.application.intake import Intake
from services.inference.application.projects import find_project
from services.inference.domain import NewModel, UploadChunk, UploadHeader
from services.inference.ports import Artifacts, Clock, Registry, Views

REGISTER_SECONDS: Final = 10.0
"""How long the registry may take."""

ModelT = TypeVar("ModelT")


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """What uploads may take of a process."""

    max_artifact_bytes: int
    idle_seconds: float
    concurrent: int


class Uploading(Generic[ModelT]):
    """Takes artifacts in."""

    def __init__(
        self, catalog: Views, artifacts: Artifacts, registry: Registry[ModelT], clock: Clock, limits: UploadLimits
    ) -> None:
        self._catalog = catalog
        self._artifacts = artifacts
        self._registry = registry
        self._clock = clock
        self._limits = limits
        self._running = 0

    async def upload_model(
        self, pieces: AsyncIterator[UploadHeader | UploadChunk], *, tenant: str, key_id: str, deadline: float
    ) -> ModelT:
        """The model, once its artifact is checked and kept.

        The same artifact again answers the same model. It has to be sent all the same: it shows that the caller has it,
        and replaces what has been damaged since.

        :param tenant: uid of the project whose key calls; empty for platform keys
        :param deadline: on the clock of `ports.Clock.now`
        :raises Invalid: `ARTIFACT_…`, with the file at fault; `UPLOAD_…` if the pieces make no upload
        :raises NotFound: `PROJECT_NOT_FOUND`
        :raises Exhausted: `ARTIFACT_TOO_LARGE`, `ARTIFACT_STORAGE_FULL`, `TOO_MANY_UPLOADS`
        :raises Deadline: `UPLOAD_IDLE`, `DEADLINE_EXCEEDED`
        :raises Unavailable: `ARTIFACT_STORAGE_FAILED`; whatever keeps the registry from answering
        """
        if self._running >= self._limits.concurrent:
            raise Exhausted(
                "this process takes in as many artifacts as it may; try again later",
                reason="TOO_MANY_UPLOADS",
                retry_after_seconds=5,
            )
        self._running += 1
        try:
            async with asyncio.timeout(deadline - self._clock.now()):
                return await self._upload(pieces, tenant, key_id, deadline)
        except TimeoutError:
            raise Deadline("the deadline passed; allow more time", reason="DEADLINE_EXCEEDED") from None
        finally:
            self._running -= 1

    async def _upload(
        self, pieces: AsyncIterator[UploadHeader | UploadChunk], tenant: str, key_id: str, deadline: float
    ) -> ModelT:
        header = await self._next(pieces)
        if not isinstance(header, UploadHeader):
            raise Invalid("an upload begins with its header", reason="UPLOAD_HEADER_MISSING")
        project = find_project(self._catalog.usable_view(), header.project, tenant=tenant)
        manifest = await asyncio.to_thread(parse_manifest, header.manifest)
        if manifest.size_bytes > self._limits.max_artifact_bytes:
            raise Exhausted(
                f"the artifact has {manifest.size_bytes} bytes; TURNOUT_INFERENCE_MAX_ARTIFACT_BYTES allows "
                f"{self._limits.max_artifact_bytes}",
                reason="ARTIFACT_TOO_LARGE",
                file=MANIFEST,
            )
        await self._receive(pieces, manifest, header.manifest)
        model = NewModel(
            project=project,
            display_name=header.display_name,
            description=header.description,
            digest=manifest.digest,
            algorithm=manifest.algorithm,
            parameters_json=json.dump(manifest.parameters),
            metrics_json=json.dump(manifest.metrics),
            user_count=manifest.user_count,
            item_count=manifest.item_count,
            interaction_count=manifest.interaction_count,
            size_bytes=manifest.size_bytes,
            on_behalf_of=key_id,
        )
        remaining = deadline - self._clock.now()
        return await self._registry.register_model(model, min(REGISTER_SECONDS, remaining))

    async def _receive(
        self, pieces: AsyncIterator[UploadHeader | UploadChunk], manifest: Manifest, text: bytes
    ) -> None:
        intake = Intake(manifest)
        incoming = await self._artifacts.receive(manifest, text)
        try:
            while (piece := await self._next(pieces)) is not None:
                if isinstance(piece, UploadHeader):
                    raise Invalid("an upload has one header", reason="UPLOAD_HEADER_REPEATED")
                intake.take(piece.file, len(piece.data))
                await incoming.write(piece.file, piece.data)
            intake.end()
            await incoming.keep()
        finally:
            incoming.discard()

    async def _next(self, pieces: AsyncIterator[UploadHeader | UploadChunk]) -> UploadHeader | UploadChunk | None:
        """None at the end."""
        try:
            async with asyncio.timeout(self._limits.idle_seconds) as idle:
                return await anext(pieces, None)
        except TimeoutError:
            if not idle.expired():
                raise
            raise Deadline(
                f"nothing came for {self._limits.idle_seconds:g} s; send the artifact again without pausing",
                reason="UPLOAD_IDLE",
            ) from None
