"""What holds for every rpc, generated over the contract, and every bad input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory

from catalog import keys
from kit import status
from kit.errors import Invalid
from kit.ids import new_uid
from turnout.options.v1 import options_pb2
from turnout.registry.v1 import (
    api_key_service_pb2,
    deployment_service_pb2,
    project_service_pb2,
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
