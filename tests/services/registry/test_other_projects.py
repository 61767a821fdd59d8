"""Whatever is another project's does not exist for a project's key."""

from __future__ import annotations

from typing import Any

import pytest

from kit.errors import NotFound
from kit.ids import new_uid
from turnout.registry.v1 import (
    api_key_service_pb2,
    change_request_service_pb2,
    deployment_pb2,
    deployment_service_pb2,
    model_service_pb2,
    project_service_pb2,
    prompt_service_pb2,
    provider_pb2,
    provider_service_pb2,
    version_service_pb2,
)


def named_requests(project: str, ids: dict[str, str]) -> dict[str, Any]:
    """A request that is right in everything, for every rpc that names something."""
    parent = f"projects/{project}"
    create_key = api_key_service_pb2.CreateApiKeyRequest(parent=parent)
    create_key.api_key.display_name = "x"
    create_key.api_key.scopes.append("predict")
    update_key = api_key_service_pb2.UpdateApiKeyRequest()
    update_key.api_key.name, update_key.api_key.display_name = f"{parent}/apiKeys/{ids['key']}", "x"
    create_provider = provider_service_pb2.CreateProviderRequest(parent=parent, provider_id="other")
    create_provider.provider.kind = provider_pb2.PROVIDER_KIND_OPENAI
    put_version = version_service_pb2.PutVersionRequest(parent=parent)
    put_version.version.provider, put_version.version.model = "main", "m"
    create_deployment = deployment_service_pb2.CreateDeploymentRequest(parent=parent, deployment_id="other")
    create_deployment.deployment.kind = deployment_pb2.DEPLOYMENT_KIND_COMPLETION
    update_provider = provider_service_pb2.UpdateProviderRequest()
    update_provider.provider.name, update_provider.provider.display_name = f"{parent}/providers/main", "x"
    update_variant = deployment_service_pb2.UpdateVariantRequest()
    update_variant.variant.name, update_variant.variant.weight = f"{parent}/deployments/helper/variants/variant-1", 1
    update_deployment = deployment_service_pb2.UpdateDeploymentRequest()
    update_deployment.deployment.name = f"{parent}/deployments/helper"
    update_deployment.deployment.description = "x"
    create_prompt = prompt_service_pb2.CreatePromptRequest(parent=parent, prompt_id="other")
    create_prompt.prompt.messages.add(role=1, content="x")
    update_prompt = prompt_service_pb2.UpdatePromptRequest()
    update_prompt.prompt.name, update_prompt.prompt.description = f"{parent}/prompts/welcome", "x"
    change_request = f"{parent}/deployments/helper/changeRequests/{ids.get('change_request', 'chg_x')}"
    new_variant = deployment_pb2.Variant()
    new_variant.completion.version = ids["version"]
    return {
        "GetProject": project_service_pb2.GetProjectRequest(name=parent),
        "CreateProvider": create_provider,
        "GetProvider": provider_service_pb2.GetProviderRequest(name=f"{parent}/providers/{ids['provider']}"),
        "UpdateProvider": update_provider,
        "ListProviders": provider_service_pb2.ListProvidersRequest(parent=parent),
        "ArchiveProvider": provider_service_pb2.ArchiveProviderRequest(name=f"{parent}/providers/main"),
        "UnarchiveProvider": provider_service_pb2.UnarchiveProviderRequest(name=f"{parent}/providers/main"),
        "ListProviderModels": provider_service_pb2.ListProviderModelsRequest(name=f"{parent}/providers/main"),
        "CheckProvider": provider_service_pb2.CheckProviderRequest(name=f"{parent}/providers/main"),
        "PutVersion": put_version,
        "GetVersion": version_service_pb2.GetVersionRequest(name=f"{parent}/versions/{ids['version']}"),
        "ListVersions": version_service_pb2.ListVersionsRequest(parent=parent),
        "CreateDeployment": create_deployment,
        "GetDeployment": deployment_service_pb2.GetDeploymentRequest(name=f"{parent}/deployments/{ids['deployment']}"),
        "ListDeployments": deployment_service_pb2.ListDeploymentsRequest(parent=parent),
        "UpdateVariant": update_variant,
        "UpdateDeployment": update_deployment,
        "CreateVariant": deployment_service_pb2.CreateVariantRequest(
            parent=f"{parent}/deployments/helper", variant=new_variant
        ),
        "DeleteVariant": deployment_service_pb2.DeleteVariantRequest(
            name=f"{parent}/deployments/helper/variants/variant-1"
        ),
        "ArchiveDeployment": deployment_service_pb2.ArchiveDeploymentRequest(name=f"{parent}/deployments/helper"),
        "UnarchiveDeployment": deployment_service_pb2.UnarchiveDeploymentRequest(name=f"{parent}/deployments/helper"),
        "ListRevisions": deployment_service_pb2.ListRevisionsRequest(parent=f"{parent}/deployments/helper"),
        "GetRevision": deployment_service_pb2.GetRevisionRequest(name=f"{parent}/deployments/helper/revisions/1.0"),
        "CompareRevisions": deployment_service_pb2.CompareRevisionsRequest(
            name=f"{parent}/deployments/helper", before="1.0"
        ),
        "SetAlias": deployment_service_pb2.SetAliasRequest(
            name=f"{parent}/deployments/helper", alias="stage", revision="1.0"
        ),
        "DeleteAlias": deployment_service_pb2.DeleteAliasRequest(name=f"{parent}/deployments/helper", alias="stage"),
        "RollbackDeployment": deployment_service_pb2.RollbackDeploymentRequest(
            name=f"{parent}/deployments/helper", revision="1.0"
        ),
        "CheckCompatibility": deployment_service_pb2.CheckCompatibilityRequest(
            name=f"{parent}/deployments/helper", revision="1.0"
        ),
        "GetCodeSnippets": deployment_service_pb2.GetCodeSnippetsRequest(name=f"{parent}/deployments/helper"),
        "GetChangeRequest": change_request_service_pb2.GetChangeRequestRequest(name=change_request),
        "ListChangeRequests": change_request_service_pb2.ListChangeRequestsRequest(parent=f"{parent}/deployments/-"),
        "ApproveChangeRequest": change_request_service_pb2.ApproveChangeRequestRequest(name=change_request),
        "RejectChangeRequest": change_request_service_pb2.RejectChangeRequestRequest(name=change_request),
        "CancelChangeRequest": change_request_service_pb2.CancelChangeRequestRequest(name=change_request),
        "CreatePrompt": create_prompt,
        "GetPrompt": prompt_service_pb2.GetPromptRequest(name=f"{parent}/prompts/{ids.get('prompt', 'welcome')}@1"),
        "ListPrompts": prompt_service_pb2.ListPromptsRequest(parent=parent),
        "UpdatePrompt": update_prompt,
        "ListPromptNumbers": prompt_service_pb2.ListPromptNumbersRequest(parent=f"{parent}/prompts/welcome"),
        "ArchivePrompt": prompt_service_pb2.ArchivePromptRequest(name=f"{parent}/prompts/welcome"),
        "UnarchivePrompt": prompt_service_pb2.UnarchivePromptRequest(name=f"{parent}/prompts/welcome"),
        "RenderPrompt": prompt_service_pb2.RenderPromptRequest(name=f"{parent}/prompts/welcome"),
        "GetModel": model_service_pb2.GetModelRequest(name=f"{parent}/models/{ids.get('model', 'mod_x')}"),
        "ListModels": model_service_pb2.ListModelsRequest(parent=parent),
        "ArchiveModel": model_service_pb2.ArchiveModelRequest(name=f"{parent}/models/1"),
        "UnarchiveModel": model_service_pb2.UnarchiveModelRequest(name=f"{parent}/models/1"),
        "CreateApiKey": create_key,
        "GetApiKey": api_key_service_pb2.GetApiKeyRequest(name=f"{parent}/apiKeys/{ids['key']}"),
        "ListApiKeys": api_key_service_pb2.ListApiKeysRequest(parent=parent),
        "UpdateApiKey": update_key,
        "RevokeApiKey": api_key_service_pb2.RevokeApiKeyRequest(name=f"{parent}/apiKeys/{ids['key']}"),
    }


async def test_another_project_is_not_found_by_any_rpc_in_the_words_for_one_that_does_not_exist(
    registry: Any, shop: Any, deployment_request: Any, methods: list[Any], state_of: Any
) -> None:
    spy = await registry.new_project(scopes=("registry:read", "registry:write", "keys:admin", "deployments:approve"))
    deployment = await shop.call("CreateDeployment", deployment_request(shop.project))
    ids = {
        "provider": "main",
        "version": deployment.variants[0].completion.version,
        "deployment": deployment.uid,
        "key": shop.key.split("_")[1],
    }
    project = await shop.call("GetProject", project_service_pb2.GetProjectRequest(name=f"projects/{shop.project}"))
    # RegisterModel is for services, which see every project.
    fields = {"name", "parent", "variant", "provider", "prompt", "deployment", "api_key"}
    naming = {m.name for m in methods if fields & set(m.input_type.fields_by_name)}
    naming.remove("RegisterModel")
    assert naming == set(named_requests("x", ids))
    before = await state_of(registry.url)

    for segment in (shop.project, project.uid, str(project.number)):
        absent = {shop.project: "no-such-project", project.uid: new_uid("prj")}.get(segment, "999999999")
        for (rpc, theirs), none in zip(
            named_requests(segment, ids).items(), named_requests(absent, ids).values(), strict=True
        ):
            error, missing = await spy.fails(rpc, theirs), await spy.fails(rpc, none)
            assert isinstance(error, NotFound), rpc
            assert isinstance(missing, NotFound), rpc
            assert error.reason == missing.reason == "PROJECT_NOT_FOUND"
            assert error.message.replace(segment, absent) == missing.message

    assert await state_of(registry.url) == before


BELOW_ONES_OWN = {
    "provider": ("GetProvider", "UpdateProvider", "ArchiveProvider", "ListProviderModels", "CheckProvider"),
    "version": ("GetVersion",),
    "deployment": ("GetDeployment", "ListRevisions", "UpdateDeployment", "ArchiveDeployment", "GetCodeSnippets"),
    "key": ("GetApiKey", "UpdateApiKey", "RevokeApiKey"),
    "prompt": ("GetPrompt", "UpdatePrompt", "ListPromptNumbers", "RenderPrompt", "ArchivePrompt"),
    "model": ("GetModel", "ArchiveModel", "UnarchiveModel"),
    "change_request": ("GetChangeRequest", "ApproveChangeRequest", "RejectChangeRequest", "CancelChangeRequest"),
    "variant": ("UpdateVariant", "DeleteVariant", "GetCodeSnippets"),
    "revision": ("GetRevision", "RollbackDeployment", "SetAlias", "CompareRevisions", "CheckCompatibility"),
}
"""Rpcs that name a thing of each kind."""


def _naming(rpc: str, kind: str, project: str, segment: str) -> Any:
    """A request that names a thing below a project, or, of what deployments have, below the project's own one."""
    request = named_requests(project, {"provider": "x", "version": "x", "deployment": "x", "key": "x"})[rpc]
    if kind in ("variant", "revision", "change_request"):
        collection = {"variant": "variants", "revision": "revisions", "change_request": "changeRequests"}[kind]
        name = f"projects/{project}/deployments/helper/{collection}/{segment}"
        if kind == "revision" and rpc != "GetRevision":
            setattr(request, "after" if rpc == "CompareRevisions" else "revision", segment)
            return request
    else:
        collection = {"key": "apiKeys"}.get(kind, f"{kind}s")
        name = f"projects/{project}/{collection}/{segment}"
    holders = [field.name for field in request.DESCRIPTOR.fields if field.name in ("provider", "prompt", "deployment")]
    holders += [field.name for field in request.DESCRIPTOR.fields if field.name in ("variant", "api_key")]
    if holders:
        getattr(request, holders[0]).name = name
    else:
        setattr(request, "name" if "name" in request.DESCRIPTOR.fields_by_name else "parent", name)
    return request


@pytest.mark.parametrize("kind", BELOW_ONES_OWN)
async def test_another_projects_resource_below_ones_own_project_is_not_found(
    registry: Any, shop: Any, deployment_request: Any, model_request: Any, state_of: Any, kind: str
) -> None:
    spy = await registry.new_project(scopes=("registry:read", "registry:write", "keys:admin", "deployments:approve"))
    await spy.call("CreateProvider", _provider_request(spy.project))
    await spy.call("CreateDeployment", deployment_request(spy.project))
    theirs, absent = await _theirs(registry, shop, deployment_request, model_request, kind)
    before = await state_of(registry.url)

    for rpc in BELOW_ONES_OWN[kind]:
        error = await spy.fails(rpc, _naming(rpc, kind, spy.project, theirs))
        missing = await spy.fails(rpc, _naming(rpc, kind, spy.project, absent))
        assert isinstance(error, NotFound), rpc
        assert error.reason == missing.reason, rpc
        assert error.message.replace(theirs, absent) == missing.message, rpc
    assert await state_of(registry.url) == before


def _provider_request(project: str) -> Any:
    request = provider_service_pb2.CreateProviderRequest(parent=f"projects/{project}", provider_id="main")
    request.provider.kind = provider_pb2.PROVIDER_KIND_OPENAI
    return request


def _revisions(project: str) -> Any:
    return deployment_service_pb2.ListRevisionsRequest(parent=f"projects/{project}/deployments/helper")


async def _theirs(registry: Any, shop: Any, deployment_request: Any, model_request: Any, kind: str) -> tuple[str, str]:
    """The uid of a thing of another project, and one of a thing that does not exist."""
    create = deployment_request(shop.project, "helper", ("Theirs {{ name }}",))
    create.deployment.protected = True
    deployment = await shop.call("CreateDeployment", create)
    parent = f"projects/{shop.project}"
    match kind:
        case "provider":
            get = provider_service_pb2.GetProviderRequest(name=f"{parent}/providers/main")
            return (await shop.call("GetProvider", get)).uid, new_uid("prv")
        case "version":
            return deployment.variants[0].completion.version, "ver_" + "0" * 32
        case "deployment":
            return deployment.uid, new_uid("dep")
        case "key":
            return shop.key.split("_")[1], "0" * 12
        case "prompt":
            prompt = prompt_service_pb2.CreatePromptRequest(parent=parent, prompt_id="welcome")
            prompt.prompt.messages.add(role=1, content="x")
            return (await shop.call("CreatePrompt", prompt)).uid, new_uid("pmt")
        case "model":
            return (await registry.service.call("RegisterModel", model_request(shop))).uid, new_uid("mod")
        case "variant":
            return deployment.variants[0].uid, new_uid("var")
        case "revision":
            return (await shop.call("ListRevisions", _revisions(shop.project))).revisions[0].uid, new_uid("rev")
    salted = deployment_pb2.Deployment(name=deployment.name, salt="other")
    asked = await shop.call("UpdateDeployment", deployment_service_pb2.UpdateDeploymentRequest(deployment=salted))
    return asked.change_request.rpartition("/")[2], new_uid("chg")
