"""The part of `bench.recommend` that asks the inference service, by gRPC, as its callers do.

On: authentication, slots, validation, events to the spool and on to JetStream, payload capture, 10 % traces. The
inference service is one process on a core of its own; analytics is stopped while calls are timed and started afterwards
to count what arrived.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc

from bench.cores import Cores
from bench.figures import Row
from bench.load import load
from bench.surroundings import Surroundings, count_events
from kit import status
from recommenders.artifact import MANIFEST, parse_manifest
from recommenders.scoring import Answer, Item
from turnout.inference.v1 import artifact_service_pb2, recommendation_service_pb2
from turnout.inference.v1.artifact_service_pb2_grpc import ArtifactServiceStub
from turnout.inference.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from turnout.registry.v1 import deployment_pb2, deployment_service_pb2, project_service_pb2
from turnout.registry.v1.deployment_service_pb2_grpc import DeploymentServiceStub
from turnout.registry.v1.project_service_pb2_grpc import ProjectServiceStub

if TYPE_CHECKING:
    # These exist for type checkers only.
    from turnout.inference.v1.artifact_service_pb2_grpc import ArtifactServiceAsyncStub
    from turnout.inference.v1.recommendation_service_pb2_grpc import RecommendationServiceAsyncStub
    from turnout.registry.v1.deployment_service_pb2_grpc import DeploymentServiceAsyncStub
    from turnout.registry.v1.project_service_pb2_grpc import ProjectServiceAsyncStub

PROJECT: Final = "projects/bench"
GROUPS: Final = (("registry",), ("inference",), ("analytics",))
CALLERS: Final = (1, 64)
ON: Final = "auth, slots, spool, JetStream, payloads, 10 % traces; analytics off while timed"
_CHUNK_BYTES: Final = 1 << 20
_READY_SECONDS: Final = 60.0


class Service:
    """An installation with one deployment for each model."""

    def __init__(self, around: Surroundings, cores: Cores) -> None:
        kept = {"inference": cores.serving, "registry": cores.others, "analytics": cores.others}
        self._installation = around.installation(GROUPS, cores=kept)
        self._key = f"Bearer {self._installation.secrets.platform_key}"
        self._sequence = "0"
        self._calls = 0

    @property
    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", self._key), ("turnout-sequence", self._sequence))

    async def furnish(self, artifacts: Mapping[int, Path]) -> None:
        """Upload each artifact, and put it behind a deployment named by its count of items."""
        async with (
            grpc.aio.insecure_channel(self._installation.address("registry")) as registry,
            grpc.aio.insecure_channel(self._installation.address("inference")) as inference,
        ):
            projects: ProjectServiceAsyncStub = ProjectServiceStub(registry)
            deployments: DeploymentServiceAsyncStub = DeploymentServiceStub(registry)
            uploads: ArtifactServiceAsyncStub = ArtifactServiceStub(inference)
            made = projects.CreateProject(
                project_service_pb2.CreateProjectRequest(project_id="bench"), metadata=self._metadata
            )
            self._sequence = str(dict(await made.trailing_metadata() or ())["turnout-sequence"])
            for items, folder in artifacts.items():
                model = await uploads.UploadModel(_pieces(folder), metadata=self._metadata, timeout=600)
                deployment = deployment_pb2.Deployment(kind=deployment_pb2.DEPLOYMENT_KIND_RECOMMENDATION)
                deployment.variants.add().recommendation.model = model.uid
                request = deployment_service_pb2.CreateDeploymentRequest(
                    parent=PROJECT, deployment_id=f"items-{items}", deployment=deployment
                )
                call = deployments.CreateDeployment(request, metadata=self._metadata)
                self._sequence = str(dict(await call.trailing_metadata() or ())["turnout-sequence"])

    async def measure(self, items: int, users: int, limit: int, seconds: float) -> tuple[list[Row], dict[int, Answer]]:
        """A row for each number of callers, and the answers of the first users.

        :raises AssertionError: if an answer has not as many items as it should
        """
        stubs: list[RecommendationServiceAsyncStub] = []
        channels = [
            grpc.aio.insecure_channel(
                self._installation.address("inference"), options=(("grpc.use_local_subchannel_pool", 1),)
            )
            for _ in range(4)
        ]
        stubs += [RecommendationServiceStub(channel) for channel in channels]
        requests = [
            recommendation_service_pb2.RecommendRequest(
                deployment=f"{PROJECT}/deployments/items-{items}", user_id=f"user-{user:09}", limit=limit
            )
            for user in range(users)
        ]
        turns = cycle(range(users))

        async def call() -> None:
            turn = next(turns)
            self._calls += 1
            answer = await stubs[turn % len(stubs)].Recommend(requests[turn], metadata=self._metadata, timeout=60)
            if len(answer.items) != limit:
                raise AssertionError("an answer is not whole")

        await self._ready(stubs[0], requests[0])
        pid = self._installation.process("inference").pid
        rows = [
            await load(f"gRPC, {items:,} items", call, pid, concurrency=callers, seconds=seconds) for callers in CALLERS
        ]
        answers = {}
        for user in range(0, users, 16):
            self._calls += 1
            told = await stubs[0].Recommend(requests[user], metadata=self._metadata, timeout=60)
            listed = tuple(Item(item.item_id, item.score, item.title) for item in told.items)
            answers[user] = Answer(listed, told.cold_start)
        for channel in channels:
            await channel.close()
        return rows, answers

    async def _ready(
        self, stub: RecommendationServiceAsyncStub, request: recommendation_service_pb2.RecommendRequest
    ) -> None:
        async with asyncio.timeout(_READY_SECONDS):
            while True:
                self._calls += 1
                try:
                    await stub.Recommend(request, metadata=self._metadata, timeout=60)
                except grpc.aio.AioRpcError as error:
                    if status.reason_of(error) != "MODEL_NOT_LOADED":
                        raise
                else:
                    return

    async def counts(self) -> tuple[int, int]:
        """How many calls were made, and how many analytics counts."""
        return self._calls, await count_events(self._installation, self._sequence, self._calls)


def _pieces(folder: Path) -> Iterator[artifact_service_pb2.UploadModelRequest]:
    manifest = (folder / MANIFEST).read_bytes()
    header = artifact_service_pb2.UploadModelHeader(parent=PROJECT, manifest=manifest)
    yield artifact_service_pb2.UploadModelRequest(header=header)
    for listed in parse_manifest(manifest).files:
        with (folder / listed.name).open("rb") as file:
            while data := file.read(_CHUNK_BYTES):
                chunk = artifact_service_pb2.UploadModelChunk(file=listed.name, data=data)
                yield artifact_service_pb2.UploadModelRequest(chunk=chunk)
