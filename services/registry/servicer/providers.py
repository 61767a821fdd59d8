"""The places that run LLMs: RPC in, use case, RPC out."""

from __future__ import annotations

from kit.resource_names import parse
from services.registry.application.access import ListRequest
from services.registry.application.providers import Providers
from services.registry.convert import resources
from services.registry.convert.text import refuse_nul, write_from_proto
from services.registry.servicer.calling import PROJECT, Context, announced, caller
from turnout.registry.v1 import provider_pb2, provider_service_pb2, provider_service_pb2_grpc


class ProviderServicer(provider_service_pb2_grpc.ProviderServiceServicer):
    """The places that run LLMs."""

    def __init__(self, providers: Providers) -> None:
        self._providers = providers

    async def CreateProvider(
        self, request: provider_service_pb2.CreateProviderRequest, context: Context
    ) -> provider_pb2.Provider:
        refuse_nul(request)
        (project,) = parse(request.parent, PROJECT, field="parent")
        draft = resources.provider_draft(request.provider_id, request.provider)
        write = write_from_proto(request, secret=("provider", "credential"))
        return resources.provider_to_proto(
            announced(await self._providers.create_provider(caller(), project, draft, write))
        )

    async def GetProvider(
        self, request: provider_service_pb2.GetProviderRequest, context: Context
    ) -> provider_pb2.Provider:
        project, provider = parse(request.name, "projects/*/providers/*", field="name")
        return resources.provider_to_proto(await self._providers.get_provider(caller(), project, provider))

    async def ListProviders(
        self, request: provider_service_pb2.ListProvidersRequest, context: Context
    ) -> provider_service_pb2.ListProvidersResponse:
        (project,) = parse(request.parent, PROJECT, field="parent")
        asked = ListRequest(request.page_size, request.page_token)
        page = await self._providers.list_providers(caller(), project, asked)
        return provider_service_pb2.ListProvidersResponse(
            providers=map(resources.provider_to_proto, page.items), next_page_token=page.next_token
        )

    async def UpdateProvider(
        self, request: provider_service_pb2.UpdateProviderRequest, context: Context
    ) -> provider_pb2.Provider:
        refuse_nul(request)
        project, provider = parse(request.provider.name, "projects/*/providers/*", field="provider.name")
        change = resources.provider_change(request.provider, request.update_mask.paths)
        written = await self._providers.update_provider(
            caller(), project, provider, change, etag=request.provider.etag, is_dry=request.validate_only
        )
        return resources.provider_to_proto(announced(written))
