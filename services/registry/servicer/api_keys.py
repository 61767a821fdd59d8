"""Who may call: RPC in, use case, RPC out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from kit.resource_names import parse
from kit.storable import check_message
from services.registry.application.access import ListRequest
from services.registry.application.api_keys import ApiKeys
from services.registry.convert.api_keys import api_key_change, api_key_draft, api_key_to_proto
from services.registry.convert.text import write_from_proto
from services.registry.servicer.calling import PROJECT, Context, announced, caller
from turnout.registry.v1 import api_key_pb2, api_key_service_pb2, api_key_service_pb2_grpc


class ApiKeyServicer(api_key_service_pb2_grpc.ApiKeyServiceServicer):
    """Who may call."""

    def __init__(self, keys: ApiKeys, seen_here: Callable[[int], Awaitable[None]]) -> None:
        """:param seen_here: waits, within bounds, until this process checks keys as of a sequence: a key that is shown
        works here, and one that is revoked does not, from the moment of the answer"""
        self._keys = keys
        self._seen_here = seen_here

    async def CreateApiKey(
        self, request: api_key_service_pb2.CreateApiKeyRequest, context: Context
    ) -> api_key_pb2.ApiKey:
        check_message(request)
        (project,) = parse(request.parent, PROJECT, field="parent")
        draft = api_key_draft(request.api_key)
        written = await self._keys.create_api_key(caller(), project, draft, write_from_proto(request))
        created = announced(written)
        await self._seen_here(written.sequence)
        return api_key_to_proto(created.key, text=created.text)

    async def GetApiKey(self, request: api_key_service_pb2.GetApiKeyRequest, context: Context) -> api_key_pb2.ApiKey:
        project, key = parse(request.name, "projects/*/apiKeys/*", field="name")
        return api_key_to_proto(await self._keys.get_api_key(caller(), project, key))

    async def ListApiKeys(
        self, request: api_key_service_pb2.ListApiKeysRequest, context: Context
    ) -> api_key_service_pb2.ListApiKeysResponse:
        (project,) = parse(request.parent, PROJECT, field="parent")
        asked = ListRequest(request.page_size, request.page_token)
        page = await self._keys.list_api_keys(caller(), project, asked)
        return api_key_service_pb2.ListApiKeysResponse(
            api_keys=map(api_key_to_proto, page.items), next_page_token=page.next_token
        )

    async def UpdateApiKey(
        self, request: api_key_service_pb2.UpdateApiKeyRequest, context: Context
    ) -> api_key_pb2.ApiKey:
        check_message(request)
        project, key = parse(request.api_key.name, "projects/*/apiKeys/*", field="api_key.name")
        wanted = api_key_change(request.api_key, request.update_mask.paths)
        written = await self._keys.update_api_key(
            caller(), project, key, wanted, etag=request.api_key.etag, is_dry=request.validate_only
        )
        await self._seen_here(written.sequence)
        return api_key_to_proto(announced(written))

    async def RevokeApiKey(
        self, request: api_key_service_pb2.RevokeApiKeyRequest, context: Context
    ) -> api_key_pb2.ApiKey:
        project, key = parse(request.name, "projects/*/apiKeys/*", field="name")
        written = await self._keys.revoke_api_key(caller(), project, key)
        await self._seen_here(written.sequence)
        return api_key_to_proto(announced(written))
