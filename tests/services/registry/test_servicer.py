"""What holds for every rpc, generated over the contract, and every bad input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory

from catalog import keys
from kit import status
from kit.errors import Invalid, NotFound
from kit.ids import new_uid
from turnout.options.v1 import options_pb2
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

ALL_SCOPES = ("registry:read", "registry:write", "keys:admin", "deployments:run", "predict")


def empty(method: Any) -> Any:
    return message_factory.GetMessageClass(method.input_type)()


async def failure_of(client: Any, method: Any, metadata: Any) -> grpc.aio.AioRpcError:
    call = client.rpcs[method.name](empty(method), metadata=metadata, timeout=20)
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await (call.read() if hasattr(call, "read") else call)
    return failure.value


async def test_every_rpc_refuses_a_key_without_its_scope(registry: Any, shop: Any, methods: list[Any]) -> None:
    for method in methods:
        scope = method.GetOptions().Extensions[options_pb2.auth].scope
        others = tuple(each for each in ALL_SCOPES if each != scope)
        client = await registry.client(shop.project, others)
        error = await failure_of(client, method, client.metadata)
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED, method.full_name
        assert (status.reason_of(error), scope in (error.details() or "")) == ("SCOPE_MISSING", True)


async def test_every_rpc_refuses_a_caller_without_a_key_and_one_with_a_made_up_key(
    shop: Any, methods: list[Any]
) -> None:
    mistyped = shop.key[:-1] + ("a" if shop.key[-1] != "a" else "b")
    unknown = keys.new_key().text
    for method in methods:
        for key, reason in (("", "KEY_MISSING"), (mistyped, "KEY_MALFORMED"), (unknown, "KEY_UNKNOWN")):
            error = await failure_of(shop, method, (("x-api-key", key),) if key else ())
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED, method.full_name
            assert status.reason_of(error) == reason


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


async def test_another_projects_resource_below_ones_own_project_is_not_found(
    registry: Any, shop: Any, deployment_request: Any
) -> None:
    spy = await registry.new_project()
    deployment = await shop.call("CreateDeployment", deployment_request(shop.project))
    provider = await shop.call(
        "GetProvider", provider_service_pb2.GetProviderRequest(name=f"projects/{shop.project}/providers/main")
    )
    theirs = {
        "provider": provider.uid,
        "version": deployment.variants[0].completion.version,
        "deployment": deployment.uid,
        "key": shop.key.split("_")[1],
    }
    absent = {"provider": new_uid("prv"), "version": "ver_" + "0" * 32, "deployment": new_uid("dep"), "key": "0" * 12}

    for rpc in ("GetProvider", "GetVersion", "GetDeployment", "GetApiKey", "UpdateApiKey", "RevokeApiKey"):
        error = await spy.fails(rpc, named_requests(spy.project, theirs)[rpc])
        missing = await spy.fails(rpc, named_requests(spy.project, absent)[rpc])
        kind = {"Provider": "provider", "Version": "version", "Deployment": "deployment"}.get(rpc[3:], "key")
        assert isinstance(error, NotFound), rpc
        assert error.reason == missing.reason
        assert error.message.replace(theirs[kind], absent[kind]) == missing.message


@pytest.mark.parametrize(
    "name",
    [
        "shop",
        "projects/",
        "projects/a/b",
        "projects/a b",
        "projects/a\0",
        "projects/'; DROP TABLE registry.projects; --",
        "projects/" + "9" * 64,
        "projects/é",
        "/projects/a",
        "projects/a/",
    ],
)
async def test_a_malformed_name_is_invalid_with_its_field(registry: Any, name: str) -> None:
    for rpc, request, field in (
        ("GetProject", project_service_pb2.GetProjectRequest(name=name), "name"),
        ("ListProviders", provider_service_pb2.ListProvidersRequest(parent=name), "parent"),
    ):
        error = await registry.platform.fails(rpc, request)
        assert isinstance(error, Invalid)
        assert [violation.field for violation in error.violations] == [field]


async def test_a_number_too_large_for_the_database_is_not_found(registry: Any) -> None:
    for digits in ("9" * 18, "9" * 19, "9" * 60):
        error = await registry.platform.fails(
            "GetProject", project_service_pb2.GetProjectRequest(name=f"projects/{digits}")
        )
        assert error.reason == "PROJECT_NOT_FOUND"


def _set(path: str, value: Any) -> Callable[[Any], None]:
    def apply(request: Any) -> None:
        *parents, last = path.split(".")
        target = request
        for part in parents:
            name, _, index = part.partition("[")
            target = getattr(target, name)
            target = target[int(index[:-1])] if index else target
        name, _, index = last.partition("[")
        if index:
            getattr(target, name)[int(index[:-1])] = value
        else:
            setattr(target, name, value)

    return apply


CONTENT = "deployment.variants[0].completion.new_version"
BAD = [
    ("deployment_id", "UPPER", "deployment_id"),
    ("deployment_id", "123", "deployment_id"),
    ("deployment_id", "", "deployment_id"),
    ("deployment_id", "a" * 64, "deployment_id"),
    ("deployment_id", "a' OR 1=1 --", "deployment_id"),
    ("deployment_id", new_uid("dep"), "deployment_id"),
    ("deployment.kind", 0, "deployment.kind"),
    ("deployment.kind", 99, "deployment.kind"),
    ("deployment.display_name", "a\0b", "deployment.display_name"),
    ("deployment.display_name", "x" * 201, "deployment.display_name"),
    ("deployment.description", "x" * 1_000_000, "deployment.description"),
    ("deployment.salt", "s\0", "deployment.salt"),
    ("deployment.variants[0].notes", "\0", "deployment.variants[0].notes"),
    ("deployment.variants[0].weight", 100.5, "deployment.variants[0].weight"),
    ("deployment.variants[0].weight", -1, "deployment.variants[0].weight"),
    ("deployment.variants[0].weight", float("nan"), "deployment.variants[0].weight"),
    ("deployment.variants[0].completion.max_retries", 11, "deployment.variants[0].completion.max_retries"),
    ("deployment.variants[0].completion.version", "ver_x", "deployment.variants[0].completion"),
    (f"{CONTENT}.provider", "nowhere", f"{CONTENT}.provider"),
    (f"{CONTENT}.model", "m\0", f"{CONTENT}.model"),
    (f"{CONTENT}.tools_json", "{}", f"{CONTENT}.tools_json"),
    (f"{CONTENT}.tools_json", "[1,", f"{CONTENT}.tools_json"),
    (f"{CONTENT}.tools_json", "[" * 70 + "]" * 70, f"{CONTENT}.tools_json"),
    (f"{CONTENT}.tools_json", '["' + "x" * (1 << 20) + '"]', f"{CONTENT}.tools_json"),
    (f"{CONTENT}.tools_json", r'["\u0000"]', f"{CONTENT}.tools_json[0]"),
    (f"{CONTENT}.tools_json", r'["\ud800"]', f"{CONTENT}.tools_json"),
    (f"{CONTENT}.tool_choice_json", "1", f"{CONTENT}.tool_choice_json"),
    (f"{CONTENT}.response_format_json", "[]", f"{CONTENT}.response_format_json"),
    (f"{CONTENT}.parameters.extra_json", "nope", f"{CONTENT}.parameters.extra_json"),
    (f"{CONTENT}.parameters.temperature", 2.5, f"{CONTENT}.parameters.temperature"),
    (f"{CONTENT}.messages[0].content", "a\n{{ broken", f"{CONTENT}.messages[0].content"),
    (f"{CONTENT}.messages[0].content", "{{ f() }}", f"{CONTENT}.messages[0].content"),
    (f"{CONTENT}.messages[0].content", "x" * (1 << 20) + "y", f"{CONTENT}.messages"),
    (f"{CONTENT}.messages[0].role", 0, f"{CONTENT}.messages[0].role"),
]


@pytest.mark.parametrize(
    ("path", "value", "field"), BAD, ids=[f"{path}-{index}" for index, (path, *_) in enumerate(BAD)]
)
async def test_bad_input_is_invalid_with_its_field_and_changes_nothing(
    registry: Any, shop: Any, deployment_request: Any, state_of: Any, path: str, value: Any, field: str
) -> None:
    request = deployment_request(shop.project)
    _set(path, value)(request)
    before = await state_of(registry.url)

    error = await shop.fails("CreateDeployment", request)

    assert isinstance(error, Invalid), error
    assert field in [violation.field for violation in error.violations]
    assert await state_of(registry.url) == before


async def test_a_bad_template_is_named_with_its_line(shop: Any, new_version: Any) -> None:
    request = version_service_pb2.PutVersionRequest(
        parent=f"projects/{shop.project}", version=new_version("one\ntwo\n{% if %}")
    )

    error = await shop.fails("PutVersion", request)

    assert error.reason == "TEMPLATE_SYNTAX"
    assert error.violations[0].field == "version.messages[0].content"
    assert "line 3" in error.violations[0].message


async def test_sql_looking_text_is_stored_as_it_is(shop: Any, deployment_request: Any) -> None:
    text = "'; DROP TABLE registry.projects; -- \" $1 %s \\ \u202e"
    request = deployment_request(shop.project)
    request.deployment.display_name = request.deployment.variants[0].notes = text

    await shop.call("CreateDeployment", request)
    found = await shop.call(
        "GetDeployment",
        deployment_service_pb2.GetDeploymentRequest(name=f"projects/{shop.project}/deployments/helper"),
    )

    assert found.display_name == found.variants[0].notes == text


async def test_pages_continue_where_they_ended_and_tokens_fit_one_list_only(registry: Any, shop: Any) -> None:
    for number in range(5):
        request = provider_service_pb2.CreateProviderRequest(
            parent=f"projects/{shop.project}", provider_id=f"p{number}"
        )
        request.provider.kind = provider_pb2.PROVIDER_KIND_OPENAI
        await shop.call("CreateProvider", request)
    asked = provider_service_pb2.ListProvidersRequest(parent=f"projects/{shop.project}", page_size=2)
    slugs: list[str] = []
    tokens: list[str] = []
    while True:
        page = await shop.call("ListProviders", asked)
        slugs += [provider.name.rpartition("/")[2] for provider in page.providers]
        if not page.next_page_token:
            break
        tokens.append(page.next_page_token)
        asked.page_token = page.next_page_token
    assert slugs == ["main", "p0", "p1", "p2", "p3", "p4"]
    assert len(tokens) == 2

    stranger = await registry.new_project()
    elsewhere: list[tuple[str, Any]] = [
        ("ListProviders", provider_service_pb2.ListProvidersRequest(parent=f"projects/{stranger.project}")),
        ("ListVersions", version_service_pb2.ListVersionsRequest(parent=f"projects/{stranger.project}")),
        ("ListDeployments", deployment_service_pb2.ListDeploymentsRequest(parent=f"projects/{stranger.project}")),
        ("ListApiKeys", api_key_service_pb2.ListApiKeysRequest(parent=f"projects/{stranger.project}")),
        ("ListProjects", project_service_pb2.ListProjectsRequest()),
    ]
    for rpc, other in elsewhere:
        other.page_token = tokens[0]
        error = await stranger.fails(rpc, other)
        assert (error.reason, error.violations[0].field) == ("PAGE_TOKEN_INVALID", "page_token"), rpc


async def test_a_negative_page_size_is_invalid(shop: Any) -> None:
    request = provider_service_pb2.ListProvidersRequest(parent=f"projects/{shop.project}", page_size=-1)

    error = await shop.fails("ListProviders", request)

    assert isinstance(error, Invalid)
    assert error.violations[0].field == "page_size"
