from __future__ import annotations

import asyncio
import uuid
from typing import Any

import grpc

from kit import status
from kit.errors import Exists, Invalid
from turnout.registry.v1 import deployment_pb2, version_service_pb2
from turnout.registry.v1 import deployment_service_pb2 as pb


def get(project: str, segment: str = "helper") -> pb.GetDeploymentRequest:
    return pb.GetDeploymentRequest(name=f"projects/{project}/deployments/{segment}")


async def test_defaults_are_filled_in(shop: Any, deployment_request: Any) -> None:
    request = deployment_request(shop.project, "helper", ("A", "B", "C"))
    request.deployment.variants[1].display_name = "Größer & besser"

    made = await shop.call("CreateDeployment", request)

    assert made.name == f"projects/{shop.project}/deployments/helper"
    assert (made.display_name, made.revision, made.salt) == ("helper", "1.0", made.uid)
    assert [(alias.alias, alias.revision) for alias in made.aliases] == [("live", "1.0")]
    assert [variant.slug for variant in made.variants] == ["variant-1", "groer-besser", "variant-3"]
    assert [variant.display_name for variant in made.variants] == ["Variant 1", "Größer & besser", "Variant 3"]
    assert [variant.weight for variant in made.variants] == [100, 0, 0]
    assert all(variant.active for variant in made.variants)
    first = made.variants[0].number
    assert [variant.number for variant in made.variants] == [first, first + 1, first + 2]
    assert made.creator == f"projects/{shop.project}/apiKeys/{shop.key.split('_')[1]}"
    assert list(made.warnings) == []


async def test_what_is_made_is_what_is_read_by_slug_by_uid_and_in_the_list(shop: Any, deployment_request: Any) -> None:
    request = deployment_request(shop.project, "helper", ("A", "B"))
    request.deployment.description, request.deployment.salt = "what for", "pepper"
    request.deployment.variants[0].weight, request.deployment.variants[1].weight = 12.5, 0.25
    request.deployment.variants[1].active = False
    request.deployment.variants[0].notes = "note"
    request.deployment.variants[0].completion.max_retries = 3
    request.deployment.variants[0].completion.attempt_timeout.FromMilliseconds(1500)
    made = await shop.call("CreateDeployment", request)
    other = await shop.call("CreateDeployment", deployment_request(shop.project, "later"))

    assert await shop.call("GetDeployment", get(shop.project)) == made
    assert await shop.call("GetDeployment", get(shop.project, made.uid)) == made
    listed = await shop.call("ListDeployments", pb.ListDeploymentsRequest(parent=f"projects/{shop.project}"))
    for alias in (*made.aliases, *other.aliases):
        alias.ClearField("contract")
    assert list(listed.deployments) == [made, other], "but for contracts"
    assert made.variants[0].completion.attempt_timeout.ToMilliseconds() == 1500
    assert not made.variants[1].active


async def test_a_version_is_named_by_uid_or_resource_name_and_kept_once(
    registry: Any, shop: Any, deployment_request: Any, new_version: Any
) -> None:
    version = await shop.call(
        "PutVersion", version_service_pb2.PutVersionRequest(parent=f"projects/{shop.project}", version=new_version())
    )
    request = deployment_request(shop.project, "helper", ("Hello {{ name }}",))
    for name in (version.uid, version.name):
        request.deployment.variants.add().completion.version = name

    made = await shop.call("CreateDeployment", request)

    assert {variant.completion.version for variant in made.variants} == {version.uid}
    listed = await shop.call("ListVersions", version_service_pb2.ListVersionsRequest(parent=f"projects/{shop.project}"))
    assert [each.uid for each in listed.versions] == [version.uid]


async def test_a_version_of_another_project_is_a_violation(registry: Any, shop: Any, deployment_request: Any) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project))
    other = await registry.new_project()
    uid = made.variants[0].completion.version
    for name in (uid, f"projects/{shop.project}/versions/{uid}", f"projects/{other.project}/deployments/{uid}"):
        request = deployment_request(other.project, "helper", ())
        request.deployment.variants.add().completion.version = name
        error = await other.fails("CreateDeployment", request)
        assert isinstance(error, Invalid)
        assert error.violations[0].field == "deployment.variants[0].completion.version"


async def test_legal_states_that_do_not_serve_carry_a_warning(shop: Any, deployment_request: Any) -> None:
    empty = await shop.call("CreateDeployment", deployment_request(shop.project, "empty", ()))
    asleep = deployment_request(shop.project, "asleep")
    asleep.deployment.variants[0].active = False
    zero = deployment_request(shop.project, "zero")
    zero.deployment.variants[0].weight = 0

    assert "no variant:" in empty.warnings[0]
    assert "active" in (await shop.call("CreateDeployment", asleep)).warnings[0]
    assert "weights" in (await shop.call("CreateDeployment", zero)).warnings[0]


async def test_of_racing_creators_exactly_one_wins(registry: Any, shop: Any, deployment_request: Any) -> None:
    async def create(number: int) -> str:
        request = deployment_request(shop.project, "helper", (f"text {number}",))
        try:
            made = await shop.rpcs["CreateDeployment"](request, metadata=shop.metadata, timeout=20)
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name} {status.reason_of(error)}"
        return str(made.uid)

    answers = await asyncio.gather(*(create(number) for number in range(12)))

    winners = [answer for answer in answers if answer.startswith("dep_")]
    assert len(winners) == 1
    assert answers.count("ALREADY_EXISTS DEPLOYMENT_EXISTS") == 11
    assert (await shop.call("GetDeployment", get(shop.project))).uid == winners[0]


async def test_a_taken_name_leaves_no_trace_of_the_loser(
    registry: Any, shop: Any, deployment_request: Any, state_of: Any
) -> None:
    await shop.call("CreateDeployment", deployment_request(shop.project))
    before = await state_of(registry.url)

    error = await shop.fails("CreateDeployment", deployment_request(shop.project, "helper", ("brand new",)))

    assert isinstance(error, Exists)
    assert error.metadata["resource"] == f"projects/{shop.project}/deployments/helper"
    assert await state_of(registry.url) == before


async def test_a_repeated_request_answers_the_first_deployment(
    registry: Any, shop: Any, deployment_request: Any, state_of: Any
) -> None:
    request = deployment_request(shop.project)
    request.request_id = str(uuid.uuid4())
    made = await shop.call("CreateDeployment", request)
    before = await state_of(registry.url)

    assert await shop.call("CreateDeployment", request) == made
    request.deployment.display_name = "another"
    assert (await shop.fails("CreateDeployment", request)).reason == "REQUEST_ID_REUSED"
    assert await state_of(registry.url) == before


async def test_repeats_that_race_make_one_deployment(shop: Any, deployment_request: Any) -> None:
    request = deployment_request(shop.project)
    request.request_id = str(uuid.uuid4())

    made = await asyncio.gather(*(shop.call("CreateDeployment", request) for _ in range(6)))

    assert len({each.uid for each in made}) == 1


async def test_a_dry_run_answers_what_would_be_and_uses_up_no_number(
    registry: Any, shop: Any, deployment_request: Any, state_of: Any
) -> None:
    request = deployment_request(shop.project)
    request.validate_only, before = True, await state_of(registry.url)

    dry = await shop.call("CreateDeployment", request)

    assert await state_of(registry.url) == before
    request.validate_only = False
    assert (await shop.call("CreateDeployment", request)).variants[0].number == dry.variants[0].number


async def test_a_request_whose_variants_are_wrong_in_form_is_refused_where_they_are(
    shop: Any, deployment_request: Any, new_version: Any
) -> None:
    neither = deployment_request(shop.project, "helper", ())
    neither.deployment.variants.add().completion.SetInParent()
    both = deployment_request(shop.project)
    both.deployment.variants[0].completion.version = "ver_x"
    nothing = deployment_request(shop.project, "helper", ())
    nothing.deployment.variants.add()
    many = deployment_request(shop.project, "helper", ())
    many.deployment.variants.extend(
        [deployment_pb2.Variant(completion=deployment_pb2.CompletionVariant(version="v"))] * 201
    )

    for request, field in (
        (neither, "deployment.variants[0].completion"),
        (both, "deployment.variants[0].completion"),
        (nothing, "deployment.variants[0].serving"),
        (many, "deployment.variants"),
    ):
        error = await shop.fails("CreateDeployment", request)
        assert isinstance(error, Invalid)
        assert error.violations[0].field == field
