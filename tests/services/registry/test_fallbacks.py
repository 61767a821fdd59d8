"""Fallbacks and what else is done about failures, over the rpcs."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from catalog import view
from kit.errors import Invalid, Precondition
from tests.services.registry.offering import Offering, offering, openai
from turnout.registry.v1 import deployment_pb2, provider_pb2, provider_service_pb2
from turnout.registry.v1 import deployment_service_pb2 as pb

FALLBACKS = "deployment.variants[0].completion.fallbacks"


async def add_provider(client: Any, slug: str, **fields: Any) -> Any:
    provider = provider_pb2.Provider(**{"kind": provider_pb2.PROVIDER_KIND_OPENAI, **fields})
    request = provider_service_pb2.CreateProviderRequest(
        parent=f"projects/{client.project}", provider_id=slug, provider=provider
    )
    return await client.call("CreateProvider", request)


@pytest.fixture
async def spare(shop: Any) -> Any:
    """A second provider of the shop."""
    return await add_provider(shop, "spare")


def trying(request: Any, *targets: str) -> Any:
    """The completion of a request's first variant, with fallbacks such as `spare/large`."""
    completion = request.deployment.variants[0].completion
    for target in targets:
        provider, _, model = target.partition("/")
        completion.fallbacks.add(provider=provider, model=model)
    return completion


def update(variant: Any, **fields: Any) -> pb.UpdateVariantRequest:
    """A change of a variant that is there, as it is read."""
    request = pb.UpdateVariantRequest(**fields)
    request.variant.name = variant.name
    request.variant.completion.CopyFrom(variant.completion)
    return request


async def archive(client: Any, slug: str) -> Any:
    name = f"projects/{client.project}/providers/{slug}"
    return await client.call("ArchiveProvider", provider_service_pb2.ArchiveProviderRequest(name=name))


async def test_all_of_it_is_answered_kept_and_in_the_catalog_with_uids(
    registry: Any, shop: Any, spare: Any, deployment_request: Any
) -> None:
    request = deployment_request(shop.project)
    completion = trying(request, f"{spare.uid}/large", "spare/huge")
    completion.fallbacks[0].parameters.temperature = 0.5
    completion.fallbacks[0].max_retries = 3
    completion.fallbacks[0].attempt_timeout.FromMilliseconds(1500)
    completion.retry_statuses.extend([503, 429])
    completion.first_token_timeout.FromSeconds(2)
    completion.idle_timeout.FromSeconds(3)
    completion.output_policy = deployment_pb2.OUTPUT_POLICY_RETRY

    made = await shop.call("CreateDeployment", request)

    assert not made.warnings
    got = made.variants[0].completion
    assert [(each.provider, each.model) for each in got.fallbacks] == [("spare", "large"), ("spare", "huge")]
    assert got.fallbacks[0].parameters == completion.fallbacks[0].parameters
    assert not got.fallbacks[1].HasField("parameters")
    assert (got.fallbacks[0].max_retries, got.fallbacks[0].attempt_timeout.ToMilliseconds()) == (3, 1500)
    assert list(got.retry_statuses) == [429, 503]
    assert (got.first_token_timeout.seconds, got.idle_timeout.seconds) == (2, 3)
    assert got.output_policy == deployment_pb2.OUTPUT_POLICY_RETRY
    assert await shop.call("GetDeployment", pb.GetDeploymentRequest(name=made.name)) == made
    await registry.catalog.reach(shop.sequence)
    told = registry.catalog.usable_view().deployment(made.uid).aliases["live"].variants[0].serving
    assert [(each.provider, each.model) for each in told.fallbacks] == [(spare.uid, "large"), (spare.uid, "huge")]
    assert told.fallbacks[0].parameters == completion.fallbacks[0].parameters.SerializeToString()
    assert (told.fallbacks[1].parameters, told.fallbacks[0].attempt_timeout_seconds) == (None, 1.5)
    assert told.retry_statuses == {429, 503}
    assert (told.first_token_timeout_seconds, told.idle_timeout_seconds) == (2, 3)
    assert told.output_policy is view.OutputPolicy.RETRY


async def test_another_fallback_is_a_minor_revision_and_the_same_none(
    shop: Any, spare: Any, deployment_request: Any
) -> None:
    request = deployment_request(shop.project)
    trying(request, "spare/large")
    made = await shop.call("CreateDeployment", request)

    async def revision() -> str:
        return str((await shop.call("GetDeployment", pb.GetDeploymentRequest(name=made.name))).revision)

    await shop.call("UpdateVariant", update(made.variants[0]))
    assert await revision() == "1.0"
    changed = update(made.variants[0])
    changed.variant.completion.fallbacks[0].model = "huge"
    await shop.call("UpdateVariant", changed)
    assert await revision() == "1.1"
    del changed.variant.completion.fallbacks[:]
    assert not (await shop.call("UpdateVariant", changed)).completion.fallbacks
    compare = pb.CompareRevisionsRequest(name=made.name, before="1.0", after="1.1")
    told = (await shop.call("CompareRevisions", compare)).differences
    assert [each.path for each in told] == ["variants[variant-1].completion.fallbacks[0].model"]

    await shop.call("RollbackDeployment", pb.RollbackDeploymentRequest(name=made.name, revision="1.0"))
    after = await shop.call("GetDeployment", pb.GetDeploymentRequest(name=made.name))
    assert after.variants[0].completion == made.variants[0].completion


@pytest.mark.parametrize(
    ("change", "reason", "fields"),
    [
        ({"provider": "nowhere"}, "PROVIDER_NOT_FOUND", ["[1].provider"]),
        ({"model": "m\0"}, "TEXT_NOT_STORABLE", ["[1].model"]),
        ({"max_retries": 11}, "", ["[1].max_retries"]),
        ({"parameters": {"temperature": 3}}, "", ["[1].parameters.temperature"]),
        ({"parameters": {"extra_json": "[]"}}, "", ["[1].parameters.extra_json"]),
        ({"parameters": {"extra_json": r'{"a": "\u0000"}'}}, "VERSION_INVALID", ["[1].parameters.extra_json.a"]),
        ({"parameters": {"stop": [""]}}, "VERSION_INVALID", ["[1].parameters.stop[0]"]),
        ({"parameters": {"stop": ["x" * 1_025]}}, "VERSION_INVALID", ["[1].parameters.stop[0]"]),
        ({"parameters": {"extra_json": '{"a": "' + "x" * 20_000 + '"}'}}, "FALLBACKS_TOO_LARGE", [""]),
        ({"attempt_timeout": {"nanos": 1}}, "", ["[1].attempt_timeout"]),
    ],
    ids=str,
)
async def test_a_bad_fallback_is_invalid_with_its_path_and_changes_nothing(
    registry: Any, shop: Any, deployment_request: Any, state_of: Any, change: Any, reason: str, fields: list[str]
) -> None:
    request = deployment_request(shop.project)
    completion = trying(request, "main/large")
    completion.fallbacks.append(deployment_pb2.Fallback(**{"provider": "main", "model": "huge", **change}))
    before = await state_of(registry.url)

    error = await shop.fails("CreateDeployment", request)

    assert isinstance(error, Invalid), error
    assert [each.field for each in error.violations] == [f"{FALLBACKS}{field}" for field in fields]
    assert reason in ("", error.reason)
    assert await state_of(registry.url) == before


async def test_every_unknown_provider_is_named_and_those_of_other_projects_are_unknown(
    registry: Any, shop: Any, deployment_request: Any
) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project))
    foreign = await add_provider(await registry.new_project(), "theirs")
    changed = update(made.variants[0])
    for provider in ("theirs", "main", foreign.uid):
        changed.variant.completion.fallbacks.add(provider=provider, model="m")

    error = await shop.fails("UpdateVariant", changed)

    assert (error.reason, [each.field for each in error.violations]) == (
        "PROVIDER_NOT_FOUND",
        ["variant.completion.fallbacks[0].provider", "variant.completion.fallbacks[2].provider"],
    )


@pytest.mark.parametrize("statuses", [[399], [600], [429, 429], list(range(400, 433))])
async def test_statuses_are_distinct_failures(shop: Any, deployment_request: Any, statuses: list[int]) -> None:
    request = deployment_request(shop.project)
    trying(request).retry_statuses.extend(statuses)

    assert isinstance(await shop.fails("CreateDeployment", request), Invalid)


async def test_a_fallback_to_where_the_call_failed_is_a_warning_once(shop: Any, deployment_request: Any) -> None:
    request = deployment_request(shop.project)
    trying(request, "main/small", "main/large", "main/large")

    made = await shop.call("CreateDeployment", request)
    again = await shop.call("UpdateVariant", update(made.variants[0]))
    create = pb.CreateVariantRequest(parent=made.name)
    create.variant.completion.CopyFrom(made.variants[0].completion)
    added = await shop.call("CreateVariant", create)

    for answer in (made, again, added):
        assert list(answer.warnings) == [
            "fallback 1 (main/small) is the same provider and model as the version's own",
            "fallback 3 (main/large) is the same provider and model as fallback 2",
        ]
    got = await shop.call("GetDeployment", pb.GetDeploymentRequest(name=made.name))
    assert not got.warnings


async def test_a_provider_that_only_a_fallback_uses_is_in_use(shop: Any, spare: Any, deployment_request: Any) -> None:
    request = deployment_request(shop.project, "helper", ("A", "B"))
    trying(request, "main/large", "spare/large")
    made = await shop.call("CreateDeployment", request)
    alias = pb.SetAliasRequest(name=made.name, alias="staging", revision="1.0")
    await shop.call("SetAlias", alias)

    asked = provider_service_pb2.ArchiveProviderRequest(name=spare.name)
    error = await shop.fails("ArchiveProvider", asked)

    assert isinstance(error, Precondition)
    name = f"projects/{shop.project}/deployments/helper"
    assert error.metadata["uses"] == f"{name} (alias live); {name} (alias staging)"
    assert error.reason == "PROVIDER_IN_USE"
    await shop.call("ArchiveDeployment", pb.ArchiveDeploymentRequest(name=made.name))
    await archive(shop, "spare")
    assert (await shop.fails("UnarchiveDeployment", pb.UnarchiveDeploymentRequest(name=made.name))).reason == (
        "PROVIDER_ARCHIVED"
    )


async def test_an_archived_provider_is_no_fallback_and_comes_into_use_by_none(
    registry: Any, shop: Any, spare: Any, deployment_request: Any, state_of: Any
) -> None:
    request = deployment_request(shop.project)
    made = await shop.call("CreateDeployment", request)
    draft = update(made.variants[0], draft=True)
    draft.variant.completion.fallbacks.add(provider="spare", model="large")
    await shop.call("UpdateVariant", draft)
    await archive(shop, "spare")
    before = await state_of(registry.url)

    trying(request, "spare/large")
    request.deployment_id = "other"
    draft.draft = False
    for rpc, asked in (
        ("CreateDeployment", request),
        ("UpdateVariant", draft),
        ("SetAlias", pb.SetAliasRequest(name=made.name, alias="live", revision="1.1")),
        ("RollbackDeployment", pb.RollbackDeploymentRequest(name=made.name, revision="1.1")),
    ):
        error = await shop.fails(rpc, asked)
        assert (type(error), error.reason) == (Precondition, "PROVIDER_ARCHIVED"), rpc
    assert await state_of(registry.url) == before


async def test_a_deployment_is_found_by_what_it_falls_back_to(shop: Any, spare: Any, deployment_request: Any) -> None:
    await shop.call("CreateDeployment", deployment_request(shop.project, "other"))
    request = deployment_request(shop.project)
    trying(request, "spare/mixtral-8x7b")
    made = await shop.call("CreateDeployment", request)

    async def found(words: str) -> list[str]:
        asked = pb.ListDeploymentsRequest(parent=f"projects/{shop.project}", filter=words)
        return [each.uid for each in (await shop.call("ListDeployments", asked)).deployments]

    assert await found("spare mixtral") == [made.uid]
    without = update(made.variants[0])
    del without.variant.completion.fallbacks[:]
    await shop.call("UpdateVariant", without)
    assert await found("spare mixtral") == []


@pytest.fixture
async def upstream() -> AsyncIterator[Offering]:
    async with offering() as running:
        yield running


@pytest.fixture
async def checked_shop(database_url: str, bootstrap_keys: Any, start: Any, upstream: Offering) -> AsyncIterator[Any]:
    """A client of a project whose provider `main` lists `small` and `large`, in a registry that asks."""
    settings = {"TURNOUT_REGISTRY_MODEL_CHECK": "true", "TURNOUT_EGRESS_ALLOW_PRIVATE": "true"}
    async with start(database_url, bootstrap_keys, **settings) as running:
        client = await running.new_project()
        kind = provider_pb2.PROVIDER_KIND_OPENAI_COMPATIBLE
        await add_provider(client, "main", kind=kind, base_url=upstream.url)
        yield client


async def test_models_of_fallbacks_are_checked_as_those_of_versions(
    checked_shop: Any, upstream: Offering, deployment_request: Any
) -> None:
    request = deployment_request(checked_shop.project)
    trying(request, "main/large", "main/larg")

    error = await checked_shop.fails("CreateDeployment", request)
    request.skip_model_check = True
    made = await checked_shop.call("CreateDeployment", request)

    assert (error.reason, [each.field for each in error.violations]) == ("MODEL_UNKNOWN", [f"{FALLBACKS}[1].model"])
    assert "'large'" in error.message
    assert not made.warnings
    kept = update(made.variants[0])
    kept.variant.completion.max_retries = 2
    await checked_shop.call("UpdateVariant", kept)
    kept.variant.completion.fallbacks.add(provider="main", model="smal")
    again = await checked_shop.fails("UpdateVariant", kept)
    assert [each.field for each in again.violations] == ["variant.completion.fallbacks[2].model"]


async def test_a_repeat_is_answered_though_the_fallbacks_model_is_gone(
    checked_shop: Any, upstream: Offering, deployment_request: Any
) -> None:
    request = deployment_request(checked_shop.project)
    trying(request, "main/large")
    request.request_id = str(uuid.uuid4())
    made = await checked_shop.call("CreateDeployment", request)
    upstream.then(openai("other"))
    listing = provider_service_pb2.ListProviderModelsRequest(
        name=f"projects/{checked_shop.project}/providers/main", refresh=True
    )
    await checked_shop.call("ListProviderModels", listing)

    assert (await checked_shop.call("CreateDeployment", request)).uid == made.uid
