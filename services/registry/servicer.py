"""RPC in, use case, RPC out."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from hashlib import blake2b
from typing import Any, TypeAlias, TypeVar

import grpc

from catalog.keys import SEQUENCE_HEADER
from kit import calls
from kit.changelog import Change, Event, Feed, Idle, Resumed, SnapshotBegin, SnapshotChunk, SnapshotEnd
from kit.errors import Unauthenticated
from kit.resource_names import parse
from services.registry.application.access import ListRequest, Written
from services.registry.application.api_keys import ApiKeys
from services.registry.application.deployments import Deployments
from services.registry.application.models import Models
from services.registry.application.projects import Projects
from services.registry.application.providers import Providers
from services.registry.application.variants import Variants
from services.registry.application.versions import Versions
from services.registry.convert import models, resources, versions
from services.registry.convert.catalog import CREDENTIAL_PREFIX, api_key_key, entry_from_change
from services.registry.convert.text import refuse_nul, write_from_proto
from services.registry.domain import PLATFORM_ADMIN, Caller
from turnout.registry.v1 import (
    api_key_pb2,
    api_key_service_pb2,
    api_key_service_pb2_grpc,
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    deployment_pb2,
    deployment_service_pb2,
    deployment_service_pb2_grpc,
    model_pb2,
    model_service_pb2,
    model_service_pb2_grpc,
    project_pb2,
    project_service_pb2,
    project_service_pb2_grpc,
    provider_pb2,
    provider_service_pb2,
    provider_service_pb2_grpc,
    version_pb2,
    version_service_pb2,
    version_service_pb2_grpc,
)

_PROJECT = "projects/*"
_CREDENTIALS_SCOPE = "catalog:credentials"

T = TypeVar("T")

# Generated stubs type the context by request and response; nothing here depends on it.
Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class ProjectServicer(project_service_pb2_grpc.ProjectServiceServicer):
    """The tenants."""

    def __init__(self, projects: Projects) -> None:
        self._projects = projects

    async def CreateProject(
        self, request: project_service_pb2.CreateProjectRequest, context: Context
    ) -> project_pb2.Project:
        refuse_nul(request)
        draft = resources.project_draft(request.project_id, request.project)
        written = await self._projects.create_project(draft, write_from_proto(request))
        return resources.project_to_proto(_announced(written))

    async def GetProject(self, request: project_service_pb2.GetProjectRequest, context: Context) -> project_pb2.Project:
        (project,) = parse(request.name, _PROJECT, field="name")
        return resources.project_to_proto(await self._projects.get_project(_caller(), project))

    async def ListProjects(
        self, request: project_service_pb2.ListProjectsRequest, context: Context
    ) -> project_service_pb2.ListProjectsResponse:
        page = await self._projects.list_projects(_caller(), ListRequest(request.page_size, request.page_token))
        return project_service_pb2.ListProjectsResponse(
            projects=map(resources.project_to_proto, page.items), next_page_token=page.next_token
        )


class ProviderServicer(provider_service_pb2_grpc.ProviderServiceServicer):
    """The places that run LLMs."""

    def __init__(self, providers: Providers) -> None:
        self._providers = providers

    async def CreateProvider(
        self, request: provider_service_pb2.CreateProviderRequest, context: Context
    ) -> provider_pb2.Provider:
        refuse_nul(request)
        (project,) = parse(request.parent, _PROJECT, field="parent")
        draft = resources.provider_draft(request.provider_id, request.provider)
        write = write_from_proto(request, secret=("provider", "credential"))
        return resources.provider_to_proto(
            _announced(await self._providers.create_provider(_caller(), project, draft, write))
        )

    async def GetProvider(
        self, request: provider_service_pb2.GetProviderRequest, context: Context
    ) -> provider_pb2.Provider:
        project, provider = parse(request.name, "projects/*/providers/*", field="name")
        return resources.provider_to_proto(await self._providers.get_provider(_caller(), project, provider))

    async def ListProviders(
        self, request: provider_service_pb2.ListProvidersRequest, context: Context
    ) -> provider_service_pb2.ListProvidersResponse:
        (project,) = parse(request.parent, _PROJECT, field="parent")
        asked = ListRequest(request.page_size, request.page_token)
        page = await self._providers.list_providers(_caller(), project, asked)
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
            _caller(), project, provider, change, etag=request.provider.etag, is_dry=request.validate_only
        )
        return resources.provider_to_proto(_announced(written))


class VersionServicer(version_service_pb2_grpc.VersionServiceServicer):
    """The completion configurations."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions

    async def PutVersion(self, request: version_service_pb2.PutVersionRequest, context: Context) -> version_pb2.Version:
        refuse_nul(request)
        (project,) = parse(request.parent, _PROJECT, field="parent")
        content = versions.content_from_proto(request.version, field="version")
        written = await self._versions.put_version(_caller(), project, content, is_dry=request.validate_only)
        return versions.version_to_proto(_announced(written))

    async def GetVersion(self, request: version_service_pb2.GetVersionRequest, context: Context) -> version_pb2.Version:
        project, version = parse(request.name, "projects/*/versions/*", field="name")
        return versions.version_to_proto(await self._versions.get_version(_caller(), project, version))

    async def ListVersions(
        self, request: version_service_pb2.ListVersionsRequest, context: Context
    ) -> version_service_pb2.ListVersionsResponse:
        (project,) = parse(request.parent, _PROJECT, field="parent")
        asked = ListRequest(request.page_size, request.page_token)
        page = await self._versions.list_versions(_caller(), project, asked)
        return version_service_pb2.ListVersionsResponse(
            versions=map(versions.version_to_proto, page.items), next_page_token=page.next_token
        )


class DeploymentServicer(deployment_service_pb2_grpc.DeploymentServiceServicer):
    """The stable names."""

    def __init__(self, deployments: Deployments, variants: Variants) -> None:
        self._deployments = deployments
        self._variants = variants

    async def CreateDeployment(
        self, request: deployment_service_pb2.CreateDeploymentRequest, context: Context
    ) -> deployment_pb2.Deployment:
        refuse_nul(request)
        (project,) = parse(request.parent, _PROJECT, field="parent")
        draft = resources.deployment_draft(request.deployment_id, request.deployment)
        written = await self._deployments.create_deployment(_caller(), project, draft, write_from_proto(request))
        return resources.deployment_to_proto(_announced(written))

    async def GetDeployment(
        self, request: deployment_service_pb2.GetDeploymentRequest, context: Context
    ) -> deployment_pb2.Deployment:
        project, deployment = parse(request.name, "projects/*/deployments/*", field="name")
        return resources.deployment_to_proto(await self._deployments.get_deployment(_caller(), project, deployment))

    async def ListDeployments(
        self, request: deployment_service_pb2.ListDeploymentsRequest, context: Context
    ) -> deployment_service_pb2.ListDeploymentsResponse:
        (project,) = parse(request.parent, _PROJECT, field="parent")
        asked = ListRequest(request.page_size, request.page_token)
        page = await self._deployments.list_deployments(_caller(), project, asked)
        return deployment_service_pb2.ListDeploymentsResponse(
            deployments=map(resources.deployment_to_proto, page.items), next_page_token=page.next_token
        )

    async def UpdateVariant(
        self, request: deployment_service_pb2.UpdateVariantRequest, context: Context
    ) -> deployment_pb2.Variant:
        refuse_nul(request)
        project, deployment, variant = parse(
            request.variant.name, "projects/*/deployments/*/variants/*", field="variant.name"
        )
        change = resources.variant_change(request.variant, request.update_mask.paths)
        written = await self._variants.update_variant(
            _caller(),
            (project, deployment, variant),
            change,
            alias=request.alias,
            etag=request.variant.etag,
            is_dry=request.validate_only,
        )
        return resources.variant_to_proto(*_announced(written))


class ModelServicer(model_service_pb2_grpc.ModelServiceServicer):
    """The trained recommenders."""

    def __init__(self, models: Models) -> None:
        self._models = models

    async def RegisterModel(self, request: model_service_pb2.RegisterModelRequest, context: Context) -> model_pb2.Model:
        refuse_nul(request)
        (project,) = parse(request.parent, _PROJECT, field="parent")
        facts = models.model_facts(request.model)
        written = await self._models.register_model(_caller(), project, facts, on_behalf_of=request.on_behalf_of)
        return models.model_to_proto(_announced(written))

    async def GetModel(self, request: model_service_pb2.GetModelRequest, context: Context) -> model_pb2.Model:
        project, model = parse(request.name, "projects/*/models/*", field="name")
        return models.model_to_proto(await self._models.get_model(_caller(), project, model))

    async def ListModels(
        self, request: model_service_pb2.ListModelsRequest, context: Context
    ) -> model_service_pb2.ListModelsResponse:
        (project,) = parse(request.parent, _PROJECT, field="parent")
        asked = ListRequest(request.page_size, request.page_token)
        page = await self._models.list_models(_caller(), project, asked)
        return model_service_pb2.ListModelsResponse(
            models=map(models.model_to_proto, page.items), next_page_token=page.next_token
        )


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
        refuse_nul(request)
        (project,) = parse(request.parent, _PROJECT, field="parent")
        draft = resources.api_key_draft(request.api_key)
        written = await self._keys.create_api_key(_caller(), project, draft, write_from_proto(request))
        created = _announced(written)
        await self._seen_here(written.sequence)
        return resources.api_key_to_proto(created.key, text=created.text)

    async def GetApiKey(self, request: api_key_service_pb2.GetApiKeyRequest, context: Context) -> api_key_pb2.ApiKey:
        project, key = parse(request.name, "projects/*/apiKeys/*", field="name")
        return resources.api_key_to_proto(await self._keys.get_api_key(_caller(), project, key))

    async def ListApiKeys(
        self, request: api_key_service_pb2.ListApiKeysRequest, context: Context
    ) -> api_key_service_pb2.ListApiKeysResponse:
        (project,) = parse(request.parent, _PROJECT, field="parent")
        asked = ListRequest(request.page_size, request.page_token)
        page = await self._keys.list_api_keys(_caller(), project, asked)
        return api_key_service_pb2.ListApiKeysResponse(
            api_keys=map(resources.api_key_to_proto, page.items), next_page_token=page.next_token
        )

    async def RevokeApiKey(
        self, request: api_key_service_pb2.RevokeApiKeyRequest, context: Context
    ) -> api_key_pb2.ApiKey:
        project, key = parse(request.name, "projects/*/apiKeys/*", field="name")
        written = await self._keys.revoke_api_key(_caller(), project, key)
        await self._seen_here(written.sequence)
        return resources.api_key_to_proto(_announced(written))


class CatalogServicer(catalog_service_pb2_grpc.CatalogServiceServicer):
    """What other services need of the registry."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    async def WatchCatalog(
        self, request: catalog_service_pb2.WatchCatalogRequest, context: Context
    ) -> AsyncIterator[catalog_service_pb2.WatchCatalogResponse]:
        stream = _CatalogStream(calls.principal())
        async with contextlib.aclosing(self._feed.watch(request.after_sequence, request.epoch)) as events:
            async for event in events:
                yield stream.message(event)
                stream.check_still_welcome(event)


class _CatalogStream:
    """One follower's stream: what it may see, and the digest of the snapshot under way."""

    def __init__(self, principal: calls.Principal) -> None:
        self._own_key = api_key_key(principal.key_id)
        self._hidden = () if _CREDENTIALS_SCOPE in principal.scopes else (CREDENTIAL_PREFIX,)
        self._digest = blake2b(digest_size=32)
        self._count = 0

    def message(self, event: Event) -> catalog_service_pb2.WatchCatalogResponse:
        pb = catalog_service_pb2
        match event:
            case SnapshotBegin(head):
                self._digest, self._count = blake2b(digest_size=32), 0
                return pb.WatchCatalogResponse(begin=pb.CatalogBegin(sequence=head.sequence, epoch=head.epoch))
            case SnapshotChunk(entries):
                chunk = pb.CatalogChunk(
                    entries=[entry_from_change(key, payload) for key, payload in entries if self._may_see(key)]
                )
                for entry in chunk.entries:
                    self._digest.update(entry.SerializeToString(deterministic=True))
                self._count += len(chunk.entries)
                return pb.WatchCatalogResponse(chunk=chunk)
            case SnapshotEnd():
                end = pb.CatalogEnd(digest=self._digest.digest(), entry_count=self._count)
                return pb.WatchCatalogResponse(end=end)
            case Resumed(epoch):
                return pb.WatchCatalogResponse(resumed=pb.CatalogResumed(epoch=epoch))
            case Change(sequence, entries):
                # One that hides everything is sent too: a follower counts on every sequence.
                seen = [entry_from_change(key, payload) for key, payload in entries if self._may_see(key)]
                return pb.WatchCatalogResponse(change=pb.CatalogChange(sequence=sequence, entries=seen))
            case Idle(sequence):
                return pb.WatchCatalogResponse(heartbeat=pb.CatalogHeartbeat(sequence=sequence))

    def check_still_welcome(self, event: Event) -> None:
        """A stream may live for days; its key need not.

        :raises Unauthenticated: `KEY_REVOKED`
        """
        if isinstance(event, Change) and (self._own_key, None) in event.entries:
            raise Unauthenticated("the key of this stream was revoked", reason="KEY_REVOKED")

    def _may_see(self, key: str) -> bool:
        return not key.startswith(self._hidden) if self._hidden else True


def _caller() -> Caller:
    principal = calls.principal()
    return Caller(principal.key_id, principal.tenant, PLATFORM_ADMIN in principal.scopes)


def _announced(written: Written[T]) -> T:
    """What was written; the answer carries its sequence, so that the caller can read its own writes elsewhere."""
    if written.sequence:
        calls.current().trailing_metadata.append((SEQUENCE_HEADER, str(written.sequence)))
    return written.value
