from __future__ import annotations

from typing import Any

from kit.errors import Denied, Invalid, NotFound
from turnout.registry.v1 import deployment_pb2, deployment_service_pb2
from turnout.registry.v1 import model_service_pb2 as pb
from turnout.registry.v1.catalog_service_pb2 import WatchCatalogRequest


async def test_a_model_is_registered_on_behalf_of_a_key(registry: Any, shop: Any, model_request: Any) -> None:
    request = model_request(shop, "a", metrics_json='{"ndcg@10":0.2}', user_count=3, item_count=4, size_bytes=5)

    made = await registry.service.call("RegisterModel", request)

    assert made.name == f"projects/{shop.project}/models/{made.uid}"
    assert made.creator == f"projects/{shop.project}/apiKeys/{request.on_behalf_of}"
    assert made.display_name == f"Model {made.number}"
    assert (made.metrics_json, made.user_count, made.item_count, made.size_bytes) == ('{"ndcg@10":0.2}', 3, 4, 5)
    for segment in (made.uid, str(made.number)):
        name = f"projects/{shop.project}/models/{segment}"
        assert await shop.call("GetModel", pb.GetModelRequest(name=name)) == made


async def test_the_same_artifact_is_one_model_of_a_project(registry: Any, shop: Any, model_request: Any) -> None:
    first = await registry.service.call("RegisterModel", model_request(shop, "a", display_name="First"))
    again = await registry.service.call("RegisterModel", model_request(shop, "a", display_name="Again"))
    other = await registry.service.call("RegisterModel", model_request(await registry.new_project(), "a"))

    assert again == first
    assert other.uid != first.uid


async def test_models_are_listed_in_pages_oldest_first(registry: Any, shop: Any, model_request: Any) -> None:
    made = [await registry.service.call("RegisterModel", model_request(shop, seed)) for seed in "abc"]
    parent = f"projects/{shop.project}"
    first = await shop.call("ListModels", pb.ListModelsRequest(parent=parent, page_size=2))
    token = first.next_page_token
    second = await shop.call("ListModels", pb.ListModelsRequest(parent=parent, page_size=2, page_token=token))

    assert [*first.models, *second.models] == made
    assert second.next_page_token == ""


async def test_nobody_but_a_service_registers_models(shop: Any, model_request: Any) -> None:
    error = await shop.fails("RegisterModel", model_request(shop))
    assert isinstance(error, Denied)
    assert error.reason == "SCOPE_MISSING"


async def test_a_model_is_nobodys_but_its_projects(registry: Any, shop: Any, model_request: Any) -> None:
    made = await registry.service.call("RegisterModel", model_request(shop))
    other = await registry.new_project()
    for name in (made.name, made.name.replace(shop.project, other.project)):
        assert isinstance(await other.fails("GetModel", pb.GetModelRequest(name=name)), NotFound)
    request = deployment_service_pb2.CreateDeploymentRequest(parent=f"projects/{other.project}", deployment_id="top")
    request.deployment.kind = deployment_pb2.DEPLOYMENT_KIND_RECOMMENDATION
    request.deployment.variants.add().recommendation.model = made.uid
    error = await other.fails("CreateDeployment", request)
    assert (error.reason, error.violations[0].field) == (
        "MODEL_NOT_FOUND",
        "deployment.variants[0].recommendation.model",
    )


async def test_bad_models_are_refused(registry: Any, shop: Any, model_request: Any) -> None:
    stranger = model_request(shop)
    stranger.on_behalf_of = "nobody"
    no_json = model_request(shop, metrics_json="[1]")
    for request in (stranger, no_json):
        assert isinstance(await registry.service.fails("RegisterModel", request), Invalid)


async def test_a_recommendation_deployment_brings_its_models_into_the_catalog(
    registry: Any, shop: Any, model_request: Any
) -> None:
    models = [await registry.service.call("RegisterModel", model_request(shop, seed)) for seed in "ab"]
    request = deployment_service_pb2.CreateDeploymentRequest(parent=f"projects/{shop.project}", deployment_id="top")
    request.deployment.kind = deployment_pb2.DEPLOYMENT_KIND_RECOMMENDATION
    request.deployment.variants.add().recommendation.model = models[0].uid
    second = request.deployment.variants.add().recommendation
    second.model, second.unknown_users = models[1].name, deployment_pb2.UNKNOWN_USERS_REFUSE
    request.deployment.variants.add().recommendation.model = str(models[1].number)

    made = await shop.call("CreateDeployment", request)

    assert [variant.weight for variant in made.variants] == [100, 100, 100]
    assert [variant.recommendation.model for variant in made.variants] == [
        models[0].uid,
        models[1].uid,
        models[1].uid,
    ]
    await registry.catalog.reach(shop.sequence)
    view = registry.catalog.usable_view()
    assert view.model(models[0].uid).digest == models[0].digest
    variants = view.deployment(made.uid).aliases["live"].variants
    assert [variant.serving.unknown_users for variant in variants] == ["popular", "refuse", "popular"]


async def test_a_model_that_nothing_uses_is_not_in_the_catalog(registry: Any, shop: Any, model_request: Any) -> None:
    made = await registry.service.call("RegisterModel", model_request(shop))
    stream = registry.service.watch(WatchCatalogRequest())
    keys: list[str] = []
    while (message := await stream.read()).WhichOneof("event") != "end":
        keys += [entry.key for entry in message.chunk.entries]
    stream.cancel()

    assert f"model/{made.uid}" not in keys


async def test_a_page_holds_fewer_where_models_say_much(registry: Any, shop: Any, model_request: Any) -> None:
    text = '{"note":"' + "x" * 64_000 + '"}'
    for seed in range(36):
        request = model_request(shop, str(seed), parameters_json=text, metrics_json=text)
        await registry.service.call("RegisterModel", request)
    parent = f"projects/{shop.project}"
    first = await shop.call("ListModels", pb.ListModelsRequest(parent=parent, page_size=1000))
    rest = await shop.call(
        "ListModels", pb.ListModelsRequest(parent=parent, page_size=1000, page_token=first.next_page_token)
    )

    assert first.ByteSize() < 3 << 20
    assert [model.number for model in (*first.models, *rest.models)] == sorted(
        model.number for model in (*first.models, *rest.models)
    )
    assert (len(first.models) + len(rest.models), rest.next_page_token) == (36, "")


async def test_what_a_model_says_is_bounded(registry: Any, shop: Any, model_request: Any) -> None:
    for name in ("parameters_json", "metrics_json"):
        request = model_request(shop, "a", **{name: '{"note":"' + "x" * (64 << 10) + '"}'})
        error = await registry.service.fails("RegisterModel", request)
        assert [violation.field for violation in error.violations] == [f"model.{name}"]
