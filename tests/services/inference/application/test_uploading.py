from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from kit.errors import AppError, Deadline, Exhausted, Invalid, NotFound, Unavailable
from recommenders.artifact import MANIFEST, Manifest, parse_manifest
from services.inference.application.uploading import Uploading, UploadLimits
from services.inference.domain import NewModel, UploadChunk, UploadHeader
from tests.services.inference.artifacts import write
from tests.services.inference.fakes import SHOP, FakeArtifacts, FakeClock, FakeViews, until


class Incoming:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.files: dict[str, bytes] = {}
        self.is_kept = False

    async def write(self, file: str, data: bytes) -> None:
        self.files[file] = self.files.get(file, b"") + data

    async def keep(self) -> None:
        self.is_kept = True
        self.store.kept.append(self.files)

    def discard(self) -> None:
        self.store.discarded += not self.is_kept


class Store(FakeArtifacts):
    """Keeps artifacts in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[dict[str, bytes]] = []
        self.discarded = 0

    async def receive(self, manifest: Manifest, text: bytes) -> Incoming:
        return Incoming(self)


class Registry:
    def __init__(self) -> None:
        self.registered: list[NewModel] = []
        self.timeouts: list[float] = []
        self.failure: AppError | None = None

    async def register_model(self, model: NewModel, timeout_seconds: float) -> str:
        self.timeouts.append(timeout_seconds)
        if self.failure is not None:
            raise self.failure
        self.registered.append(model)
        return f"model {model.digest}"


class House:
    def __init__(self, artifact: Path, **limits: Any) -> None:
        self.text = (artifact / MANIFEST).read_bytes()
        self.manifest = parse_manifest(self.text)
        self.chunks = [UploadChunk(file.name, (artifact / file.name).read_bytes()) for file in self.manifest.files]
        self.views, self.store, self.registry, self.clock = FakeViews(), Store(), Registry(), FakeClock()
        self.views.show()
        chosen = UploadLimits(**({"max_artifact_bytes": 1 << 20, "idle_seconds": 10, "concurrent": 2} | limits))
        self.uploading = Uploading(self.views, self.store, self.registry, self.clock, chosen)

    def header(self, **fields: Any) -> UploadHeader:
        return UploadHeader(
            **({"project": "shop", "display_name": "N", "description": "D", "manifest": self.text} | fields)
        )

    async def upload(self, *pieces: Any, tenant: str = SHOP.uid, stalls: bool = False, deadline: float = 150) -> str:
        """A piece that is a future is waited for."""
        given: Sequence[Any] = pieces or (self.header(), *self.chunks)

        async def stream() -> AsyncIterator[Any]:
            for piece in given:
                yield piece
            if stalls:
                await asyncio.Event().wait()

        return await self.uploading.upload_model(stream(), tenant=tenant, key_id="key", deadline=deadline)


@pytest.fixture
def house(tmp_path: Path) -> House:
    write(tmp_path / "artifact")
    return House(tmp_path / "artifact")


async def test_an_artifact_is_kept_and_then_registered(house: House) -> None:
    assert await house.upload() == f"model {house.manifest.digest}"
    assert house.store.kept == [{chunk.file: chunk.data for chunk in house.chunks}]
    [model] = house.registry.registered
    assert (model.project, model.display_name, model.description) == (SHOP, "N", "D")
    assert (model.digest, model.algorithm, model.on_behalf_of) == (house.manifest.digest, "als", "key")
    assert json.loads(model.parameters_json) == {"factors": 8, "seed": 0}
    assert json.loads(model.metrics_json) == {"ndcg@10": 0.25}
    assert (model.user_count, model.item_count, model.interaction_count) == (20, 50, 60)
    assert model.size_bytes == house.manifest.size_bytes
    assert house.registry.timeouts == [10]
    assert house.store.discarded == 0


async def test_a_registry_that_is_down_leaves_the_artifact_and_a_repetition_finishes(house: House) -> None:
    house.registry.failure = Unavailable("down", reason="PEER_UNAVAILABLE")
    with pytest.raises(Unavailable):
        await house.upload()
    assert (len(house.store.kept), house.store.discarded) == (1, 0)
    house.registry.failure = None
    assert await house.upload() == f"model {house.manifest.digest}"


@pytest.mark.parametrize(("project", "tenant"), [("shop", "prj_other"), ("none", SHOP.uid), ("none", "")])
async def test_a_project_that_the_caller_may_not_see_is_not_found(house: House, project: str, tenant: str) -> None:
    with pytest.raises(NotFound) as failure:
        await house.upload(house.header(project=project), *house.chunks, tenant=tenant)
    assert failure.value.reason == "PROJECT_NOT_FOUND"
    assert house.store.kept == []


async def test_a_platform_key_may_name_any_project(house: House) -> None:
    assert await house.upload(house.header(project=SHOP.uid), *house.chunks, tenant="")


async def test_what_is_no_upload_is_refused_and_discarded(house: House) -> None:
    for pieces, reason, begun in (
        ((house.chunks[0],), "UPLOAD_HEADER_MISSING", 0),
        ((house.header(), house.header()), "UPLOAD_HEADER_REPEATED", 1),
        ((house.header(), *house.chunks[:-1]), "ARTIFACT_FILE_MISSING", 1),
        ((house.header(manifest=b"{"),), "ARTIFACT_MANIFEST_MALFORMED", 0),
    ):
        house.store.discarded = 0
        with pytest.raises(Invalid) as failure:
            await house.upload(*pieces)
        assert (failure.value.reason, house.store.discarded) == (reason, begun)
    assert house.store.kept == []


async def test_an_artifact_beyond_the_limit_is_refused_by_its_manifest(tmp_path: Path) -> None:
    write(tmp_path / "artifact")
    house = House(tmp_path / "artifact", max_artifact_bytes=2000)
    with pytest.raises(Exhausted) as failure:
        await house.upload(house.header())
    assert failure.value.reason == "ARTIFACT_TOO_LARGE"


async def test_an_upload_that_pauses_too_long_is_discarded(tmp_path: Path) -> None:
    write(tmp_path / "artifact")
    house = House(tmp_path / "artifact", idle_seconds=0.05)
    with pytest.raises(Deadline) as failure:
        await house.upload(house.header(), house.chunks[0], stalls=True)
    assert (failure.value.reason, house.store.discarded) == ("UPLOAD_IDLE", 1)


async def test_an_upload_ends_with_its_deadline(house: House) -> None:
    with pytest.raises(Deadline) as failure:
        await house.upload(house.header(), stalls=True, deadline=house.clock.time + 0.05)
    assert (failure.value.reason, house.store.discarded) == ("DEADLINE_EXCEEDED", 1)


async def test_uploads_beyond_the_limit_are_refused_until_one_ends(house: House) -> None:
    running = [asyncio.create_task(house.upload(house.header(), stalls=True)) for _ in range(2)]
    await until(lambda: house.uploading._running == 2)
    with pytest.raises(Exhausted) as failure:
        await house.upload()
    assert (failure.value.reason, failure.value.retry_after_seconds) == ("TOO_MANY_UPLOADS", 5)
    for each in running:
        each.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    assert await house.upload()
