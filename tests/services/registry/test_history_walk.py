"""Any walk of changes, rules and rollbacks is what a simple model says."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pytest

from turnout.registry.v1 import deployment_pb2, routing_pb2
from turnout.registry.v1 import deployment_service_pb2 as pb

pytestmark = pytest.mark.thorough


def named(request: type[Any], made: Any, **fields: Any) -> Any:
    return request(name=made.name, **fields)


async def revisions(client: Any, made: Any, **fields: Any) -> list[Any]:
    return list((await client.call("ListRevisions", pb.ListRevisionsRequest(parent=made.name, **fields))).revisions)


Weights: TypeAlias = tuple[tuple[str, float], ...]
"""Uids of variants, each with its weight."""
State: TypeAlias = tuple[Weights, str, Weights]
"""Of variants; the uid of the rule, empty without one, and of its split."""


@dataclass
class Model:
    """What a deployment should be, as simply as it can be said."""

    revisions: dict[str, State] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    drafts: set[str] = field(default_factory=set)
    aliases: dict[str, str] = field(default_factory=dict)

    def next_number(self, base: str, *, is_minor: bool) -> str:
        majors = {int(number.split(".")[0]) for number in self.revisions}
        major = int(base.split(".")[0])
        if not is_minor:
            return f"{max(majors) + 1}.0"
        minors = [int(number.split(".")[1]) for number in self.revisions if int(number.split(".")[0]) == major]
        return f"{major}.{max(minors) + 1}"

    def revise(self, alias: str, state: State, *, is_draft: bool) -> None:
        base = self.aliases[alias]
        if self.revisions[base] == state:
            return
        met = [({uid for uid, _ in of[0]}, of[1], {uid for uid, _ in of[2]}) for of in (self.revisions[base], state)]
        is_minor = met[0] == met[1]
        number = self.next_number(base, is_minor=is_minor)
        self.revisions[number], self.parents[number] = state, base
        if is_draft:
            self.drafts.add(number)
        else:
            self.aliases[alias] = number


def routed(made: Any, rule: str, shares: Weights, **fields: Any) -> Any:
    """The request for that routing; none without shares."""
    request = pb.UpdateDeploymentRequest(deployment=deployment_pb2.Deployment(name=made.name), **fields)
    request.update_mask.paths.append("routing")
    if shares:
        split = request.deployment.routing.rules.add(uid=rule, condition="true").split
        for uid, weight in shares:
            split.shares.add(variant=uid, weight=weight)
    return request


def state_of(found: Any) -> State:
    """Of a deployment or a revision."""
    uids = {each.slug: each.uid for each in found.variants}
    variants = tuple((each.uid, each.weight) for each in found.variants)
    for rule in found.routing.rules:
        shares = rule.split.shares if rule.HasField("split") else [routing_pb2.Share(variant=rule.variant, weight=100)]
        return variants, rule.uid, tuple((uids[each.variant], each.weight) for each in shares)
    return variants, "", ()


@pytest.mark.parametrize("seed", range(4))
async def test_any_walk_of_changes_is_what_a_simple_model_says(
    registry: Any, shop: Any, deployment_request: Any, seed: int
) -> None:
    chance = random.Random(seed)
    made = await shop.call("CreateDeployment", deployment_request(shop.project, "helper", ("A", "B", "C")))
    names = {each.uid: each.name for each in made.variants}
    model = Model({"1.0": state_of(made)}, {"1.0": ""}, set(), {"live": "1.0"})

    for _ in range(50):
        alias = chance.choice([*model.aliases, "live"])
        variants, rule, split = model.revisions[model.aliases[alias]]
        number = chance.choice(list(model.revisions))
        match chance.choice(["weigh", "delete", "route", "unroute", "rollback", "point", "unpoint"]):
            case "weigh" if variants:
                uid, weight = chance.choice(variants)[0], float(chance.randrange(4))
                is_draft = chance.random() < 0.3
                variant = deployment_pb2.Variant(name=f"{made.name}/variants/{uid}", weight=weight)
                await shop.call("UpdateVariant", pb.UpdateVariantRequest(variant=variant, alias=alias, draft=is_draft))
                new = tuple((each, weight if each == uid else kept) for each, kept in variants)
                model.revise(alias, (new, rule, split), is_draft=is_draft)
            case "delete" if variants and chance.random() < 0.5:
                uid = chance.choice(variants)[0]
                delete = pb.DeleteVariantRequest(name=names[uid], alias=alias)
                if any(each == uid for each, _ in split):
                    assert (await shop.fails("DeleteVariant", delete)).reason == "VARIANT_IN_USE"
                    continue
                await shop.call("DeleteVariant", delete)
                kept = tuple(each for each in variants if each[0] != uid)
                model.revise(alias, (kept, rule, split), is_draft=False)
            case "route" if variants:
                count = chance.randint(1, min(2, len(variants)))
                shares = tuple((uid, float(chance.randrange(4))) for uid, _ in chance.sample(variants, count))
                is_draft = chance.random() < 0.3
                update = routed(made, rule, shares, alias=alias, draft=is_draft)
                await shop.call("UpdateDeployment", update)
                [newest, *_] = sorted(await revisions(shop, made, page_size=1000), key=lambda each: each.uid)[::-1]
                uid = rule or newest.routing.rules[0].uid
                model.revise(alias, (variants, uid, shares), is_draft=is_draft)
            case "unroute" if chance.random() < 0.3:
                await shop.call("UpdateDeployment", routed(made, "", (), alias=alias))
                model.revise(alias, (variants, "", ()), is_draft=False)
            case "rollback":
                request = named(pb.RollbackDeploymentRequest, made, revision=number, alias=alias)
                await shop.call("RollbackDeployment", request)
                model.revise(alias, model.revisions[number], is_draft=False)
            case "point":
                alias = chance.choice([*model.aliases, "staging", "canary"])
                may = number not in model.drafts or model.aliases.get(alias, "") in ("", model.parents[number])
                request = named(pb.SetAliasRequest, made, alias=alias, revision=number)
                if may or model.aliases.get(alias) == number:
                    await shop.call("SetAlias", request)
                    model.aliases[alias] = number
                    model.drafts.discard(number)
                else:
                    assert (await shop.fails("SetAlias", request)).reason == "BASE_MOVED"
            case "unpoint" if alias != "live":
                await shop.call("DeleteAlias", named(pb.DeleteAliasRequest, made, alias=alias))
                del model.aliases[alias]

    now = await shop.call("GetDeployment", pb.GetDeploymentRequest(name=made.name))
    assert {each.alias: each.revision for each in now.aliases} == model.aliases
    stored = {each.number: each for each in await revisions(shop, made, page_size=1000)}
    assert {number: state_of(each) for number, each in stored.items()} == model.revisions
    assert {number: each.parent for number, each in stored.items()} == model.parents
    assert {number for number, each in stored.items() if each.draft} == model.drafts
    await registry.catalog.reach(shop.sequence)
    view = registry.catalog.usable_view()
    aliases = view.deployment(made.uid).aliases
    assert {alias: revision.number for alias, revision in aliases.items()} == model.aliases
    for revision in aliases.values():
        rules = [
            (rule.uid, tuple((each.variant, each.weight) for each in rule.shares)) for rule in revision.routing.rules
        ]
        assert (rules or [("", ())]) == [model.revisions[revision.number][1:]]
    used = {variant.serving.version for revision in aliases.values() for variant in revision.variants}
    project = view.project_named(shop.project).uid
    assert {thing.uid for key, thing in view.things.items() if key.startswith(f"version/{project}/")} == used
