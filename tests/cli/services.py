"""Services that `turnout train` and `turnout models` speak to: over real gRPC, on what they were given alone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from recommenders.artifact import MANIFEST, check_artifact
from turnout.inference.v1 import artifact_service_pb2 as artifact_pb
from turnout.inference.v1 import artifact_service_pb2_grpc as artifact_rpc
from turnout.registry.v1 import model_pb2, model_service_pb2
from turnout.registry.v1 import model_service_pb2_grpc as model_rpc


@dataclass
class Models(artifact_rpc.ArtifactServiceServicer, model_rpc.ModelServiceServicer):
    """Writes uploads into a folder, checks them as inference does, and lists what it has."""

    folder: Path
    models: list[model_pb2.Model] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    chunk_sizes: list[int] = field(default_factory=list)
    refuse: bool = False

    def UploadModel(
        self, requests: Iterator[artifact_pb.UploadModelRequest], context: grpc.ServicerContext
    ) -> model_pb2.Model:
        metadata: dict[str, Any] = dict(context.invocation_metadata())
        self.keys.append(metadata.get("authorization", ""))
        header = next(requests).header
        if self.refuse:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the project's models take all the room there is")
        folder = self.folder / str(len(self.models))
        folder.mkdir()
        (folder / MANIFEST).write_bytes(header.manifest)
        order: list[str] = []
        for request in requests:
            chunk = request.chunk
            self.chunk_sizes.append(len(chunk.data))
            if chunk.file not in order:
                order.append(chunk.file)
            assert order[-1] == chunk.file
            with open(folder / chunk.file, "ab") as file:
                file.write(chunk.data)
        manifest = check_artifact(folder)
        assert order == [file.name for file in manifest.files]
        number = len(self.models) + 1
        model = model_pb2.Model(
            name=f"{header.parent}/models/mod_{number}",
            uid=f"mod_{number}",
            number=number,
            display_name=header.display_name or f"Model {number}",
            description=header.description,
            digest=manifest.digest,
            algorithm=manifest.algorithm,
            parameters_json='{"factors": 8}',
            metrics_json='{"ndcg@10": 0.125}',
            user_count=manifest.user_count,
            item_count=manifest.item_count,
            interaction_count=manifest.interaction_count,
            size_bytes=manifest.size_bytes,
        )
        model.create_time.GetCurrentTime()
        self.models.append(model)
        return model

    def RegisterModel(
        self, request: model_service_pb2.RegisterModelRequest, context: grpc.ServicerContext
    ) -> model_pb2.Model:
        raise AssertionError("only the inference service registers")

    def GetModel(self, request: model_service_pb2.GetModelRequest, context: grpc.ServicerContext) -> model_pb2.Model:
        segment = request.name.rpartition("/")[2]
        for model in self.models:
            if segment in (model.uid, str(model.number)):
                return model
        context.abort(grpc.StatusCode.NOT_FOUND, f"no model {segment}")
        raise AssertionError("abort raises")

    def ArchiveModel(
        self, request: model_service_pb2.ArchiveModelRequest, context: grpc.ServicerContext
    ) -> model_pb2.Model:
        return self._archived(request.name, archived=True)

    def UnarchiveModel(
        self, request: model_service_pb2.UnarchiveModelRequest, context: grpc.ServicerContext
    ) -> model_pb2.Model:
        return self._archived(request.name, archived=False)

    def _archived(self, name: str, *, archived: bool) -> model_pb2.Model:
        segment = name.rsplit("/", 1)[-1]
        model = next(each for each in self.models if segment in (each.uid, str(each.number)))
        model.archived = archived
        return model

    def ListModels(
        self, request: model_service_pb2.ListModelsRequest, context: grpc.ServicerContext
    ) -> model_service_pb2.ListModelsResponse:
        start = int(request.page_token or 0)
        more = str(start + 1) if start + 1 < len(self.models) else ""
        return model_service_pb2.ListModelsResponse(models=self.models[start : start + 1], next_page_token=more)


@contextmanager
def serving(models: Models) -> Iterator[str]:
    """Where it listens."""
    server = grpc.server(ThreadPoolExecutor(2))
    artifact_rpc.add_ArtifactServiceServicer_to_server(models, server)
    model_rpc.add_ModelServiceServicer_to_server(models, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(1).wait()
