from __future__ import annotations

import random
import re
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from kit.errors import Conflict, Denied, NotFound, Precondition
from turnout.registry.v1 import api_key_pb2, api_key_service_pb2, change_request_pb2, deployment_pb2
from turnout.registry.v1 import change_request_service_pb2 as pb
from turnout.registry.v1 import deployment_service_pb2 as deployments_pb

APPROVER = ("registry:read", "registry:write", "deployments:approve")
WEIGHT = FieldMask(paths=["weight"])
PENDING = change_request_pb2.CHANGE_REQUEST_STATE_PENDING


@pytest.fixture
async def boss(registry: Any, shop: Any) -> Any:
    """A client of the same project that may approve."""
    return await registry.client(shop.project, APPROVER)


@pytest.fixture
async def made(shop: Any, deployment_request: Any) -> Any:
    """A protected deployment with two variants."""
    request = deployment_request(shop.project, "helper", ("A {{ name }}", "B {{ name }}"))
    request.deployment.protected = True
    return await shop.call("CreateDeployment", request)


async def read(client: Any, made: Any) -> Any:
    return await client.call("GetDeployment", deployments_pb.GetDeploymentRequest(name=made.name))


def weighed(made: Any, weight: float, index: int = 1, **fields: Any) -> Any:
    variant = deployment_pb2.Variant(name=made.variants[index].name, weight=weight)
    return deployments_pb.UpdateVariantRequest(variant=variant, **fields)


async def listed(client: Any, made: Any, **fields: Any) -> list[Any]:
    request = pb.ListChangeRequestsRequest(parent=made.name, **fields)
    return list((await client.call("ListChangeRequests", request)).change_requests)


async def test_a_change_of_a_protected_deployment_waits_with_its_difference(shop: Any, boss: Any, made: Any) -> None:
    answer = await shop.call("UpdateVariant", weighed(made, 30, description="try B"))

    assert answer.change_request.startswith(f"{made.name}/changeRequests/chg_")
    assert (await read(shop, made)).revision == "1.0", "callers meet what they met before"
    request = await boss.call("GetChangeRequest", pb.GetChangeRequestRequest(name=answer.change_request))
    assert (request.state, request.alias, request.base, request.revision) == (PENDING, "live", "1.0", "1.1")
    assert (request.description, request.author) == ("try B", made.creator)
    assert [(each.path, each.before_json, each.after_json) for each in request.differences] == [
        ("variants[variant-2].weight", "0", "30")
    ]
    assert request.expire_time.seconds - request.create_time.seconds == 7 * 86_400


async def test_whoever_approves_a_change_is_told_that_nothing_serves_after_it(shop: Any, boss: Any, made: Any) -> None:
    first = deployment_pb2.Variant(name=made.variants[0].name, weight=0)
    answer = await shop.call("UpdateVariant", deployments_pb.UpdateVariantRequest(variant=first, update_mask=WEIGHT))

    request = await boss.call("GetChangeRequest", pb.GetChangeRequestRequest(name=answer.change_request))
    decided = await boss.call("ApproveChangeRequest", pb.ApproveChangeRequestRequest(name=answer.change_request))

    assert ["NO_ACTIVE_VARIANT" in each for each in request.warnings] == [True]
    assert list(decided.warnings) == list(request.warnings)
    assert [each.startswith("revision 1.1: the weights") for each in answer.warnings] == [True]


async def test_another_key_approves_it_and_callers_meet_it(registry: Any, shop: Any, boss: Any, made: Any) -> None:
    answer = await shop.call("UpdateVariant", weighed(made, 30))

    approve = pb.ApproveChangeRequestRequest(name=answer.change_request, note="looks good")
    decided = await boss.call("ApproveChangeRequest", approve)

    assert (decided.state, decided.decision_note) == (change_request_pb2.CHANGE_REQUEST_STATE_APPROVED, "looks good")
    assert decided.decider.split("/")[-1] == boss.key.split("_")[1]
    after = await read(shop, made)
    assert (after.revision, after.variants[1].weight) == ("1.1", 30)
    await registry.catalog.reach(boss.sequence)
    assert registry.catalog.usable_view().deployment(made.uid).aliases["live"].number == "1.1"
    again = await boss.fails("ApproveChangeRequest", approve)
    assert (type(again), again.reason) == (Precondition, "CHANGE_REQUEST_DECIDED")


@pytest.mark.parametrize("is_draft", [False, True])
async def test_a_repeat_of_a_variant_that_nobody_meets_yet_answers_it_and_what_waits(
    shop: Any, boss: Any, made: Any, new_version: Any, is_draft: bool
) -> None:
    request = deployments_pb.CreateVariantRequest(parent=made.name, request_id=str(uuid.uuid4()), draft=is_draft)
    request.variant.completion.new_version.CopyFrom(new_version("C {{ name }}"))
    first = await shop.call("CreateVariant", request)

    again = await shop.call("CreateVariant", request)

    assert again == first
    assert bool(again.change_request) is not is_draft
    if not is_draft:
        await boss.call("ApproveChangeRequest", pb.ApproveChangeRequestRequest(name=first.change_request))
        approved = await shop.call("CreateVariant", request)
        assert (approved.uid, approved.change_request) == (first.uid, "")


async def test_its_author_cannot_approve_it_whatever_scopes_the_key_gets(registry: Any, shop: Any, made: Any) -> None:
    answer = await shop.call("UpdateVariant", weighed(made, 30))
    approve = pb.ApproveChangeRequestRequest(name=answer.change_request)
    assert (await shop.fails("ApproveChangeRequest", approve)).reason == "SCOPE_MISSING"

    uid = shop.key.split("_")[1]
    key = api_key_pb2.ApiKey(name=f"projects/{shop.project}/apiKeys/{uid}", scopes=APPROVER)
    await registry.platform.call("UpdateApiKey", api_key_service_pb2.UpdateApiKeyRequest(api_key=key))
    failure = await shop.fails("ApproveChangeRequest", approve)
    assert (type(failure), failure.reason) == (Denied, "APPROVAL_BY_AUTHOR")


async def test_who_may_approve_changes_it_at_once(boss: Any, made: Any) -> None:
    answer = await boss.call("UpdateVariant", weighed(made, 30))

    assert not answer.change_request
    assert (await read(boss, made)).revision == "1.1"


async def test_an_approval_after_the_base_moved_is_aborted(shop: Any, boss: Any, made: Any) -> None:
    first = await shop.call("UpdateVariant", weighed(made, 30))
    second = await shop.call("UpdateVariant", weighed(made, 40))
    await boss.call("ApproveChangeRequest", pb.ApproveChangeRequestRequest(name=second.change_request))

    failure = await boss.fails("ApproveChangeRequest", pb.ApproveChangeRequestRequest(name=first.change_request))

    assert (type(failure), failure.reason) == (Conflict, "BASE_MOVED")
    assert (await read(shop, made)).variants[1].weight == 40
    [pending] = await listed(shop, made, state=PENDING)
    assert pending.name == first.change_request


async def test_one_that_is_turned_down_or_withdrawn_changes_nothing(shop: Any, boss: Any, made: Any) -> None:
    rejected = (await shop.call("UpdateVariant", weighed(made, 30))).change_request
    cancelled = (await shop.call("UpdateVariant", weighed(made, 40))).change_request

    await boss.call("RejectChangeRequest", pb.RejectChangeRequestRequest(name=rejected, note="no"))
    denied = await boss.fails("CancelChangeRequest", pb.CancelChangeRequestRequest(name=cancelled))
    assert (type(denied), denied.reason) == (Denied, "NOT_THE_AUTHOR")
    await shop.call("CancelChangeRequest", pb.CancelChangeRequestRequest(name=cancelled))

    assert (await read(shop, made)).revision == "1.0"
    assert [(each.name, each.state) for each in await listed(shop, made)] == [
        (cancelled, change_request_pb2.CHANGE_REQUEST_STATE_CANCELLED),
        (rejected, change_request_pb2.CHANGE_REQUEST_STATE_REJECTED),
    ]
    for rpc, request in (
        ("ApproveChangeRequest", pb.ApproveChangeRequestRequest(name=rejected)),
        ("RejectChangeRequest", pb.RejectChangeRequestRequest(name=cancelled)),
    ):
        assert (await boss.fails(rpc, request)).reason == "CHANGE_REQUEST_DECIDED"


async def test_aliases_and_rollbacks_wait_too(shop: Any, boss: Any, made: Any) -> None:
    await boss.call("UpdateVariant", weighed(made, 30))
    back = await shop.call(
        "RollbackDeployment", deployments_pb.RollbackDeploymentRequest(name=made.name, revision="1.0")
    )
    new = await shop.call("SetAlias", deployments_pb.SetAliasRequest(name=made.name, alias="beta", revision="1.0"))

    assert back.change_request
    assert [each.alias for each in new.aliases] == ["live"]
    await boss.call("ApproveChangeRequest", pb.ApproveChangeRequestRequest(name=new.change_request))
    await boss.call("ApproveChangeRequest", pb.ApproveChangeRequestRequest(name=back.change_request))
    after = await read(shop, made)
    assert {each.alias: each.revision for each in after.aliases} == {"beta": "1.0", "live": "1.2"}


async def test_a_draft_of_a_protected_deployment_needs_nobody_until_it_is_published(
    shop: Any, boss: Any, made: Any
) -> None:
    assert not (await shop.call("UpdateVariant", weighed(made, 30, draft=True))).change_request
    published = await shop.call(
        "SetAlias", deployments_pb.SetAliasRequest(name=made.name, alias="live", revision="1.1", description="now")
    )
    request = await boss.call("ApproveChangeRequest", pb.ApproveChangeRequestRequest(name=published.change_request))
    assert (request.description, (await read(shop, made)).revision) == ("now", "1.1")


@pytest.mark.parametrize("what", ["archive", "unprotect", "delete alias"])
async def test_what_cannot_wait_needs_a_key_that_may_approve(shop: Any, boss: Any, made: Any, what: str) -> None:
    await boss.call("SetAlias", deployments_pb.SetAliasRequest(name=made.name, alias="beta", revision="1.0"))
    rpc, request = {
        "archive": ("ArchiveDeployment", deployments_pb.ArchiveDeploymentRequest(name=made.name)),
        "unprotect": (
            "UpdateDeployment",
            deployments_pb.UpdateDeploymentRequest(
                deployment=deployment_pb2.Deployment(name=made.name, protected=False)
            ),
        ),
        "delete alias": ("DeleteAlias", deployments_pb.DeleteAliasRequest(name=made.name, alias="beta")),
    }[what]

    failure = await shop.fails(rpc, request)

    assert (type(failure), failure.reason, failure.metadata["scope"]) == (
        Denied,
        "APPROVAL_REQUIRED",
        "deployments:approve",
    )
    await boss.call(rpc, request)


async def test_texts_of_a_protected_deployment_are_changed_at_once(shop: Any, made: Any) -> None:
    named = deployment_pb2.Deployment(name=made.name, display_name="Helper")
    answer = await shop.call("UpdateDeployment", deployments_pb.UpdateDeploymentRequest(deployment=named))
    assert (answer.display_name, answer.change_request) == ("Helper", "")
    salted = deployment_pb2.Deployment(name=made.name, display_name="Help", salt="other")
    answer = await shop.call("UpdateDeployment", deployments_pb.UpdateDeploymentRequest(deployment=salted))
    assert answer.change_request
    assert (await read(shop, made)).salt == made.salt


async def test_what_breaks_callers_is_refused_when_it_is_asked_for(shop: Any, made: Any, new_version: Any) -> None:
    request = deployments_pb.CreateVariantRequest(parent=made.name)
    request.variant.completion.new_version.CopyFrom(new_version("{{ other }}"))
    assert (await shop.fails("CreateVariant", request)).reason == "CONTRACT_BROKEN"
    assert not await listed(shop, made)


async def test_nothing_is_asked_for_by_a_dry_run(shop: Any, made: Any) -> None:
    answer = await shop.call("UpdateVariant", weighed(made, 30, validate_only=True))
    assert not answer.change_request
    assert not await listed(shop, made)


async def test_change_requests_are_listed_in_pages_also_for_a_whole_project(
    shop: Any, made: Any, deployment_request: Any
) -> None:
    other = deployment_request(shop.project, "other", ("A", "B"))
    other.deployment.protected = True
    other = await shop.call("CreateDeployment", other)
    asked = [
        (await shop.call("UpdateVariant", weighed(each, weight))).change_request
        for weight in range(1, 5)
        for each in (made, other)
    ]
    found, token = [], ""
    while True:
        page = await shop.call(
            "ListChangeRequests",
            pb.ListChangeRequestsRequest(
                parent=f"projects/{shop.project}/deployments/-", page_size=3, page_token=token, state=PENDING
            ),
        )
        found += [each.name for each in page.change_requests]
        token = page.next_page_token
        if not token:
            break
    assert found == asked[::-1]
    assert {each.name for each in await listed(shop, made)} == set(asked[::2])


async def test_a_uid_alone_names_one_of_whichever_deployment(
    registry: Any, shop: Any, boss: Any, made: Any, deployment_request: Any
) -> None:
    first, second, third = [
        (await shop.call("UpdateVariant", weighed(made, each))).change_request for each in (1, 2, 3)
    ]

    def alone(name: str) -> str:
        return f"projects/{shop.project}/deployments/-/changeRequests/{name.rpartition('/')[2]}"

    assert (await boss.call("GetChangeRequest", pb.GetChangeRequestRequest(name=alone(first)))).name == first
    await boss.call("RejectChangeRequest", pb.RejectChangeRequestRequest(name=alone(first)))
    await shop.call("CancelChangeRequest", pb.CancelChangeRequestRequest(name=alone(second)))
    approved = await boss.call("ApproveChangeRequest", pb.ApproveChangeRequestRequest(name=alone(third)))
    assert (approved.name, (await read(shop, made)).variants[1].weight) == (third, 3)
    other = await registry.new_project()
    name = alone(first).replace(shop.project, other.project)
    error = await other.fails("GetChangeRequest", pb.GetChangeRequestRequest(name=name))
    assert (type(error), error.reason) == (NotFound, "CHANGE_REQUEST_NOT_FOUND")


async def test_there_is_no_other_change_request(shop: Any, boss: Any, made: Any) -> None:
    failure = await boss.fails(
        "ApproveChangeRequest", pb.ApproveChangeRequestRequest(name=f"{made.name}/changeRequests/chg_none")
    )
    assert (type(failure), failure.reason) == (NotFound, "CHANGE_REQUEST_NOT_FOUND")


@pytest.fixture
async def hasty(own_database: str, bootstrap_keys: Any, start: Any) -> AsyncIterator[Any]:
    """A registry whose change requests expire soon."""
    async with start(own_database, bootstrap_keys, TURNOUT_REGISTRY_APPROVAL_TIME_SECONDS="60") as running:
        yield running


async def test_one_that_nobody_decides_expires(hasty: Any, own_database: str, deployment_request: Any) -> None:
    shop = await hasty.new_project(scopes=APPROVER)
    author = await hasty.client(shop.project, ("registry:read", "registry:write"))
    request = deployment_request(shop.project, "helper", ())
    request.deployment.protected = True
    made = await shop.call("CreateDeployment", request)
    salted = deployment_pb2.Deployment(name=made.name, salt="other")
    asked = await author.call("UpdateDeployment", deployments_pb.UpdateDeploymentRequest(deployment=salted))
    # A minute is over.
    connection = await asyncpg.connect(own_database.replace("+asyncpg", ""))
    await connection.execute("UPDATE registry.change_requests SET expires_at = expires_at - interval '61 seconds'")
    await connection.close()

    [found] = await listed(shop, made, state=change_request_pb2.CHANGE_REQUEST_STATE_EXPIRED)
    assert found.name == asked.change_request
    assert not await listed(shop, made, state=PENDING)
    failure = await shop.fails("ApproveChangeRequest", pb.ApproveChangeRequestRequest(name=found.name))
    assert (type(failure), failure.reason) == (Precondition, "CHANGE_REQUEST_EXPIRED")
    assert re.search(r"expired at \d{4}-\d\d-\d\d \d\d:\d\d UTC", failure.message)


@pytest.mark.parametrize("seed", range(3))
async def test_any_walk_of_asking_and_deciding_is_what_a_simple_model_says(
    shop: Any, boss: Any, made: Any, seed: int
) -> None:
    chance = random.Random(seed)
    live, weights = "1.0", {"1.0": 0.0}
    """What the alias points to, and the second variant's weight in each revision."""
    pending: dict[str, tuple[str, str]] = {}
    """Change request to its base and revision."""
    for _ in range(40):
        match chance.choice(["ask", "ask", "change", "approve", "approve", "reject", "cancel"]):
            case "ask":
                weight = float(chance.randrange(1, 5))
                answer = await shop.call("UpdateVariant", weighed(made, weight))
                if weight == weights[live]:
                    assert not answer.change_request
                    continue
                number = f"1.{len(weights)}"
                weights[number] = weight
                pending[answer.change_request] = (live, number)
            case "change":
                weight = float(chance.randrange(1, 5))
                await boss.call("UpdateVariant", weighed(made, weight))
                if weight != weights[live]:
                    live = f"1.{len(weights)}"
                    weights[live] = weight
            case "approve" if pending:
                name = chance.choice(list(pending))
                base, number = pending[name]
                request = pb.ApproveChangeRequestRequest(name=name)
                if base == live:
                    await boss.call("ApproveChangeRequest", request)
                    live = number
                    del pending[name]
                else:
                    assert (await boss.fails("ApproveChangeRequest", request)).reason == "BASE_MOVED"
            case "reject" if pending:
                name = chance.choice(list(pending))
                await boss.call("RejectChangeRequest", pb.RejectChangeRequestRequest(name=name))
                del pending[name]
            case "cancel" if pending:
                name = chance.choice(list(pending))
                await shop.call("CancelChangeRequest", pb.CancelChangeRequestRequest(name=name))
                del pending[name]
        now = await read(shop, made)
        assert (now.revision, now.variants[1].weight) == (live, weights[live])

    assert {each.name: (each.base, each.revision) for each in await listed(shop, made, state=PENDING)} == pending


async def test_a_page_holds_fewer_where_change_requests_say_much(
    registry: Any, shop: Any, boss: Any, made: Any
) -> None:
    answer = await shop.call("UpdateVariant", weighed(made, 30, description="𝒳" * 4000))
    reject = pb.RejectChangeRequestRequest(name=answer.change_request, note="𝒳" * 4000)
    await boss.call("RejectChangeRequest", reject)
    connection = await asyncpg.connect(registry.url.replace("+asyncpg", ""))
    try:
        await connection.execute(
            """INSERT INTO registry.change_requests SELECT (r).* FROM (
               SELECT jsonb_populate_record(request, jsonb_build_object('uid', uid || n)) AS r
               FROM registry.change_requests request, generate_series(1, 149) n WHERE uid = $1) copies""",
            answer.change_request.rpartition("/")[2],
        )
    finally:
        await connection.close()

    seen, token, pages = [], "", 0
    while token or not pages:
        request = pb.ListChangeRequestsRequest(parent=made.name, page_size=1000, page_token=token)
        page = await shop.call("ListChangeRequests", request)
        assert page.ByteSize() < (3 << 20) + (1 << 10)
        seen += [each.uid for each in page.change_requests]
        token, pages = page.next_page_token, pages + 1
    assert (len(seen), pages) == (150, 2)
    assert seen == sorted(set(seen), reverse=True)
