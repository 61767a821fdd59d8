from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from kit import status
from kit.errors import Conflict, Invalid, NotFound
from turnout.registry.v1 import deployment_pb2, deployment_service_pb2
from turnout.registry.v1 import deployment_service_pb2 as pb


def get(name: str) -> pb.GetDeploymentRequest:
    return pb.GetDeploymentRequest(name=name)


def update(name: str, *paths: str, **fields: Any) -> pb.UpdateVariantRequest:
    request = pb.UpdateVariantRequest(variant=deployment_pb2.Variant(name=name, **fields))
    request.update_mask.paths.extend(paths)
    return request


async def test_a_new_weight_is_a_minor_revision_that_live_points_to(shop: Any, deployment_request: Any) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project, "helper", ("A", "B")))
    changed = await shop.call("UpdateVariant", update(made.variants[1].name, weight=10))
    after = await shop.call("GetDeployment", get(made.name))

    assert (changed.uid, changed.weight) == (made.variants[1].uid, 10)
    assert after.revision == "1.1"
    assert [variant.weight for variant in after.variants] == [100, 10]
    assert [variant.uid for variant in after.variants] == [variant.uid for variant in made.variants]
    assert after.etag == changed.etag != made.etag
    assert after.variants[1] == changed


async def test_another_version_is_a_major_revision_and_the_old_one_leaves_the_catalog(
    registry: Any, shop: Any, deployment_request: Any, new_version: Any
) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project, "helper", ("A", "B")))
    old = made.variants[0].completion.version
    request = update(made.variants[0].name)
    request.variant.completion.new_version.CopyFrom(new_version("C"))
    request.variant.completion.max_retries = 2
    changed = await shop.call("UpdateVariant", request)

    assert (await shop.call("GetDeployment", get(made.name))).revision == "2.0"
    await registry.catalog.reach(shop.sequence)
    view = registry.catalog.usable_view()
    project = view.project_named(shop.project)
    assert view.version(project.uid, changed.completion.version) is not None
    assert view.version(project.uid, old) is None
    assert view.deployment(made.uid).aliases["live"].variants[0].serving.max_retries == 2


async def test_a_version_that_another_deployment_uses_stays_in_the_catalog(
    registry: Any, shop: Any, deployment_request: Any, new_version: Any
) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project, "helper", ("A",)))
    await shop.call("CreateDeployment", deployment_request(shop.project, "other", ("A",)))
    request = update(made.variants[0].name)
    request.variant.completion.new_version.CopyFrom(new_version("C"))
    await shop.call("UpdateVariant", request)

    await registry.catalog.reach(shop.sequence)
    view = registry.catalog.usable_view()
    project = view.project_named(shop.project)
    assert view.version(project.uid, made.variants[0].completion.version) is not None


async def test_a_version_comes_back_into_the_catalog(
    registry: Any, shop: Any, deployment_request: Any, new_version: Any
) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project, "helper", ("A",)))
    first = made.variants[0].completion.version
    request = update(made.variants[0].name)
    request.variant.completion.new_version.CopyFrom(new_version("C"))
    await shop.call("UpdateVariant", request)
    back = update(made.variants[0].name)
    back.variant.completion.version = first
    await shop.call("UpdateVariant", back)

    await registry.catalog.reach(shop.sequence)
    view = registry.catalog.usable_view()
    assert view.version(view.project_named(shop.project).uid, first) is not None
    assert (await shop.call("GetDeployment", get(made.name))).revision == "3.0"


async def test_an_update_that_changes_nothing_makes_no_revision(
    registry: Any, shop: Any, deployment_request: Any, state_of: Any
) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project))
    before = await state_of(registry.url)
    same = await shop.call("UpdateVariant", update(made.variants[0].name, weight=100, active=True))

    assert same == made.variants[0]
    assert await state_of(registry.url) == before


async def test_a_mask_says_what_changes_and_clears_texts(shop: Any, deployment_request: Any) -> None:
    request = deployment_request(shop.project)
    request.deployment.variants[0].notes, request.deployment.variants[0].display_name = "note", "Old"
    made = await shop.call("CreateDeployment", request)
    changed = await shop.call(
        "UpdateVariant", update(made.variants[0].name, "notes", "active", active=False, weight=3, display_name="New")
    )

    assert (changed.notes, changed.active, changed.weight, changed.display_name) == ("", False, 100, "Old")


async def test_a_variant_is_named_by_slug_uid_or_number(shop: Any, deployment_request: Any) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project))
    variant = made.variants[0]
    for weight, segment in enumerate((variant.slug, variant.uid, str(variant.number)), start=1):
        changed = await shop.call("UpdateVariant", update(f"{made.name}/variants/{segment}", weight=weight))
        assert (changed.weight, changed.name) == (weight, variant.name)


async def test_a_dry_update_answers_what_would_be_and_writes_nothing(
    registry: Any, shop: Any, deployment_request: Any, state_of: Any
) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project))
    before = await state_of(registry.url)
    request = update(made.variants[0].name, weight=7)
    request.validate_only = True

    assert (await shop.call("UpdateVariant", request)).weight == 7
    assert await state_of(registry.url) == before


async def test_an_update_of_what_has_changed_since_is_a_conflict(shop: Any, deployment_request: Any) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project))
    name, etag = made.variants[0].name, made.variants[0].etag
    await shop.call("UpdateVariant", update(name, weight=1, etag=etag))
    error = await shop.fails("UpdateVariant", update(name, weight=2, etag=etag))

    assert isinstance(error, Conflict)
    assert (error.reason, error.metadata["resource"]) == ("ETAG_MISMATCH", made.name)


async def test_of_racing_updates_with_one_etag_exactly_one_wins(shop: Any, deployment_request: Any) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project))

    async def change(weight: int) -> str:
        request = update(made.variants[0].name, weight=weight, etag=made.etag)
        try:
            await shop.rpcs["UpdateVariant"](request, metadata=shop.metadata, timeout=20)
        except grpc.aio.AioRpcError as error:
            return status.reason_of(error)
        return "won"

    answers = await asyncio.gather(*(change(weight) for weight in range(1, 9)))
    assert sorted(answers) == ["ETAG_MISMATCH"] * 7 + ["won"]
    assert (await shop.call("GetDeployment", get(made.name))).revision == "1.1"


@pytest.mark.parametrize(
    ("paths", "fields", "reason", "field"),
    [
        (("salt",), {}, "UPDATE_MASK_INVALID", "update_mask"),
        (("weight",), {}, "UPDATE_MASK_INVALID", "update_mask"),
        ((), {"weight": float("nan")}, "INVALID_REQUEST", "variant.weight"),
        (
            (),
            {"recommendation": deployment_pb2.RecommendationVariant(model="mod_x")},
            "VARIANT_KIND_MISMATCH",
            "variant.recommendation",
        ),
        (
            (),
            {"completion": deployment_pb2.CompletionVariant(version="ver_x")},
            "VERSION_NOT_FOUND",
            "variant.completion.version",
        ),
    ],
)
async def test_bad_updates_name_the_field(
    shop: Any, deployment_request: Any, paths: tuple[str, ...], fields: dict[str, Any], reason: str, field: str
) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project))
    error = await shop.fails("UpdateVariant", update(made.variants[0].name, *paths, **fields))

    assert isinstance(error, Invalid)
    assert (error.reason, error.violations[0].field) == (reason, field)


async def test_what_is_not_there_is_not_found(registry: Any, shop: Any, deployment_request: Any) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project))
    other = await registry.new_project()
    unknown = update(made.variants[0].name, weight=1)
    unknown.alias = "staging"
    for client, request, reason in (
        (shop, update(f"{made.name}/variants/nope", weight=1), "VARIANT_NOT_FOUND"),
        (shop, update(f"projects/{shop.project}/deployments/nope/variants/x", weight=1), "DEPLOYMENT_NOT_FOUND"),
        (shop, unknown, "ALIAS_NOT_FOUND"),
        (other, update(made.variants[0].name, weight=1), "PROJECT_NOT_FOUND"),
    ):
        error = await client.fails("UpdateVariant", request)
        assert isinstance(error, NotFound)
        assert error.reason == reason


async def test_a_variant_of_the_wrong_kind_is_refused_at_creation(shop: Any, deployment_request: Any) -> None:
    request = deployment_request(shop.project)
    request.deployment.kind = deployment_pb2.DEPLOYMENT_KIND_RECOMMENDATION
    error = await shop.fails("CreateDeployment", request)

    assert error.reason == "VARIANT_KIND_MISMATCH"
    assert error.violations[0].field == "deployment.variants[0].completion"


async def test_a_recommender_is_swapped_for_another(registry: Any, shop: Any, model_request: Any) -> None:
    models = [await registry.service.call("RegisterModel", model_request(shop, seed)) for seed in "ab"]
    request = deployment_service_pb2.CreateDeploymentRequest(parent=f"projects/{shop.project}", deployment_id="top")
    request.deployment.kind = deployment_pb2.DEPLOYMENT_KIND_RECOMMENDATION
    request.deployment.variants.add().recommendation.model = models[0].uid
    made = await shop.call("CreateDeployment", request)
    swap = update(made.variants[0].name, recommendation=deployment_pb2.RecommendationVariant(model=models[1].uid))
    await shop.call("UpdateVariant", swap)

    await registry.catalog.reach(shop.sequence)
    view = registry.catalog.usable_view()
    assert view.deployment(made.uid).aliases["live"].variants[0].serving.model == models[1].uid
    assert (view.model(models[0].uid), view.model(models[1].uid).digest) == (None, models[1].digest)
