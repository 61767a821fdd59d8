"""Lists of deployments, as callers ask for them."""

from __future__ import annotations

from typing import Any

import pytest

from turnout.registry.v1 import deployment_service_pb2 as pb
from turnout.registry.v1 import prompt_service_pb2


def slugs(listed: Any) -> list[str]:
    return [deployment.name.rpartition("/")[2] for deployment in listed.deployments]


async def found(client: Any, filter_text: str = "", order_by: str = "", **fields: Any) -> list[str]:
    asked = pb.ListDeploymentsRequest(
        parent=f"projects/{client.project}", filter=filter_text, order_by=order_by, **fields
    )
    return slugs(await client.call("ListDeployments", asked))


def deployment(client: Any, deployment_request: Any, slug: str, *models: str) -> Any:
    request = deployment_request(client.project, slug, tuple(f"text {number}" for number in range(len(models))))
    for variant, model in zip(request.deployment.variants, models, strict=True):
        variant.completion.new_version.model = model
    return request


async def test_a_deployment_is_found_by_its_texts_and_by_what_its_variants_run(
    shop: Any, deployment_request: Any
) -> None:
    request = deployment(shop, deployment_request, "helper", "gpt-4o")
    request.deployment.display_name, request.deployment.description = "Kasse", "Answers questions at the checkout"
    request.deployment.variants[0].display_name = "Größer"
    await shop.call("CreateDeployment", request)
    await shop.call("CreateDeployment", deployment(shop, deployment_request, "other", "mistral-large"))

    for word in ("helper", "kasse", "CHECKOUT questions", "gpt-4o", "4o", "größer", "GRÖSSER".replace("SS", "ß")):
        assert await found(shop, word) == ["helper"], word
    assert await found(shop, "main") == ["helper", "other"]
    assert await found(shop, "helper mistral") == []


async def test_what_no_alias_points_to_any_more_is_not_found(shop: Any, deployment_request: Any) -> None:
    made = await shop.call("CreateDeployment", deployment(shop, deployment_request, "helper", "gpt-4o"))
    alias = pb.SetAliasRequest(name=made.name, alias="stage", revision="1.0")
    await shop.call("SetAlias", alias)
    update = pb.UpdateVariantRequest()
    update.variant.name = made.variants[0].name
    update.variant.completion.new_version.CopyFrom(
        deployment(shop, deployment_request, "x", "mistral-large").deployment.variants[0].completion.new_version
    )
    update.draft = True
    await shop.call("UpdateVariant", update)
    assert (await found(shop, "gpt-4o"), await found(shop, "mistral")) == (["helper"], [])

    update.draft = False
    await shop.call("UpdateVariant", update)
    assert (await found(shop, "gpt-4o"), await found(shop, "mistral")) == (["helper"], ["helper"])

    await shop.call("DeleteAlias", pb.DeleteAliasRequest(name=made.name, alias="stage"))
    assert (await found(shop, "gpt-4o"), await found(shop, "mistral")) == ([], ["helper"])


async def test_an_update_of_the_texts_is_found_and_the_texts_of_before_are_not(
    shop: Any, deployment_request: Any
) -> None:
    request = deployment_request(shop.project)
    request.deployment.description = "elderberry"
    made = await shop.call("CreateDeployment", request)
    update = pb.UpdateDeploymentRequest()
    update.deployment.name, update.deployment.description = made.name, "gooseberry"

    await shop.call("UpdateDeployment", update)

    assert (await found(shop, "gooseberry"), await found(shop, "elderberry")) == (["helper"], [])


async def test_an_archived_deployment_is_found_if_it_is_asked_for(shop: Any, deployment_request: Any) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project))
    await shop.call("ArchiveDeployment", pb.ArchiveDeploymentRequest(name=made.name))

    assert await found(shop, "helper") == []
    assert await found(shop, "helper", show_archived=True) == ["helper"]


async def test_a_trained_model_is_found_by_its_name_and_algorithm(
    registry: Any, shop: Any, model_request: Any, deployment_request: Any
) -> None:
    model = await registry.service.call("RegisterModel", model_request(shop, display_name="Blockbusters"))
    shop.sequence = registry.service.sequence
    request = deployment_request(shop.project, "movies", ())
    request.deployment.kind = 2
    request.deployment.variants.add().recommendation.model = model.uid
    await shop.call("CreateDeployment", request)

    for word in ("blockbuster", "als"):
        assert await found(shop, word) == ["movies"]


async def test_a_deployment_is_found_by_the_prompt_that_it_was_made_from(shop: Any, deployment_request: Any) -> None:
    prompt = prompt_service_pb2.CreatePromptRequest(parent=f"projects/{shop.project}", prompt_id="welcome")
    prompt.prompt.messages.add(role=1, content="Hi")
    await shop.call("CreatePrompt", prompt)
    request = deployment(shop, deployment_request, "helper", "gpt-4o")
    completion = request.deployment.variants[0].completion
    completion.prompt = "welcome"
    completion.new_version.ClearField("messages")
    await shop.call("CreateDeployment", request)

    assert await found(shop, "welcome") == ["helper"]


async def test_lists_are_sorted_by_what_the_first_active_variant_of_live_runs(
    shop: Any, deployment_request: Any
) -> None:
    await shop.call("CreateDeployment", deployment(shop, deployment_request, "b", "m2"))
    asleep = deployment(shop, deployment_request, "a", "m0", "m3")
    asleep.deployment.variants[0].active = False
    await shop.call("CreateDeployment", asleep)
    await shop.call("CreateDeployment", deployment_request(shop.project, "c", ()))
    await shop.call("CreateDeployment", deployment(shop, deployment_request, "d", "M9"))
    update = pb.UpdateDeploymentRequest()
    update.deployment.name, update.deployment.description = f"projects/{shop.project}/deployments/b", "again"
    await shop.call("UpdateDeployment", update)

    assert await found(shop) == await found(shop, "", "create_time asc") == ["b", "a", "c", "d"]
    assert await found(shop, "", "create_time desc") == ["d", "c", "a", "b"]
    assert await found(shop, "", "name") == ["a", "b", "c", "d"]
    assert await found(shop, "", "name desc") == ["d", "c", "b", "a"]
    assert await found(shop, "", "model") == ["c", "d", "b", "a"]
    assert await found(shop, "", "model desc") == ["a", "b", "d", "c"]
    assert (await found(shop, "", "provider"))[0] == (await found(shop, "", "provider desc"))[-1] == "c"
    assert (await found(shop, "", "update_time"))[-1] == (await found(shop, "", "update_time desc"))[0] == "b"


async def test_a_page_continues_the_list_with_its_filter_and_order_and_no_other(
    shop: Any, deployment_request: Any
) -> None:
    longest = "\u0001" * 256
    for number in range(5):
        await shop.call("CreateDeployment", deployment(shop, deployment_request, f"d{number}", longest))
    for order_by in ("name", "provider", "model desc", "create_time desc", "update_time"):
        asked = pb.ListDeploymentsRequest(
            parent=f"projects/{shop.project}", page_size=2, filter="main d", order_by=order_by
        )
        seen: list[str] = []
        while True:
            page = await shop.call("ListDeployments", asked)
            seen += slugs(page)
            if not page.next_page_token:
                break
            assert len(page.next_page_token) <= 1024
            token = asked.page_token = page.next_page_token
        expected = [f"d{number}" for number in range(5)]
        assert seen == (expected[::-1] if order_by.endswith("desc") else expected)

        for other in (
            {"filter": "main", "order_by": order_by},
            {"filter": "main d", "order_by": "name desc"},
            {"filter": "main d", "order_by": order_by, "show_archived": True},
        ):
            request = pb.ListDeploymentsRequest(parent=f"projects/{shop.project}", page_token=token, **other)
            assert (await shop.fails("ListDeployments", request)).reason == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"order_by": "weight"}, "ORDER_BY_INVALID", "order_by"),
        ({"order_by": "name; DROP TABLE deployments"}, "ORDER_BY_INVALID", "order_by"),
        ({"filter": " ".join(map(str, range(21)))}, "FILTER_TOO_LONG", "filter"),
        ({"filter": "a\0b"}, "TEXT_NOT_STORABLE", "filter"),
        ({"filter": "x" * 501}, None, "filter"),
    ],
)
async def test_a_wrong_filter_or_order_is_invalid_with_its_field(
    shop: Any, fields: Any, reason: str | None, field: str
) -> None:
    error = await shop.fails("ListDeployments", pb.ListDeploymentsRequest(parent=f"projects/{shop.project}", **fields))

    assert error.violations[0].field == field
    assert reason in (None, error.reason)


async def test_a_page_holds_fewer_where_deployments_are_long_and_no_contracts(
    shop: Any, deployment_request: Any
) -> None:
    for index in range(3):
        request = deployment_request(shop.project, f"d{index}", tuple(f"{n} {{{{ name }}}}" for n in range(130)))
        for variant in request.deployment.variants:
            variant.notes = "x" * 10_000
        await shop.call("CreateDeployment", request)
    asked = pb.ListDeploymentsRequest(parent=f"projects/{shop.project}")
    first = await shop.call("ListDeployments", asked)
    asked.page_token = first.next_page_token
    second = await shop.call("ListDeployments", asked)

    assert (slugs(first), slugs(second), second.next_page_token) == (["d0", "d1"], ["d2"], "")
    assert first.ByteSize() < 3 << 20
    assert not any(alias.HasField("contract") for each in first.deployments for alias in each.aliases)
    got = await shop.call("GetDeployment", pb.GetDeploymentRequest(name=first.deployments[0].name))
    assert got.aliases[0].HasField("contract")
