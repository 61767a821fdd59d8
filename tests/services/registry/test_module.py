from __future__ import annotations

from typing import Any


async def test_a_whole_story_from_the_first_key_to_a_deployment_in_the_catalog(
    registry: Any, shop: Any, deployment_request: Any
) -> None:
    deployment = await shop.call("CreateDeployment", deployment_request(shop.project, "helper", ("A", "B {{ x }}")))

    await registry.catalog.reach(shop.sequence)
    view = registry.catalog.usable_view()
    project = view.project_named(shop.project)
    assert project is not None
    seen = view.deployment_named(project.uid, "helper")
    assert seen is not None
    assert seen.uid == deployment.uid
    live = seen.aliases["live"]
    assert [variant.weight for variant in live.variants] == [100.0, 0.0]
    assert [variant.number for variant in live.variants] == [variant.number for variant in deployment.variants]
    for variant in live.variants:
        assert view.version(project.uid, variant.serving.version) is not None
