"""The stable names, their variants, revisions and aliases: RPC in, use case, RPC out."""

from __future__ import annotations

from typing import Final

from kit import json
from kit.resource_names import parse
from kit.storable import check_message
from services.registry.application.access import ListRequest, Written
from services.registry.application.compatibility import Compatibility
from services.registry.application.deployments import Deployments
from services.registry.application.history import History
from services.registry.application.snippets import Snippets
from services.registry.application.variants import Variants
from services.registry.convert import resources
from services.registry.convert.changes import change_from_proto
from services.registry.convert.contracts import comparison_to_proto, contract_from_proto
from services.registry.convert.text import write_from_proto
from services.registry.domain import (
    LIVE,
    Addresses,
    Change,
    Deployment,
    DeploymentSearch,
    Variant,
    order_of,
    standing_warnings,
    words_of,
)
from services.registry.servicer.calling import PROJECT, Context, announced, caller
from turnout.registry.v1 import deployment_pb2, deployment_service_pb2_grpc, revision_pb2
from turnout.registry.v1 import deployment_service_pb2 as pb

_DEPLOYMENT: Final = "projects/*/deployments/*"


class DeploymentServicer(deployment_service_pb2_grpc.DeploymentServiceServicer):
    """The stable names."""

    def __init__(
        self,
        deployments: Deployments,
        variants: Variants,
        history: History,
        compatibility: Compatibility,
        snippets: Snippets,
    ) -> None:
        self._deployments = deployments
        self._variants = variants
        self._history = history
        self._compatibility = compatibility
        self._snippets = snippets

    async def CreateDeployment(
        self, request: pb.CreateDeploymentRequest, context: Context
    ) -> deployment_pb2.Deployment:
        check_message(request)
        (project,) = parse(request.parent, PROJECT, field="parent")
        draft = resources.deployment_draft(request.deployment_id, request.deployment)
        written = await self._deployments.create_deployment(
            caller(), project, draft, write_from_proto(request), skip_model_check=request.skip_model_check
        )
        return _deployment(written)

    async def GetDeployment(self, request: pb.GetDeploymentRequest, context: Context) -> deployment_pb2.Deployment:
        project, deployment = parse(request.name, _DEPLOYMENT, field="name")
        return resources.deployment_to_proto(await self._deployments.get_deployment(caller(), project, deployment))

    async def ListDeployments(self, request: pb.ListDeploymentsRequest, context: Context) -> pb.ListDeploymentsResponse:
        check_message(request)
        (project,) = parse(request.parent, PROJECT, field="parent")
        asked = ListRequest(request.page_size, request.page_token)
        search = DeploymentSearch(words_of(request.filter), order_of(request.order_by), request.show_archived)
        page = await self._deployments.list_deployments(caller(), project, asked, search)
        return pb.ListDeploymentsResponse(
            deployments=map(resources.deployment_to_proto, page.items), next_page_token=page.next_token
        )

    async def UpdateDeployment(
        self, request: pb.UpdateDeploymentRequest, context: Context
    ) -> deployment_pb2.Deployment:
        check_message(request)
        project, deployment = parse(request.deployment.name, _DEPLOYMENT, field="deployment.name")
        paths = request.update_mask.paths
        wanted = resources.deployment_change(request.deployment, paths, is_draft=request.draft)
        change = change_from_proto(request, etag=request.deployment.etag)
        written = await self._deployments.update_deployment(caller(), project, deployment, wanted, change)
        return _deployment(written, change.alias)

    async def ArchiveDeployment(
        self, request: pb.ArchiveDeploymentRequest, context: Context
    ) -> deployment_pb2.Deployment:
        return await self._archived(request, archived=True)

    async def UnarchiveDeployment(
        self, request: pb.UnarchiveDeploymentRequest, context: Context
    ) -> deployment_pb2.Deployment:
        return await self._archived(request, archived=False)

    async def _archived(
        self, request: pb.ArchiveDeploymentRequest | pb.UnarchiveDeploymentRequest, *, archived: bool
    ) -> deployment_pb2.Deployment:
        project, deployment = parse(request.name, _DEPLOYMENT, field="name")
        written = await self._deployments.archive_deployment(
            caller(), project, deployment, etag=request.etag, archived=archived
        )
        return resources.deployment_to_proto(announced(written))

    async def CreateVariant(self, request: pb.CreateVariantRequest, context: Context) -> deployment_pb2.Variant:
        check_message(request)
        project, deployment = parse(request.parent, _DEPLOYMENT, field="parent")
        draft = resources.variant_draft(request.variant, "variant")
        change = change_from_proto(request)
        written = await self._variants.create_variant(
            caller(),
            project,
            deployment,
            draft,
            change,
            write_from_proto(request),
            skip_model_check=request.skip_model_check,
        )
        return _variant_of(written, change)

    async def UpdateVariant(self, request: pb.UpdateVariantRequest, context: Context) -> deployment_pb2.Variant:
        check_message(request)
        name = _variant(request.variant.name, field="variant.name")
        wanted = resources.variant_change(request.variant, request.update_mask.paths)
        change = change_from_proto(request, etag=request.variant.etag)
        written = await self._variants.update_variant(
            caller(), name, wanted, change, skip_model_check=request.skip_model_check
        )
        return _variant_of(written, change)

    async def DeleteVariant(self, request: pb.DeleteVariantRequest, context: Context) -> deployment_pb2.Deployment:
        check_message(request)
        written = await self._variants.delete_variant(
            caller(), _variant(request.name, field="name"), change_from_proto(request)
        )
        return _deployment(written, request.alias)

    async def ListRevisions(self, request: pb.ListRevisionsRequest, context: Context) -> pb.ListRevisionsResponse:
        project, deployment = parse(request.parent, _DEPLOYMENT, field="parent")
        asked = ListRequest(request.page_size, request.page_token)
        found, page = await self._history.list_revisions(caller(), project, deployment, asked)
        return pb.ListRevisionsResponse(
            revisions=[resources.revision_to_proto(found, revision) for revision in page.items],
            next_page_token=page.next_token,
        )

    async def GetRevision(self, request: pb.GetRevisionRequest, context: Context) -> revision_pb2.Revision:
        project, deployment, revision = parse(request.name, "projects/*/deployments/*/revisions/*", field="name")
        return resources.revision_to_proto(*await self._history.get_revision(caller(), project, deployment, revision))

    async def CompareRevisions(
        self, request: pb.CompareRevisionsRequest, context: Context
    ) -> pb.CompareRevisionsResponse:
        check_message(request)
        project, deployment = parse(request.name, _DEPLOYMENT, field="name")
        found = await self._history.compare_revisions(caller(), project, deployment, request.before, request.after)
        return pb.CompareRevisionsResponse(differences=map(resources.difference_to_proto, found))

    async def SetAlias(self, request: pb.SetAliasRequest, context: Context) -> deployment_pb2.Deployment:
        check_message(request)
        project, deployment = parse(request.name, _DEPLOYMENT, field="name")
        change = Change(
            alias=request.alias,
            etag=request.etag,
            description=request.description,
            is_dry=request.validate_only,
            retains_contract=request.retain_contract,
        )
        written = await self._history.set_alias(caller(), project, deployment, request.revision, change)
        return _deployment(written, change.alias)

    async def GetCodeSnippets(self, request: pb.GetCodeSnippetsRequest, context: Context) -> pb.GetCodeSnippetsResponse:
        check_message(request)
        if request.name.count("/") == _DEPLOYMENT.count("/"):
            name = (*parse(request.name, _DEPLOYMENT, field="name"), "")
        else:
            name = _variant(request.name, field="name")
        addresses = Addresses(request.http_url, request.grpc_address)
        found, call = await self._snippets.code_snippets(
            caller(), (name[0], name[1], name[2]), request.alias or LIVE, addresses
        )
        return pb.GetCodeSnippetsResponse(
            snippets=[
                pb.CodeSnippet(snippet=each.snippet, title=each.title, language=each.language, code=each.code)
                for each in found
            ],
            routing_key=call.routing_key,
            context_json=json.dump(call.context) if call.context else "",
        )

    async def CheckCompatibility(
        self, request: pb.CheckCompatibilityRequest, context: Context
    ) -> pb.CheckCompatibilityResponse:
        check_message(request)
        if not request.revision:
            (project,) = parse(request.name, PROJECT, field="name")
            before, after = [contract_from_proto(getattr(request, side), field=side) for side in ("before", "after")]
            compared = await self._compatibility.compare_contracts(caller(), project, before, after)
        else:
            project, deployment = parse(request.name, _DEPLOYMENT, field="name")
            compared = await self._compatibility.check_revision(
                caller(), project, deployment, request.alias or LIVE, request.revision
            )
        return comparison_to_proto(compared)

    async def DeleteAlias(self, request: pb.DeleteAliasRequest, context: Context) -> deployment_pb2.Deployment:
        check_message(request)
        project, deployment = parse(request.name, _DEPLOYMENT, field="name")
        written = await self._history.delete_alias(caller(), project, deployment, request.alias, etag=request.etag)
        return resources.deployment_to_proto(announced(written))

    async def RollbackDeployment(
        self, request: pb.RollbackDeploymentRequest, context: Context
    ) -> deployment_pb2.Deployment:
        check_message(request)
        project, deployment = parse(request.name, _DEPLOYMENT, field="name")
        written = await self._history.rollback_deployment(
            caller(), project, deployment, request.revision, change_from_proto(request)
        )
        return _deployment(written, request.alias)


def _deployment(written: Written[Deployment], alias: str = "") -> deployment_pb2.Deployment:
    """The answer to a write by that alias; empty for `live`."""
    proto = resources.deployment_to_proto(announced(written), alias or LIVE)
    proto.warnings.extend(written.warnings)
    proto.change_request = written.change_request
    return proto


def _variant_of(written: Written[tuple[Deployment, Variant]], change: Change) -> deployment_pb2.Variant:
    """The same of one variant."""
    deployment, variant = announced(written)
    proto = resources.variant_to_proto(deployment, variant)
    proto.warnings.extend(written.warnings)
    if not change.is_draft and not written.change_request:
        proto.warnings.extend(standing_warnings(deployment, change.alias))
    proto.change_request = written.change_request
    return proto


def _variant(name: str, *, field: str) -> tuple[str, str, str]:
    project, deployment, variant = parse(name, "projects/*/deployments/*/variants/*", field=field)
    return project, deployment, variant
