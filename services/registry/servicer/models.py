"""The trained recommenders: RPC in, use case, RPC out."""

from __future__ import annotations

from kit.resource_names import parse
from kit.storable import check_message
from services.registry.application.access import ListRequest
from services.registry.application.models import Models
from services.registry.convert import models
from services.registry.servicer.calling import PROJECT, Context, announced, caller
from turnout.registry.v1 import model_pb2, model_service_pb2, model_service_pb2_grpc


class ModelServicer(model_service_pb2_grpc.ModelServiceServicer):
    """The trained recommenders."""

    def __init__(self, models: Models) -> None:
        self._models = models

    async def RegisterModel(self, request: model_service_pb2.RegisterModelRequest, context: Context) -> model_pb2.Model:
        check_message(request)
        (project,) = parse(request.parent, PROJECT, field="parent")
        facts = models.model_facts(request.model)
        written = await self._models.register_model(caller(), project, facts, on_behalf_of=request.on_behalf_of)
        return models.model_to_proto(announced(written))

    async def GetModel(self, request: model_service_pb2.GetModelRequest, context: Context) -> model_pb2.Model:
        project, model = parse(request.name, "projects/*/models/*", field="name")
        return models.model_to_proto(await self._models.get_model(caller(), project, model))

    async def ArchiveModel(self, request: model_service_pb2.ArchiveModelRequest, context: Context) -> model_pb2.Model:
        return await self._archived(request.name, archived=True)

    async def UnarchiveModel(
        self, request: model_service_pb2.UnarchiveModelRequest, context: Context
    ) -> model_pb2.Model:
        return await self._archived(request.name, archived=False)

    async def _archived(self, name: str, *, archived: bool) -> model_pb2.Model:
        project, model = parse(name, "projects/*/models/*", field="name")
        written = await self._models.archive_model(caller(), project, model, archived=archived)
        return models.model_to_proto(announced(written))

    async def ListModels(
        self, request: model_service_pb2.ListModelsRequest, context: Context
    ) -> model_service_pb2.ListModelsResponse:
        (project,) = parse(request.parent, PROJECT, field="parent")
        asked = ListRequest(request.page_size, request.page_token)
        page = await self._models.list_models(caller(), project, asked, with_archived=request.show_archived)
        return model_service_pb2.ListModelsResponse(
            models=map(models.model_to_proto, page.items), next_page_token=page.next_token
        )
