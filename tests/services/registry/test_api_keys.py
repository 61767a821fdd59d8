from __future__ import annotations

import time
import uuid
from typing import Any

import grpc
import pytest

from kit import status
from kit.errors import Denied, Exists, Invalid
from turnout.registry.v1 import api_key_service_pb2 as pb
from turnout.registry.v1 import project_service_pb2


def request(project: str, *scopes: str, **fields: Any) -> pb.CreateApiKeyRequest:
    made = pb.CreateApiKeyRequest(parent=f"projects/{project}", **fields)
    made.api_key.display_name = "a program"
    made.api_key.scopes.extend(scopes or ("deployments:run",))
    return made


async def test_a_key_is_shown_once_and_only_its_hash_is_stored(registry: Any, shop: Any, state_of: Any) -> None:
    made = await shop.call("CreateApiKey", request(shop.project))
    got = await shop.call("GetApiKey", pb.GetApiKeyRequest(name=made.name))

    assert made.key.startswith(f"tk_{made.uid}_")
    assert not got.key
    assert made.key.split("_")[2] not in repr(await state_of(registry.url))
    listed = await shop.call("ListApiKeys", pb.ListApiKeysRequest(parent=f"projects/{shop.project}"))
    assert [key.uid for key in listed.api_keys] == [shop.key.split("_")[1], made.uid]
    assert not any(key.key for key in listed.api_keys)


async def test_a_revoked_key_is_refused_within_a_second_and_revoking_again_changes_nothing(
    registry: Any, shop: Any, state_of: Any, eventually: Any
) -> None:
    other = await registry.client(shop.project, ("registry:read",))
    asked = project_service_pb2.GetProjectRequest(name=f"projects/{shop.project}")
    await other.call("GetProject", asked)
    name = f"projects/{shop.project}/apiKeys/{other.key.split('_')[1]}"

    revoked = await shop.call("RevokeApiKey", pb.RevokeApiKeyRequest(name=name))
    began = time.monotonic()

    async def refused() -> bool:
        try:
            await other.rpcs["GetProject"](asked, metadata=other.metadata)
        except grpc.aio.AioRpcError as error:
            return status.reason_of(error) == "KEY_UNKNOWN"
        return False

    await eventually(refused, "the key is refused")
    assert time.monotonic() - began < 1
    before = await state_of(registry.url)
    assert await shop.call("RevokeApiKey", pb.RevokeApiKeyRequest(name=name)) == revoked
    assert revoked.HasField("revoke_time")
    assert await state_of(registry.url) == before


async def test_a_key_works_until_it_expires(registry: Any, shop: Any, eventually: Any) -> None:
    asked = request(shop.project, "registry:read")
    asked.api_key.expire_time.FromMilliseconds(int(time.time() * 1000) + 1500)
    made = await shop.call("CreateApiKey", asked)
    metadata = (("x-api-key", made.key), ("turnout-sequence", str(shop.sequence)))
    read = project_service_pb2.GetProjectRequest(name=f"projects/{shop.project}")
    await shop.rpcs["GetProject"](read, metadata=metadata)

    async def expired() -> bool:
        try:
            await shop.rpcs["GetProject"](read, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            return status.reason_of(error) == "KEY_EXPIRED"
        return False

    await eventually(expired, "the key expires")


@pytest.mark.parametrize("scope", ["platform:admin", "catalog:watch", "catalog:credentials", "made:up"])
async def test_a_project_has_no_keys_with_the_installations_scopes(registry: Any, shop: Any, scope: str) -> None:
    for client in (shop, registry.platform):
        error = await client.fails("CreateApiKey", request(shop.project, "predict", scope))
        assert isinstance(error, Invalid)
        assert (error.reason, error.violations[0].field) == ("SCOPE_UNKNOWN", "api_key.scopes")


async def test_keys_of_the_installation_are_for_platform_keys_only(registry: Any, shop: Any) -> None:
    made = await registry.platform.call("CreateApiKey", request("-", "catalog:watch"))
    assert made.name == f"projects/-/apiKeys/{made.uid}"

    half = await registry.client("-", ("keys:admin", "registry:read"))
    for client in (shop, half):
        for rpc, asked in (
            ("CreateApiKey", request("-", "catalog:watch")),
            ("GetApiKey", pb.GetApiKeyRequest(name=made.name)),
            ("ListApiKeys", pb.ListApiKeysRequest(parent="projects/-")),
            ("RevokeApiKey", pb.RevokeApiKeyRequest(name=made.name)),
        ):
            error = await client.fails(rpc, asked)
            assert isinstance(error, Denied), rpc
            assert error.metadata["scope"] == "platform:admin"


async def test_a_time_of_expiry_that_is_past_or_no_time_is_refused(shop: Any) -> None:
    past, never = request(shop.project), request(shop.project)
    past.api_key.expire_time.seconds = 1
    never.api_key.expire_time.seconds = 1 << 50

    for asked, reason in ((past, "EXPIRE_TIME_PAST"), (never, "TIME_OUT_OF_RANGE")):
        error = await shop.fails("CreateApiKey", asked)
        assert (error.reason, error.violations[0].field) == (reason, "api_key.expire_time")


async def test_a_repeated_request_names_the_key_of_the_first_since_it_cannot_be_shown_again(shop: Any) -> None:
    asked = request(shop.project, request_id=str(uuid.uuid4()))
    made = await shop.call("CreateApiKey", asked)

    error = await shop.fails("CreateApiKey", asked)

    assert isinstance(error, Exists)
    assert (error.reason, error.metadata["resource"]) == ("API_KEY_EXISTS", made.name)


async def test_a_dry_run_shows_no_key_and_writes_nothing(registry: Any, shop: Any, state_of: Any) -> None:
    before = await state_of(registry.url)

    made = await shop.call("CreateApiKey", request(shop.project, validate_only=True))

    assert not made.key
    assert await state_of(registry.url) == before
