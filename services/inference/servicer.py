"""RPC in, use case, RPC out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import Any, Final, TypeAlias

import grpc

from kit import calls, resource_names
from kit.errors import Exhausted, Invalid, NotFound
from kit.interceptors import Validation
from services.inference import convert
from services.inference.application.recommending import Recommending
from services.inference.application.uploading import Uploading
from services.inference.domain import UploadChunk, UploadHeader
from turnout.inference.v1 import artifact_service_pb2 as artifact_pb
from turnout.inference.v1 import artifact_service_pb2_grpc as artifact_rpc
from turnout.inference.v1 import recommendation_service_pb2 as pb
from turnout.inference.v1 import recommendation_service_pb2_grpc as rpc
from turnout.registry.v1 import model_pb2

READ_ON_SECONDS: Final = 1.0
"""How long what a caller still sends after a refusal is read and dropped."""

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class RecommendationServicer(rpc.RecommendationServiceServicer):
    """Recommends items for callers."""

    def __init__(self, recommending: Recommending) -> None:
        self._recommending = recommending

    async def Recommend(self, request: pb.RecommendRequest, context: Context) -> pb.RecommendResponse:
        call, principal = calls.current(), calls.principal()
        recommendation = await self._recommending.recommend(
            convert.recommend_call_from_proto(
                request,
                user_agent=call.text("user-agent"),
                tenant=principal.tenant,
                key_id=principal.key_id,
                trace_id=call.trace.trace_id,
                deadline=call.deadline,
            )
        )
        return convert.recommendation_to_proto(recommendation)

    async def ListLoadedModels(
        self, request: pb.ListLoadedModelsRequest, context: Context
    ) -> pb.ListLoadedModelsResponse:
        (project,) = resource_names.parse(request.parent, "projects/*", field="parent")
        return convert.loaded_models_to_proto(
            self._recommending.list_loaded_models(project, tenant=calls.principal().tenant)
        )


class ArtifactServicer(artifact_rpc.ArtifactServiceServicer):
    """Takes artifacts in."""

    def __init__(self, uploading: Uploading[model_pb2.Model]) -> None:
        self._uploading = uploading
        self._validation = Validation()

    async def UploadModel(
        self, request_iterator: AsyncIterator[artifact_pb.UploadModelRequest], context: Context
    ) -> model_pb2.Model:
        call, principal = calls.current(), calls.principal()
        try:
            async with aclosing(self._pieces(request_iterator)) as pieces:
                return await self._uploading.upload_model(
                    pieces, tenant=principal.tenant, key_id=principal.key_id, deadline=call.deadline
                )
        except (Invalid, NotFound, Exhausted):
            # A grpc.aio client that is still sending when the answer comes may lose it and report INTERNAL.
            with suppress(TimeoutError):
                async with asyncio.timeout(READ_ON_SECONDS):
                    async for _ in request_iterator:
                        pass
            raise

    async def _pieces(
        self, requests: AsyncIterator[artifact_pb.UploadModelRequest]
    ) -> AsyncGenerator[UploadHeader | UploadChunk, None]:
        async for request in requests:
            # The interceptor sees no messages of a stream.
            await self._validation.enter(calls.current(), request)
            yield convert.piece_from_proto(request)
