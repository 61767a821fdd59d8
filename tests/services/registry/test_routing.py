"""Rules, coverage and baseline through the contract: written, read, compared, undone, approved, delivered."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from catalog import plan, targets
from catalog.conditions import Field, FieldKind
from catalog.plan import Evaluation, KeyKind
from catalog.routing import WEIGHTS_ALONE, Share
from kit.errors import Conflict, Precondition
from tests.services.registry.routes import SPAIN, story, update, violations
from turnout.registry.v1 import catalog_service_pb2, deployment_pb2, revision_pb2
from turnout.registry.v1 import change_request_service_pb2 as requests_pb
from turnout.registry.v1 import deployment_service_pb2 as pb
from turnout.registry.v1 import routing_pb2 as routing


@pytest.fixture
async def made(shop: Any, deployment_request: Any) -> Any:
    """A deployment with three variants and no rules."""
    texts = tuple(f"{letter} {{{{ name }}}}" for letter in "ABC")
    return await shop.call("CreateDeployment", deployment_request(shop.project, "helper", texts))


async def read(client: Any, made: Any) -> Any:
    return await client.call("GetDeployment", pb.GetDeploymentRequest(name=made.name))


async def revision(client: Any, made: Any, number: str) -> Any:
    return await client.call("GetRevision", pb.GetRevisionRequest(name=f"{made.name}/revisions/{number}"))


async def test_a_routing_is_written_completed_and_read_back(shop: Any, made: Any) -> None:
    assert not made.HasField("routing")

    after = await shop.call("UpdateDeployment", update(made, story(), description="Spain first"))

    assert (after.revision, list(after.warnings)) == ("2.0", [])
    first, second = after.routing.rules
    assert first.uid.startswith("rul_")
    assert first.uid != second.uid
    assert (first.display_name, first.condition, first.active) == ("Spanish", SPAIN, True)
    assert [(each.variant, each.weight) for each in first.split.shares] == [("variant-2", 30), ("variant-3", 100)]
    assert (second.display_name, second.variant, second.active) == ("Rule 2", "variant-1", False)
    assert (after.routing.coverage, after.routing.baseline) == (0.9, "variant-1")
    stored = await revision(shop, made, "2.0")
    assert (stored.routing, stored.description, stored.parent) == (after.routing, "Spain first", "1.0")
    assert (await read(shop, made)).routing == after.routing
    listed = await shop.call("ListDeployments", pb.ListDeploymentsRequest(parent=f"projects/{shop.project}"))
    assert listed.deployments[0].routing == after.routing
    assert not (await revision(shop, made, "1.0")).HasField("routing")


async def test_what_was_read_written_again_changes_nothing(shop: Any, made: Any) -> None:
    first = await shop.call("UpdateDeployment", update(made, story()))
    again = await shop.call("UpdateDeployment", update(made, first.routing))
    assert (again.revision, again.etag, again.routing) == (first.revision, first.etag, first.routing)


async def test_a_routing_without_a_mask_replaces_and_with_one_but_no_value_is_taken_away(shop: Any, made: Any) -> None:
    await shop.call("UpdateDeployment", update(made, story()))
    request = pb.UpdateDeploymentRequest(deployment=deployment_pb2.Deployment(name=made.name))
    request.deployment.routing.rules.add(condition="true", variant=made.variants[2].uid)
    replaced = await shop.call("UpdateDeployment", request)
    assert [each.variant for each in replaced.routing.rules] == ["variant-3"]
    assert (replaced.routing.coverage, list(replaced.routing.fields)) == (1, [])

    gone = await shop.call("UpdateDeployment", update(made, None))

    assert (gone.HasField("routing"), gone.revision) == (False, "4.0")
    assert (await shop.call("UpdateDeployment", update(made, routing.Routing()))).revision == "4.0"
    partial = update(made, story())
    partial.update_mask.paths[:] = ["routing.coverage"]
    assert (await shop.fails("UpdateDeployment", partial)).reason == "UPDATE_MASK_INVALID"


async def test_a_deployment_is_made_with_a_routing_by_the_slugs_it_gets(shop: Any, deployment_request: Any) -> None:
    request = deployment_request(shop.project, "helper", ("A", "B"))
    request.deployment.variants[1].display_name = "Sur España"
    request.deployment.routing.rules.add(condition="true", variant="sur-espana")
    made = await shop.call("CreateDeployment", request)
    assert (made.revision, [each.variant for each in made.routing.rules]) == ("1.0", ["sur-espana"])
    assert (await read(shop, made)).routing == made.routing

    request.deployment_id, request.deployment.routing.rules[0].variant = "other", "sur"
    failure = await shop.fails("CreateDeployment", request)
    assert (failure.reason, violations(failure)) == ("VARIANT_NOT_FOUND", ["deployment.routing.rules[0].variant"])
    request.deployment.routing.rules[0].uid = made.routing.rules[0].uid
    request.deployment.routing.rules[0].variant = "variant-1"
    assert (await shop.fails("CreateDeployment", request)).reason == "RULE_NOT_FOUND"
    request.deployment.routing.rules[0].uid, request.deployment.routing.rules[0].condition = "", "context.x"
    failure = await shop.fails("CreateDeployment", request)
    assert (failure.reason, violations(failure)) == ("CONDITION_INVALID", ["deployment.routing.rules[0].condition"])


async def test_a_repeated_create_answers_the_same_rules(shop: Any, deployment_request: Any) -> None:
    request = deployment_request(shop.project, "helper", ("A", "B"))
    request.request_id = "7f9c24e8-3b12-4fef-91e0-56a2d5a1c0de"
    request.deployment.routing.rules.add(condition="true", variant="variant-2")
    first = await shop.call("CreateDeployment", request)
    assert await shop.call("CreateDeployment", request) == first


async def test_a_rule_keeps_its_uid_and_changes_tell_their_part_of_the_number(shop: Any, made: Any) -> None:
    now = await shop.call("UpdateDeployment", update(made, story()))
    wanted = now.routing
    wanted.rules[0].display_name, wanted.rules[0].active, wanted.coverage = "Español", False, 0.5
    wanted.rules[0].split.shares[0].weight = 5
    minor = await shop.call("UpdateDeployment", update(made, wanted))
    assert (minor.revision, minor.routing) == ("2.1", wanted)
    wanted.rules[0].condition = "true"
    assert (await shop.call("UpdateDeployment", update(made, wanted))).revision == "3.0"
    wanted.rules.add(condition="false", variant="variant-1")
    asked = update(made, wanted, bump=revision_pb2.BUMP_MINOR)
    assert (await shop.call("UpdateDeployment", asked)).revision == "3.1", "unless the caller says which"


async def test_revisions_are_compared_rule_by_rule(shop: Any, made: Any) -> None:
    now = await shop.call("UpdateDeployment", update(made, story()))
    wanted = now.routing
    wanted.rules[0].condition, wanted.coverage = "true", 0.5
    wanted.fields[0].kind = routing.FIELD_KIND_LIST
    await shop.call("UpdateDeployment", update(made, wanted))

    compared = await shop.call("CompareRevisions", pb.CompareRevisionsRequest(name=made.name, before="2.0"))

    assert {each.path: each.after_json for each in compared.differences} == {
        "routing.fields[country].kind": '"list"',
        "routing.rules[Spanish].condition": '"true"',
        "routing.coverage": "0.5",
    }
    first = await shop.call("CompareRevisions", pb.CompareRevisionsRequest(name=made.name, before="1.0"))
    assert {each.path for each in first.differences} == {
        "routing.fields[country]",
        "routing.rules[Spanish]",
        "routing.rules[Rule 2]",
        "routing.coverage",
        "routing.baseline",
    }


async def test_a_rollback_brings_rules_back_with_their_uids(shop: Any, made: Any) -> None:
    routed = await shop.call("UpdateDeployment", update(made, story()))
    await shop.call("UpdateDeployment", update(made, None))
    back = await shop.call("RollbackDeployment", pb.RollbackDeploymentRequest(name=made.name, revision="2.0"))
    assert (back.revision, back.routing) == ("4.0", routed.routing)
    empty = await shop.call("RollbackDeployment", pb.RollbackDeploymentRequest(name=made.name, revision="1.0"))
    assert not empty.HasField("routing")


async def test_other_changes_leave_the_routing_as_it_is(shop: Any, made: Any) -> None:
    routed = await shop.call("UpdateDeployment", update(made, story()))
    variant = deployment_pb2.Variant(name=made.variants[0].name, weight=7)
    await shop.call("UpdateVariant", pb.UpdateVariantRequest(variant=variant))
    await shop.call(
        "UpdateDeployment",
        pb.UpdateDeploymentRequest(deployment=deployment_pb2.Deployment(name=made.name, salt="s")),
    )
    now = await read(shop, made)
    assert (now.revision, now.routing) == ("3.0", routed.routing)


async def test_a_draft_with_rules_is_published_by_the_alias_and_delivered_and_taken_away(
    registry: Any, shop: Any, made: Any
) -> None:
    drafted = await shop.call("UpdateDeployment", update(made, story(), draft=True, description="try"))
    assert (drafted.revision, drafted.HasField("routing")) == ("1.0", False)
    stored = await revision(shop, made, "2.0")
    assert (stored.draft, stored.description, stored.routing.rules[0].display_name) == (True, "try", "Spanish")
    assert (await live(registry, shop, made)).routing == WEIGHTS_ALONE

    await shop.call("SetAlias", pb.SetAliasRequest(name=made.name, alias="live", revision="2.0"))

    seen = (await live(registry, shop, made)).routing
    uids = {each.slug: each.uid for each in made.variants}
    assert seen.fields == (Field("country", FieldKind.STRING),)
    assert (seen.coverage, seen.baseline) == (0.9, uids["variant-1"])
    assert [(each.uid, each.active) for each in seen.rules] == [
        (each.uid, each.active) for each in stored.routing.rules
    ]
    assert seen.rules[0].shares == (Share(uids["variant-2"], 30.0), Share(uids["variant-3"], 100.0))
    target = targets.resolve(registry.catalog.usable_view(), made.name, tenant="")
    decided = await plan.Planner().decide(target, KeyKind.ROUTING_KEY, "user-1", {"country": "MX"})
    assert (decided.evaluation, decided.rule) == (Evaluation.MATCHED, seen.rules[0])

    await shop.call("UpdateDeployment", update(made, None))
    assert (await live(registry, shop, made)).routing == WEIGHTS_ALONE


async def live(registry: Any, client: Any, made: Any) -> Any:
    """The alias's revision in the view of a service that follows."""
    await registry.catalog.reach(client.sequence)
    return registry.catalog.usable_view().deployment(made.uid).aliases["live"]


async def test_the_catalog_leaves_nothing_to_defaults(registry: Any, shop: Any, made: Any) -> None:
    minimal = routing.Routing()
    minimal.rules.add(condition="true").split.shares.add(variant="variant-1")
    minimal.rules[0].split.shares.add(variant="variant-2")
    await shop.call("UpdateDeployment", update(made, minimal))
    stream = registry.service.watch(catalog_service_pb2.WatchCatalogRequest())
    while True:
        message = await stream.read()
        found = [each.deployment for each in message.chunk.entries if each.deployment.uid == made.uid]
        if found:
            break
    stream.cancel()
    [sent] = found[0].revisions
    assert sent.routing.HasField("coverage")
    assert sent.routing.rules[0].HasField("active")
    assert all(each.HasField("weight") for each in sent.routing.rules[0].split.shares)


async def test_a_draft_is_of_what_revisions_hold_alone(shop: Any, made: Any) -> None:
    request = update(made, story(), draft=True)
    request.update_mask.paths.append("description")
    failure = await shop.fails("UpdateDeployment", request)
    assert (failure.reason, violations(failure)) == ("UPDATE_MASK_INVALID", ["update_mask"])
    salted = pb.UpdateDeploymentRequest(deployment=deployment_pb2.Deployment(name=made.name, salt="s"), draft=True)
    await shop.call("UpdateDeployment", salted)
    assert ((await read(shop, made)).salt, (await revision(shop, made, "2.0")).salt) == (made.salt, "s")


async def test_a_dry_write_answers_what_would_be_and_an_old_etag_is_refused(
    registry: Any, shop: Any, made: Any, state_of: Any
) -> None:
    before = await state_of(registry.url)
    dry = await shop.call("UpdateDeployment", update(made, story(), validate_only=True))
    assert (dry.revision, dry.routing.rules[0].display_name) == ("2.0", "Spanish")
    assert await state_of(registry.url) == before
    request = update(made, story())
    request.deployment.etag = "old"
    assert type(await shop.fails("UpdateDeployment", request)) is Conflict


async def test_another_alias_has_its_own_rules(registry: Any, shop: Any, made: Any) -> None:
    await shop.call("SetAlias", pb.SetAliasRequest(name=made.name, alias="beta", revision="1.0"))
    answer = await shop.call("UpdateDeployment", update(made, story(), alias="beta"))
    assert (answer.revision, answer.HasField("routing")) == ("1.0", False)
    assert {each.alias: each.revision for each in answer.aliases} == {"live": "1.0", "beta": "2.0"}
    stored = await revision(shop, made, "beta")
    answer = await shop.fails("UpdateDeployment", update(made, stored.routing))
    assert answer.reason == "RULE_NOT_FOUND", "live has no such rule"
    assert (await shop.fails("UpdateDeployment", update(made, story(), alias="gamma"))).reason == "ALIAS_NOT_FOUND"


async def test_a_variant_that_rules_name_stays(shop: Any, made: Any) -> None:
    await shop.call("UpdateDeployment", update(made, story()))
    for index, users in (
        (0, "the rule 'Rule 2' and the baseline"),
        (1, "the rule 'Spanish'"),
        (2, "the rule 'Spanish'"),
    ):
        failure = await shop.fails("DeleteVariant", pb.DeleteVariantRequest(name=made.variants[index].name))
        assert (type(failure), failure.reason) == (Precondition, "VARIANT_IN_USE")
        assert f"{users} of revision 2.0" in failure.message
    await shop.call("SetAlias", pb.SetAliasRequest(name=made.name, alias="old", revision="1.0"))
    await shop.call("DeleteVariant", pb.DeleteVariantRequest(name=made.variants[1].name, alias="old"))
    await shop.call("UpdateDeployment", update(made, None))
    await shop.call("DeleteVariant", pb.DeleteVariantRequest(name=made.variants[1].name))
    failure = await shop.fails("UpdateDeployment", update(made, story()))
    assert violations(failure) == ["deployment.routing.rules[0].split.shares[0].variant"]
    assert "there are variant-1 and variant-3" in failure.message


async def test_what_does_not_serve_is_warned_of_where_it_is_written_and_read(shop: Any, made: Any) -> None:
    wanted = story()
    wanted.rules[0].condition, wanted.rules[1].active, wanted.coverage = "true", True, 0
    asleep = deployment_pb2.Variant(name=made.variants[0].name, active=False)
    asleep_request = pb.UpdateVariantRequest(variant=asleep)
    asleep_request.update_mask.paths.append("active")
    await shop.call("UpdateVariant", asleep_request)

    answer = await shop.call("UpdateDeployment", update(made, wanted))
    assert ["baseline is not active" in answer.warnings[0], "coverage is 0" in answer.warnings[1]] == [True, True]
    assert (await read(shop, made)).warnings == answer.warnings
    wanted.coverage = 1
    drafted = await shop.call("UpdateDeployment", update(made, wanted, draft=True))
    assert [each for each in drafted.warnings if each.startswith("revision 3.0: ")] == [
        "revision 3.0: the rule 'Rule 2' is never asked: the rule 'Spanish' before matches every call"
    ]


async def test_on_a_protected_deployment_a_routing_waits_for_approval(registry: Any, shop: Any, made: Any) -> None:
    boss = await registry.client(shop.project, ("registry:read", "registry:write", "deployments:approve"))
    protect = pb.UpdateDeploymentRequest(deployment=deployment_pb2.Deployment(name=made.name, protected=True))
    await shop.call("UpdateDeployment", protect)

    answer = await shop.call("UpdateDeployment", update(made, story(), description="Spain"))

    assert answer.change_request
    assert not answer.HasField("routing")
    assert not (await read(shop, made)).HasField("routing")
    request = await boss.call("GetChangeRequest", requests_pb.GetChangeRequestRequest(name=answer.change_request))
    assert request.description == "Spain"
    assert "routing.rules[Spanish]" in [each.path for each in request.differences]
    await boss.call("ApproveChangeRequest", requests_pb.ApproveChangeRequestRequest(name=answer.change_request))
    assert (await read(shop, made)).routing.rules[0].display_name == "Spanish"
    assert (await live(registry, boss, made)).routing.rules[0].display_name == "Spanish"
    at_once = await boss.call("UpdateDeployment", update(made, None))
    assert (at_once.change_request, at_once.HasField("routing")) == ("", False)


async def test_the_caller_in_a_snippet_is_served_by_the_variant_with_the_context_in_it(
    registry: Any, shop: Any, made: Any
) -> None:
    wanted = story()
    wanted.coverage, wanted.baseline = 0.5, "variant-3"
    await shop.call("UpdateDeployment", update(made, wanted))
    await registry.catalog.reach(shop.sequence)
    target = targets.resolve(registry.catalog.usable_view(), made.name, tenant="")

    for variant in made.variants:
        found = await shop.call("GetCodeSnippets", pb.GetCodeSnippetsRequest(name=variant.name))
        context = sent(found)
        assert json.loads(found.context_json) == context
        decided = await plan.Planner().decide(target, KeyKind.ROUTING_KEY, found.routing_key, context)
        assert decided.variant.uid == variant.uid
        assert context
    assert sent(await shop.call("GetCodeSnippets", pb.GetCodeSnippetsRequest(name=made.name))) == context


def sent(found: pb.GetCodeSnippetsResponse) -> Any:
    """The context that cURL sends."""
    [curl] = [each.code for each in found.snippets if each.snippet == "curl"]
    return json.loads(shlex.split(curl)[-1]).get("context", {})


async def test_a_variant_whose_rule_no_comparison_fulfils_has_no_caller_and_the_refusal_says_why(
    shop: Any, made: Any
) -> None:
    wanted = story()
    for rule in wanted.rules:
        rule.condition = "size(context.country) > 100"
    await shop.call("UpdateDeployment", update(made, wanted))
    failure = await shop.fails("GetCodeSnippets", pb.GetCodeSnippetsRequest(name=made.variants[1].name))
    assert (type(failure), failure.reason) == (Precondition, "VARIANT_NOT_REACHABLE")
    assert "context" in failure.message
