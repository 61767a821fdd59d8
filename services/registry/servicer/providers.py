"""The places that run LLMs: RPC in, use case, RPC out."""

from __future__ import annotations

import time
from typing import Final

from kit.resource_names import parse
from kit.storable import check_message
from services.registry.application.access import ListRequest
from services.registry.application.credentials import Credentials
from services.registry.application.provider_models import ProviderModels
from services.registry.application.providers import Providers
from services.registry.convert import providers, resources
from services.registry.convert.text import write_from_proto
from services.registry.servicer.calling import PROJECT, Context, announced, caller
from turnout.registry.v1 import provider_pb2, provider_service_pb2, provider_service_pb2_grpc

_PROVIDER: Final = "projects/*/providers/*"


class ProviderServicer(provider_service_pb2_grpc.ProviderServiceServicer):
    """The places that run LLMs."""

    def __init__(self, providers: Providers, models: ProviderModels, credentials: Credentials) -> None:
        self._providers = providers
        self._models = models
        self._credentials = credentials

    async def CreateProvider(
        self, request: provider_service_pb2.CreateProviderRequest, context: Context
    ) -> provider_pb2.Provider:
        check_message(request)
        (project,) = parse(request.parent, PROJECT, field="parent")
        draft = resources.provider_draft(request.provider_id, request.provider)
        write = write_from_proto(request, secret=("provider", "credential"))
        return resources.provider_to_proto(
            announced(await self._providers.create_provider(caller(), project, draft, write))
        )

    async def GetProvider(
        self, request: provider_service_pb2.GetProviderRequest, context: Context
    ) -> provider_pb2.Provider:
        project, provider = parse(request.name, _PROVIDER, field="name")
        return resources.provider_to_proto(await self._providers.get_provider(caller(), project, provider))

    async def ListProviders(
        self, request: provider_service_pb2.ListProvidersRequest, context: Context
    ) -> provider_service_pb2.ListProvidersResponse:
        (project,) = parse(request.parent, PROJECT, field="parent")
        asked = ListRequest(request.page_size, request.page_token)
        page = await self._providers.list_providers(caller(), project, asked, with_archived=request.show_archived)
        return provider_service_pb2.ListProvidersResponse(
            providers=map(resources.provider_to_proto, page.items), next_page_token=page.next_token
        )

    async def UpdateProvider(
        self, request: provider_service_pb2.UpdateProviderRequest, context: Context
    ) -> provider_pb2.Provider:
        check_message(request)
        project, provider = parse(request.provider.name, _PROVIDER, field="provider.name")
        change = resources.provider_change(request.provider, request.update_mask.paths)
        written = await self._providers.update_provider(
            caller(), project, provider, change, etag=request.provider.etag, is_dry=request.validate_only
        )
        return resources.provider_to_proto(announced(written))

    async def ArchiveProvider(
        self, request: provider_service_pb2.ArchiveProviderRequest, context: Context
    ) -> provider_pb2.Provider:
        return await self._archived(request, archived=True)

    async def UnarchiveProvider(
        self, request: provider_service_pb2.UnarchiveProviderRequest, context: Context
    ) -> provider_pb2.Provider:
        return await self._archived(request, archived=False)

    async def _archived(
        self,
        request: provider_service_pb2.ArchiveProviderRequest | provider_service_pb2.UnarchiveProviderRequest,
        *,
        archived: bool,
    ) -> provider_pb2.Provider:
        project, provider = parse(request.name, _PROVIDER, field="name")
        written = await self._providers.archive_provider(
            caller(), project, provider, etag=request.etag, archived=archived
        )
        return resources.provider_to_proto(announced(written))

    async def ListProviderModels(
        self, request: provider_service_pb2.ListProviderModelsRequest, context: Context
    ) -> provider_service_pb2.ListProviderModelsResponse:
        project, provider = parse(request.name, _PROVIDER, field="name")
        listed = await self._models.list_models(caller(), project, provider, fresh=request.refresh)
        return providers.model_list_to_proto(listed)

    async def CheckProvider(
        self, request: provider_service_pb2.CheckProviderRequest, context: Context
    ) -> provider_service_pb2.CheckProviderResponse:
        project, provider = parse(request.name, _PROVIDER, field="name")
        begun = time.perf_counter_ns()
        outcome = await self._models.check_provider(caller(), project, provider)
        return providers.check_to_proto(outcome, (time.perf_counter_ns() - begun) // 1000)

    async def RotateCredentials(
        self, request: provider_service_pb2.RotateCredentialsRequest, context: Context
    ) -> provider_service_pb2.RotateCredentialsResponse:
        rotation = announced(await self._credentials.rotate_credentials(request.batch_size))
        return provider_service_pb2.RotateCredentialsResponse(
            rotated_count=rotation.rotated_count, remaining_count=rotation.remaining_count, key_id=rotation.key_id
        )
