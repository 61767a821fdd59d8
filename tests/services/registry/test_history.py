from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from kit.errors import Conflict, NotFound, Precondition
from turnout.registry.v1 import deployment_pb2, revision_pb2
from turnout.registry.v1 import deployment_service_pb2 as pb


def named(request: type[Any], made: Any, **fields: Any) -> Any:
    return request(name=made.name, **fields)


async def weigh(client: Any, variant: Any, weight: float, **fields: Any) -> Any:
    request = pb.UpdateVariantRequest(variant=deployment_pb2.Variant(name=variant.name, weight=weight), **fields)
    return await client.call("UpdateVariant", request)


async def revisions(client: Any, made: Any, **fields: Any) -> list[Any]:
    return list((await client.call("ListRevisions", pb.ListRevisionsRequest(parent=made.name, **fields))).revisions)


async def test_every_change_is_a_revision_with_parent_author_and_words(shop: Any, deployment_request: Any) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project, "helper", ("A", "B")))
    await weigh(shop, made.variants[1], 10, description="a first try")
    await shop.call("DeleteVariant", named(pb.DeleteVariantRequest, made.variants[1]))

    third, second, first = await revisions(shop, made)
    assert [(each.number, each.parent) for each in (first, second, third)] == [
        ("1.0", ""),
        ("1.1", "1.0"),
        ("2.0", "1.1"),
    ]
    assert (second.description, second.author) == ("a first try", made.creator)
    assert [len(each.variants) for each in (first, second, third)] == [2, 2, 1]
    assert [list(each.aliases) for each in (first, second, third)] == [[], [], ["live"]]
    assert not any(each.draft for each in (first, second, third))
    assert await shop.call("GetRevision", pb.GetRevisionRequest(name=second.name)) == second
    by_uid = pb.GetRevisionRequest(name=f"{made.name}/revisions/{second.uid}")
    assert await shop.call("GetRevision", by_uid) == second


async def test_revisions_are_listed_in_pages_newest_first(shop: Any, deployment_request: Any) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project))
    for weight in range(1, 12):
        await weigh(shop, made.variants[0], weight)
    found, token = [], ""
    while True:
        page = await shop.call(
            "ListRevisions", pb.ListRevisionsRequest(parent=made.name, page_size=5, page_token=token)
        )
        found += [each.number for each in page.revisions]
        token = page.next_page_token
        if not token:
            break
    assert found == [f"1.{minor}" for minor in range(11, -1, -1)]


async def test_a_variant_is_added_with_the_defaults_of_a_later_one(
    registry: Any, shop: Any, deployment_request: Any, new_version: Any
) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project))
    request = pb.CreateVariantRequest(parent=made.name, request_id="7f9c24e8-3b12-4fef-91e0-56a2d5a1c0de")
    request.variant.completion.new_version.CopyFrom(new_version("another"))
    added = await shop.call("CreateVariant", request)
    after = await shop.call("GetDeployment", pb.GetDeploymentRequest(name=made.name))

    assert (added.slug, added.weight, added.active) == ("variant-2", 0, True)
    assert (after.revision, [each.uid for each in after.variants]) == ("2.0", [made.variants[0].uid, added.uid])
    assert await shop.call("CreateVariant", request) == added, "a repeat makes no second one"
    await registry.catalog.reach(shop.sequence)
    view = registry.catalog.usable_view()
    assert [each.uid for each in view.deployment(made.uid).aliases["live"].variants] == [
        made.variants[0].uid,
        added.uid,
    ]
    assert view.version(view.project_named(shop.project).uid, added.completion.version) is not None


async def test_a_repeat_answers_the_variant_as_it_was_made_whatever_the_clocks_say(
    registry: Any, shop: Any, deployment_request: Any, new_version: Any
) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project))
    request = pb.CreateVariantRequest(parent=made.name, request_id="7f9c24e8-3b12-4fef-91e0-56a2d5a1c0de")
    request.variant.completion.new_version.CopyFrom(new_version("another"))
    added = await shop.call("CreateVariant", request)
    await shop.call(
        "UpdateVariant", pb.UpdateVariantRequest(variant=deployment_pb2.Variant(name=added.name, weight=30))
    )
    connection = await asyncpg.connect(registry.url.replace("+asyncpg", ""))
    try:
        # As written by a registry whose clock is behind the other's.
        await connection.execute(
            "UPDATE registry.revisions SET created_at = created_at - interval '1 h' WHERE minor > 0"
        )
    finally:
        await connection.close()

    assert (await shop.call("CreateVariant", request)).weight == 0


async def test_a_slug_is_never_given_twice_in_a_deployments_life(
    shop: Any, deployment_request: Any, new_version: Any
) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project, "helper", ("A", "B")))
    await shop.call("DeleteVariant", named(pb.DeleteVariantRequest, made.variants[1]))
    request = pb.CreateVariantRequest(parent=made.name)
    request.variant.display_name = made.variants[1].display_name
    request.variant.completion.new_version.CopyFrom(new_version("C"))

    assert (await shop.call("CreateVariant", request)).slug == "variant-2-2"


async def test_a_rollback_repeats_an_earlier_revision_and_brings_its_variants_back(
    registry: Any, shop: Any, deployment_request: Any
) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project, "helper", ("A", "B")))
    await shop.call("DeleteVariant", named(pb.DeleteVariantRequest, made.variants[1]))
    back = await shop.call("RollbackDeployment", named(pb.RollbackDeploymentRequest, made, revision="1.0"))

    assert back.revision == "3.0"
    for each in (*back.variants, *made.variants):
        each.ClearField("etag")
    assert list(back.variants) == list(made.variants)
    newest = (await revisions(shop, made))[0]
    assert (newest.parent, newest.description) == ("2.0", "back to 1.0")
    again = await shop.call("RollbackDeployment", named(pb.RollbackDeploymentRequest, made, revision="1.0"))
    assert again.revision == "3.0", "there is nothing to do"
    await registry.catalog.reach(shop.sequence)
    view = registry.catalog.usable_view()
    assert len(view.deployment(made.uid).aliases["live"].variants) == 2
    project = view.project_named(shop.project).uid
    assert all(view.version(project, each.completion.version) for each in made.variants)


async def test_a_draft_moves_nothing_until_it_is_published(registry: Any, shop: Any, deployment_request: Any) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project))
    await weigh(shop, made.variants[0], 5, draft=True)
    assert (await shop.call("GetDeployment", pb.GetDeploymentRequest(name=made.name))).revision == "1.0"
    [draft, _] = await revisions(shop, made)
    assert (draft.number, draft.draft, draft.parent) == ("1.1", True, "1.0")
    await registry.catalog.reach(shop.sequence)
    assert registry.catalog.usable_view().deployment(made.uid).aliases["live"].number == "1.0"

    published = await shop.call("SetAlias", named(pb.SetAliasRequest, made, alias="live", revision="1.1"))
    assert (published.revision, published.variants[0].weight) == ("1.1", 5)
    assert not (await revisions(shop, made))[0].draft


async def test_a_draft_whose_base_moved_on_is_not_published(shop: Any, deployment_request: Any) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project))
    await weigh(shop, made.variants[0], 5, draft=True)
    await weigh(shop, made.variants[0], 7)
    error = await shop.fails("SetAlias", named(pb.SetAliasRequest, made, alias="live", revision="1.1"))

    assert isinstance(error, Conflict)
    assert error.reason == "BASE_MOVED"
    # Another alias has no base to have moved.
    staged = await shop.call("SetAlias", named(pb.SetAliasRequest, made, alias="staging", revision="1.1"))
    assert [(each.alias, each.revision) for each in staged.aliases] == [("live", "1.2"), ("staging", "1.1")]


async def test_a_new_alias_publishes_any_draft_and_other_aliases_may_follow_it(
    shop: Any, deployment_request: Any
) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project, "helper", ("A", "B")))
    await weigh(shop, made.variants[1], 10, draft=True)
    await weigh(shop, made.variants[1], 20)

    await shop.call("SetAlias", named(pb.SetAliasRequest, made, alias="beta", revision="1.1"))
    moved = await shop.call("SetAlias", named(pb.SetAliasRequest, made, alias="live", revision="beta"))

    assert {each.alias: each.revision for each in moved.aliases} == {"beta": "1.1", "live": "1.1"}


async def test_an_alias_that_serves_nothing_is_warned_of_by_its_name(shop: Any, deployment_request: Any) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project, "helper", ("A", "B")))
    await shop.call("SetAlias", named(pb.SetAliasRequest, made, alias="beta", revision="live"))
    await shop.call("DeleteVariant", named(pb.DeleteVariantRequest, made.variants[1], alias="beta"))
    gone = named(pb.DeleteVariantRequest, made.variants[0], alias="beta", retain_contract=True)

    draft = await shop.call("DeleteVariant", named(pb.DeleteVariantRequest, made.variants[0], alias="beta", draft=True))
    empty = await shop.call("DeleteVariant", gone)
    off = pb.UpdateVariantRequest(variant=deployment_pb2.Variant(name=made.variants[0].name, active=False))
    off.update_mask.paths.append("active")
    asleep = await shop.call("UpdateVariant", off)
    again = await weigh(shop, made.variants[1], 10)

    nothing, inactive = "there is no variant: calls fail with NO_ACTIVE_VARIANT", "weights of all active variants are 0"
    assert [each.split(": ", 1)[1] for each in draft.warnings] == [nothing], "of the draft"
    assert list(empty.warnings) == [f"beta: {nothing}"]
    assert [inactive in each for each in asleep.warnings] == [True]
    assert list(again.warnings) == []
    read = await shop.call("GetDeployment", pb.GetDeploymentRequest(name=made.name))
    assert list(read.warnings) == [f"beta: {nothing}"]
    moved = await shop.call("SetAlias", named(pb.SetAliasRequest, made, alias="gamma", revision="1.0"))
    assert list(moved.warnings) == [], "what another alias lacks is nothing that this write did"


async def test_an_alias_is_called_changed_and_removed_by_itself(
    registry: Any, shop: Any, deployment_request: Any
) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project))
    await shop.call("SetAlias", named(pb.SetAliasRequest, made, alias="production#1", revision="live"))
    await weigh(shop, made.variants[0], 5, alias="production#1")
    after = await shop.call("GetDeployment", pb.GetDeploymentRequest(name=made.name))
    assert [(each.alias, each.revision) for each in after.aliases] == [("live", "1.0"), ("production#1", "1.1")]
    await registry.catalog.reach(shop.sequence)
    aliases = registry.catalog.usable_view().deployment(made.uid).aliases
    assert {name: revision.variants[0].weight for name, revision in aliases.items()} == {"live": 100, "production#1": 5}

    gone = await shop.call("DeleteAlias", named(pb.DeleteAliasRequest, made, alias="production#1"))
    assert [each.alias for each in gone.aliases] == ["live"]
    assert (
        await shop.fails("DeleteAlias", named(pb.DeleteAliasRequest, made, alias="nope"))
    ).reason == "ALIAS_NOT_FOUND"
    error = await shop.fails("DeleteAlias", named(pb.DeleteAliasRequest, made, alias="live"))
    assert isinstance(error, Precondition)


@pytest.mark.parametrize("alias", ["", "Live", "-x", "a b", "a/b", "a:b", "x" * 64])
async def test_a_malformed_alias_is_refused(shop: Any, deployment_request: Any, alias: str) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project))
    error = await shop.fails("SetAlias", named(pb.SetAliasRequest, made, alias=alias, revision="1.0"))
    assert error.violations[0].field == "alias"


async def test_the_difference_of_two_revisions_is_told_field_by_field(
    shop: Any, deployment_request: Any, new_version: Any
) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project, "helper", ("Hi {{ name }}", "B")))
    request = pb.UpdateVariantRequest(variant=deployment_pb2.Variant(name=made.variants[0].name, weight=40))
    version = new_version("Hello {{ name }}")
    version.parameters.temperature = 0.5
    request.variant.completion.new_version.CopyFrom(version)
    await shop.call("UpdateVariant", request)
    await shop.call("DeleteVariant", named(pb.DeleteVariantRequest, made.variants[1]))
    answer = await shop.call("CompareRevisions", named(pb.CompareRevisionsRequest, made, before="1.0"))

    told = {each.path: each for each in answer.differences}
    weight = told["variants[variant-1].weight"]
    assert (weight.before_json, weight.after_json) == ("100", "40")
    assert weight.sentence == "variants[variant-1].weight changes from 100 to 40"
    assert told["variants[variant-1].completion.parameters.temperature"].kind == revision_pb2.DIFFERENCE_KIND_ADDED
    text = told["variants[variant-1].completion.messages[0].content"]
    assert (text.before_json, text.after_json) == ('"Hi {{ name }}"', '"Hello {{ name }}"')
    assert told["variants[variant-2]"].kind == revision_pb2.DIFFERENCE_KIND_REMOVED
    same = await shop.call("CompareRevisions", named(pb.CompareRevisionsRequest, made, before="1.0", after="1.0"))
    assert list(same.differences) == []


async def test_texts_change_without_a_revision_and_a_salt_with_one(shop: Any, deployment_request: Any) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project))
    request = pb.UpdateDeploymentRequest(deployment=deployment_pb2.Deployment(name=made.name, description="what for"))
    texts = await shop.call("UpdateDeployment", request)
    assert (texts.description, texts.revision) == ("what for", "1.0")
    assert texts.etag != made.etag
    request.deployment.salt, request.deployment.etag = "pepper", texts.etag
    salted = await shop.call("UpdateDeployment", request)
    assert (salted.salt, salted.revision) == ("pepper", "2.0")
    assert (await shop.fails("UpdateDeployment", request)).reason == "ETAG_MISMATCH"


async def test_an_archived_deployment_is_out_of_service_and_comes_back_as_it_was(
    registry: Any, shop: Any, deployment_request: Any
) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project))
    archived = await shop.call("ArchiveDeployment", named(pb.ArchiveDeploymentRequest, made))
    assert archived.archived
    assert await shop.call("ArchiveDeployment", named(pb.ArchiveDeploymentRequest, made)) == archived
    await registry.catalog.reach(shop.sequence)
    view = registry.catalog.usable_view()
    project = view.project_named(shop.project).uid
    assert view.deployment(made.uid) is None
    assert view.version(project, made.variants[0].completion.version) is None

    parent = f"projects/{shop.project}"
    assert list((await shop.call("ListDeployments", pb.ListDeploymentsRequest(parent=parent))).deployments) == []
    shown = await shop.call("ListDeployments", pb.ListDeploymentsRequest(parent=parent, show_archived=True))
    for alias in archived.aliases:
        alias.ClearField("contract")
    assert list(shown.deployments) == [archived]
    assert (await shop.fails("CreateDeployment", deployment_request(shop.project))).reason == "DEPLOYMENT_EXISTS"
    update = pb.UpdateVariantRequest(variant=deployment_pb2.Variant(name=made.variants[0].name, weight=1))
    assert (await shop.fails("UpdateVariant", update)).reason == "DEPLOYMENT_ARCHIVED"

    back = await shop.call("UnarchiveDeployment", named(pb.UnarchiveDeploymentRequest, made))
    assert (back.archived, back.revision) == (False, made.revision)
    await registry.catalog.reach(shop.sequence)
    view = registry.catalog.usable_view()
    assert view.deployment(made.uid) is not None
    assert view.version(project, made.variants[0].completion.version) is not None


async def test_what_is_not_there_is_not_found(shop: Any, deployment_request: Any) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project))
    for rpc, request in (
        ("GetRevision", pb.GetRevisionRequest(name=f"{made.name}/revisions/9.9")),
        ("GetRevision", pb.GetRevisionRequest(name=f"{made.name}/revisions/999999999999.1")),
        ("CompareRevisions", named(pb.CompareRevisionsRequest, made, before="nope")),
        ("SetAlias", named(pb.SetAliasRequest, made, alias="x", revision="7.0")),
        ("RollbackDeployment", named(pb.RollbackDeploymentRequest, made, revision="7.0")),
    ):
        error = await shop.fails(rpc, request)
        assert isinstance(error, NotFound)
        assert error.reason == "REVISION_NOT_FOUND"
