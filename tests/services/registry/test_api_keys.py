from __future__ import annotations

import time
import uuid
from typing import Any

import grpc
import pytest

from kit import status
from kit.errors import Conflict, Denied, Exists, Invalid, Precondition, Unauthenticated
from turnout.registry.v1 import api_key_pb2, catalog_service_pb2, project_service_pb2
from turnout.registry.v1 import api_key_service_pb2 as pb


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


async def test_a_request_id_of_another_request_is_told(shop: Any) -> None:
    asked = request(shop.project, request_id=str(uuid.uuid4()))
    await shop.call("CreateApiKey", asked)
    asked.api_key.display_name = "another"

    error = await shop.fails("CreateApiKey", asked)

    assert isinstance(error, Invalid)
    assert (error.reason, error.violations[0].field) == ("REQUEST_ID_REUSED", "request_id")


async def test_a_dry_run_shows_no_key_and_writes_nothing(registry: Any, shop: Any, state_of: Any) -> None:
    before = await state_of(registry.url)

    made = await shop.call("CreateApiKey", request(shop.project, validate_only=True))

    assert not made.key
    assert await state_of(registry.url) == before


@pytest.mark.parametrize("text", ["", "  "])
async def test_a_key_must_say_whose_it_is_and_what_it_may_do(shop: Any, text: str) -> None:
    nameless, idle = request(shop.project), request(shop.project)
    nameless.api_key.display_name = text
    del idle.api_key.scopes[:]

    for asked, reason, field in (
        (nameless, "DISPLAY_NAME_REQUIRED", "api_key.display_name"),
        (idle, "SCOPES_REQUIRED", "api_key.scopes"),
    ):
        error = await shop.fails("CreateApiKey", asked)
        assert isinstance(error, Invalid)
        assert (error.reason, error.violations[0].field) == (reason, field)


def update(
    name: str, *paths: str, etag: str = "", validate_only: bool = False, **fields: Any
) -> pb.UpdateApiKeyRequest:
    made = pb.UpdateApiKeyRequest(
        api_key=api_key_pb2.ApiKey(name=name, etag=etag, **fields), validate_only=validate_only
    )
    made.update_mask.paths.extend(paths)
    return made


async def test_an_update_changes_what_it_names_and_keeps_the_secret(registry: Any, shop: Any) -> None:
    made = await shop.call("CreateApiKey", request(shop.project, "predict"))
    assert made.creator == f"projects/{shop.project}/apiKeys/{shop.key.split('_')[1]}"

    renamed = await shop.call("UpdateApiKey", update(made.name, display_name="robot"))
    assert (renamed.display_name, list(renamed.scopes), renamed.key) == ("robot", ["predict"], "")
    assert renamed.etag not in ("", made.etag)

    wanted = update(renamed.name, "scopes", "expire_time", scopes=["registry:read", "predict"], display_name="ignored")
    wanted.api_key.expire_time.FromSeconds(int(time.time()) + 3600)
    changed = await shop.call("UpdateApiKey", wanted)
    assert (changed.display_name, list(changed.scopes)) == ("robot", ["predict", "registry:read"])
    assert changed.expire_time == wanted.api_key.expire_time

    endless = await shop.call("UpdateApiKey", update(made.name, "expire_time"))
    assert not endless.HasField("expire_time")
    assert await shop.call("GetApiKey", pb.GetApiKeyRequest(name=made.name)) == endless
    read = project_service_pb2.GetProjectRequest(name=f"projects/{shop.project}")
    await shop.rpcs["GetProject"](read, metadata=(("x-api-key", made.key), ("turnout-sequence", str(shop.sequence))))


async def test_what_a_key_may_do_changes_within_a_second(registry: Any, shop: Any, eventually: Any) -> None:
    other = await registry.client(shop.project, ("registry:read",))
    asked = project_service_pb2.GetProjectRequest(name=f"projects/{shop.project}")
    await other.call("GetProject", asked)
    name = f"projects/{shop.project}/apiKeys/{other.key.split('_')[1]}"

    await shop.call("UpdateApiKey", update(name, scopes=["predict"]))
    began = time.monotonic()

    async def refused() -> bool:
        try:
            await other.rpcs["GetProject"](asked, metadata=other.metadata)
        except grpc.aio.AioRpcError as error:
            return status.reason_of(error) == "SCOPE_MISSING"
        return False

    await eventually(refused, "the key lost its scope")
    assert time.monotonic() - began < 1


async def test_an_update_that_changes_nothing_and_a_dry_one_write_nothing(
    registry: Any, shop: Any, state_of: Any
) -> None:
    made = await shop.call("CreateApiKey", request(shop.project, "predict"))
    before = await state_of(registry.url)

    same = await shop.call("UpdateApiKey", update(made.name, display_name="a program", scopes=["predict"]))
    dry = await shop.call("UpdateApiKey", update(made.name, validate_only=True, display_name="robot"))

    assert same.etag == made.etag
    assert dry.display_name == "robot"
    assert await state_of(registry.url) == before


async def test_an_update_is_refused_for_what_is_wrong_with_it(registry: Any, shop: Any, state_of: Any) -> None:
    made = await shop.call("CreateApiKey", request(shop.project))
    gone = await shop.call("CreateApiKey", request(shop.project))
    await shop.call("RevokeApiKey", pb.RevokeApiKeyRequest(name=gone.name))
    past = update(made.name)
    past.api_key.expire_time.seconds = 1
    before = await state_of(registry.url)

    for asked, kind, reason in (
        (update(made.name, "display_name"), Invalid, "DISPLAY_NAME_REQUIRED"),
        (update(made.name, "scopes"), Invalid, "SCOPES_REQUIRED"),
        (update(made.name, scopes=["platform:admin"]), Invalid, "SCOPE_UNKNOWN"),
        (update(made.name, "key", display_name="x"), Invalid, "UPDATE_MASK_INVALID"),
        (past, Invalid, "EXPIRE_TIME_PAST"),
        (update(made.name, display_name="x", etag="other"), Conflict, "ETAG_MISMATCH"),
        (update(gone.name, display_name="x"), Precondition, "API_KEY_REVOKED"),
    ):
        error = await shop.fails("UpdateApiKey", asked)
        assert isinstance(error, kind), error
        assert error.reason == reason
    assert await state_of(registry.url) == before


async def test_a_key_of_a_setting_cannot_be_updated(registry: Any) -> None:
    listed = await registry.platform.call("ListApiKeys", pb.ListApiKeysRequest(parent="projects/-"))
    key = next(key for key in listed.api_keys if key.creator == "TURNOUT_REGISTRY_BOOTSTRAP_SERVICE_KEY")

    error = await registry.platform.fails("UpdateApiKey", update(key.name, display_name="mine"))

    assert isinstance(error, Precondition)
    assert error.reason == "API_KEY_FROM_SETTING"
    assert "TURNOUT_REGISTRY_BOOTSTRAP_SERVICE_KEY" in error.message


async def test_a_followers_stream_ends_when_its_key_may_do_other_things(registry: Any) -> None:
    follower = await registry.client("-", ("catalog:watch", "catalog:credentials"))
    stream = follower.watch(catalog_service_pb2.WatchCatalogRequest())
    while (await stream.read()).WhichOneof("event") != "end":
        pass

    name = f"projects/-/apiKeys/{follower.key.split('_')[1]}"
    await registry.platform.call("UpdateApiKey", update(name, display_name="renamed"))
    await registry.platform.call("UpdateApiKey", update(name, scopes=["catalog:watch"]))

    async def read_on() -> None:
        while await stream.read() is not grpc.aio.EOF:
            pass

    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await read_on()
    error = status.from_rpc_error(failure.value, peer="registry")
    assert isinstance(error, Unauthenticated)
    assert error.reason == "KEY_CHANGED"


def uses(times: dict[str, float]) -> catalog_service_pb2.ReportKeyUsesRequest:
    made = catalog_service_pb2.ReportKeyUsesRequest()
    for uid, seconds in times.items():
        made.uses.add(api_key=uid).last_use_time.FromMilliseconds(round(seconds * 1000))
    return made


async def test_the_latest_use_that_any_service_told_is_kept_and_is_no_change(
    registry: Any, shop: Any, state_of: Any
) -> None:
    made = await shop.call("CreateApiKey", request(shop.project))
    name, sequence = pb.GetApiKeyRequest(name=made.name), shop.sequence
    assert not made.HasField("last_use_time")

    async def told(request: catalog_service_pb2.ReportKeyUsesRequest) -> Any:
        await registry.service.call("ReportKeyUses", request)
        return await shop.call("GetApiKey", name)

    first = await told(uses({made.uid: 1000.5, "0" * 12: 1000}))
    assert first.last_use_time.ToMilliseconds() == 1_000_500
    assert (first.etag, first.display_name) == (made.etag, made.display_name)
    assert (await told(uses({made.uid: 900}))).last_use_time == first.last_use_time
    await shop.call("UpdateApiKey", update(made.name, display_name="renamed"))
    assert shop.sequence == sequence + 1
    twice = uses({made.uid: time.time() + 3600})
    twice.uses.add(api_key=made.uid).last_use_time.seconds = 2000
    now = await told(twice)
    assert abs(now.last_use_time.ToSeconds() - time.time()) < 10
    assert (await told(catalog_service_pb2.ReportKeyUsesRequest())).last_use_time == now.last_use_time


async def test_a_report_that_is_wrong_is_refused(registry: Any, shop: Any) -> None:
    never = uses({"0" * 12: 0})
    never.uses[0].last_use_time.seconds = 1 << 50
    nobody, many = uses({"nobody": 0}), catalog_service_pb2.ReportKeyUsesRequest()
    for _ in range(1001):
        many.uses.add(api_key="0" * 12).last_use_time.seconds = 1

    for asked, field in (
        (never, "uses[0].last_use_time"),
        (nobody, "uses[0].api_key"),
        (many, "uses"),
    ):
        error = await registry.service.fails("ReportKeyUses", asked)
        assert isinstance(error, Invalid), error
        assert error.violations[0].field == field


async def test_uses_are_told_by_every_process_that_checks_keys_the_registry_itself_included(
    registry: Any, shop: Any
) -> None:
    other = await registry.client(shop.project, ("registry:read", "keys:admin"))
    name = f"projects/{shop.project}/apiKeys/{other.key.split('_')[1]}"
    began = time.time()
    key = await other.call("GetApiKey", pb.GetApiKeyRequest(name=name))
    assert not key.HasField("last_use_time")

    await registry.catalog.tell_key_uses(await registry.runtime.channel("registry"))

    key = await other.call("GetApiKey", pb.GetApiKeyRequest(name=name))
    assert began - 0.01 <= key.last_use_time.ToMilliseconds() / 1000 <= time.time()
    # Its own key too, which is checked against the database rather than the view.
    listed = await registry.platform.call("ListApiKeys", pb.ListApiKeysRequest(parent="projects/-", page_size=1000))
    service = next(key for key in listed.api_keys if key.creator == "TURNOUT_REGISTRY_BOOTSTRAP_SERVICE_KEY")
    assert service.HasField("last_use_time") or service.uid in registry.catalog.key_uses


async def test_a_bound_of_calls_is_kept_changed_and_told_by_the_catalog(registry: Any, shop: Any) -> None:
    asked = request(shop.project)
    asked.api_key.requests_per_minute = 60
    made = await shop.call("CreateApiKey", asked)

    async def told() -> int:
        await registry.catalog.reach(shop.sequence)
        return int(registry.catalog.usable_view().api_key(made.uid).requests_per_minute)

    assert (made.requests_per_minute, await told()) == (60, 60)
    update = pb.UpdateApiKeyRequest(api_key=api_key_pb2.ApiKey(name=made.name, requests_per_minute=6))
    changed = await shop.call("UpdateApiKey", update)
    assert (changed.requests_per_minute, changed.display_name, await told()) == (6, "a program", 6)
    assert changed.etag != made.etag
    assert await shop.call("GetApiKey", pb.GetApiKeyRequest(name=made.name)) == changed
    renamed = pb.UpdateApiKeyRequest(api_key=api_key_pb2.ApiKey(name=made.name, display_name="other"))
    assert (await shop.call("UpdateApiKey", renamed)).requests_per_minute == 6

    free = pb.UpdateApiKeyRequest(api_key=api_key_pb2.ApiKey(name=made.name))
    free.update_mask.paths.append("requests_per_minute")
    assert (await shop.call("UpdateApiKey", free)).requests_per_minute == 0
    assert await told() == 0
    update.api_key.requests_per_minute = -1
    assert isinstance(await shop.fails("UpdateApiKey", update), Invalid)
