"""Any walk through drafts, aliases, rollbacks and approvals is what a simple model says."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import asyncpg
import pytest

from turnout.registry.v1 import change_request_pb2, deployment_pb2, routing_pb2
from turnout.registry.v1 import change_request_service_pb2 as requests_pb
from turnout.registry.v1 import deployment_service_pb2 as pb

STEPS = 60
ALIASES = ("live", "beta")
State: TypeAlias = tuple[float, float]


@dataclass
class Model:
    """What there should be: revisions differ in one weight and in coverage only, so each is the next minor one."""

    states: dict[str, State] = field(default_factory=lambda: {"1.0": (0.0, 1.0)})
    """By number: the weight of the second variant, and the coverage."""
    parents: dict[str, str] = field(default_factory=dict)
    unpublished: set[str] = field(default_factory=set)
    aliases: dict[str, str] = field(default_factory=lambda: {"live": "1.0"})
    pending: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    """Change request to its alias, the base (empty: none) and the revision."""
    is_protected: bool = True

    def revise(self, base: str, state: State) -> str:
        number = f"1.{len(self.states)}"
        self.states[number], self.parents[number] = state, base
        self.unpublished.add(number)
        return number

    def point(self, alias: str, number: str) -> None:
        self.aliases[alias] = number
        self.unpublished.discard(number)


@dataclass
class Walk:
    """One deployment, two keys, and the model."""

    made: Any
    author: Any
    boss: Any
    url: str
    chance: random.Random
    model: Model = field(default_factory=Model)

    async def step(self) -> None:
        steps = (self.change, self.change, self.draft, self.set_alias, self.roll_back, self.delete_alias, self.protect)
        await self.chance.choice((*steps, *(3 * (self.approve,)), self.decline, self.expire))()

    def _who(self) -> tuple[Any, bool]:
        """Somebody, and whether what they do waits for approval."""
        client = self.chance.choice((self.author, self.boss))
        return client, client is self.author and self.model.is_protected

    def _done(self, answer: Any, alias: str, number: str, *, waits: bool) -> None:
        assert bool(answer.change_request) is waits
        if waits:
            self.model.pending[answer.change_request] = (alias, self.model.aliases.get(alias, ""), number)
        else:
            self.model.point(alias, number)

    async def change(self) -> None:
        client, waits = self._who()
        alias = self.chance.choice(list(self.model.aliases))
        base = self.model.aliases[alias]
        answer, state = await self._ask(client, base, alias=alias)
        if state == self.model.states[base]:
            assert not answer.change_request
        else:
            self._done(answer, alias, self.model.revise(base, state), waits=waits)

    async def draft(self) -> None:
        client, _ = self._who()
        alias = self.chance.choice(list(self.model.aliases))
        base = self.model.aliases[alias]
        answer, state = await self._ask(client, base, alias=alias, draft=True)
        assert not answer.change_request
        if state != self.model.states[base]:
            self.model.revise(base, state)

    async def _ask(self, client: Any, base: str, **fields: Any) -> tuple[Any, State]:
        """Ask for another weight or another coverage; the answer, and what it should come to."""
        weight, coverage = self.model.states[base]
        if self.chance.random() < 0.5:
            weight = float(self.chance.randrange(4))
            variant = deployment_pb2.Variant(name=self.made.variants[1].name, weight=weight)
            request: Any = pb.UpdateVariantRequest(variant=variant, **fields)
            return await client.call("UpdateVariant", request), (weight, coverage)
        coverage = self.chance.randrange(4) / 4
        routing = routing_pb2.Routing()
        routing.CopyFrom(self.made.routing)
        routing.coverage = coverage
        deployment = deployment_pb2.Deployment(name=self.made.name, routing=routing)
        request = pb.UpdateDeploymentRequest(deployment=deployment, **fields)
        return await client.call("UpdateDeployment", request), (weight, coverage)

    async def set_alias(self) -> None:
        client, waits = self._who()
        alias, number = self.chance.choice(ALIASES), self.chance.choice(list(self.model.states))
        request = pb.SetAliasRequest(name=self.made.name, alias=alias, revision=number)
        pointed = self.model.aliases.get(alias)
        if number in self.model.unpublished and pointed is not None and pointed != self.model.parents[number]:
            assert (await client.fails("SetAlias", request)).reason == "BASE_MOVED"
            return
        answer = await client.call("SetAlias", request)
        if pointed == number:
            assert not answer.change_request
        else:
            self._done(answer, alias, number, waits=waits)

    async def roll_back(self) -> None:
        client, waits = self._who()
        alias, number = self.chance.choice(list(self.model.aliases)), self.chance.choice(list(self.model.states))
        base, state = self.model.aliases[alias], self.model.states[number]
        request = pb.RollbackDeploymentRequest(name=self.made.name, revision=number, alias=alias)
        answer = await client.call("RollbackDeployment", request)
        if state == self.model.states[base]:
            assert not answer.change_request
        else:
            self._done(answer, alias, self.model.revise(base, state), waits=waits)

    async def delete_alias(self) -> None:
        client, waits = self._who()
        request = pb.DeleteAliasRequest(name=self.made.name, alias="beta")
        if "beta" not in self.model.aliases:
            assert (await client.fails("DeleteAlias", request)).reason == "ALIAS_NOT_FOUND"
        elif waits:
            assert (await client.fails("DeleteAlias", request)).reason == "APPROVAL_REQUIRED"
        else:
            await client.call("DeleteAlias", request)
            del self.model.aliases["beta"]

    async def protect(self) -> None:
        client, waits = self._who()
        is_protected = self.chance.random() < 0.7
        request = pb.UpdateDeploymentRequest(
            deployment=deployment_pb2.Deployment(name=self.made.name, protected=is_protected)
        )
        request.update_mask.paths.append("protected")
        if waits and not is_protected:
            assert (await client.fails("UpdateDeployment", request)).reason == "APPROVAL_REQUIRED"
        else:
            await client.call("UpdateDeployment", request)
            self.model.is_protected = is_protected

    async def approve(self) -> None:
        if not self.model.pending:
            return
        name = self.chance.choice(list(self.model.pending))
        alias, base, number = self.model.pending[name]
        request = requests_pb.ApproveChangeRequestRequest(name=name)
        if self.model.aliases.get(alias, "") != base:
            assert (await self.boss.fails("ApproveChangeRequest", request)).reason == "BASE_MOVED"
            return
        await self.boss.call("ApproveChangeRequest", request)
        del self.model.pending[name]
        self.model.point(alias, number)

    async def decline(self) -> None:
        if not self.model.pending:
            return
        name = self.chance.choice(list(self.model.pending))
        if self.chance.random() < 0.5:
            await self.boss.call("RejectChangeRequest", requests_pb.RejectChangeRequestRequest(name=name))
        else:
            await self.author.call("CancelChangeRequest", requests_pb.CancelChangeRequestRequest(name=name))
        del self.model.pending[name]
        failure = await self.boss.fails("ApproveChangeRequest", requests_pb.ApproveChangeRequestRequest(name=name))
        assert failure.reason == "CHANGE_REQUEST_DECIDED"

    async def expire(self) -> None:
        if not self.model.pending:
            return
        name = self.chance.choice(list(self.model.pending))
        connection = await asyncpg.connect(self.url.replace("+asyncpg", ""))
        try:
            # Its time is over.
            await connection.execute(
                "UPDATE registry.change_requests SET expires_at = created_at WHERE uid = $1", name.rpartition("/")[2]
            )
        finally:
            await connection.close()
        del self.model.pending[name]
        failure = await self.boss.fails("ApproveChangeRequest", requests_pb.ApproveChangeRequestRequest(name=name))
        assert failure.reason == "CHANGE_REQUEST_EXPIRED"

    async def check(self) -> None:
        """That everything is as the model says."""
        found = await self.boss.call("GetDeployment", pb.GetDeploymentRequest(name=self.made.name))
        assert {each.alias: each.revision for each in found.aliases} == self.model.aliases
        assert _state(found) == self.model.states[self.model.aliases["live"]]
        assert found.protected is self.model.is_protected
        listed = await self.boss.call(
            "ListChangeRequests",
            requests_pb.ListChangeRequestsRequest(
                parent=self.made.name, page_size=200, state=change_request_pb2.CHANGE_REQUEST_STATE_PENDING
            ),
        )
        assert {each.name: (each.alias, each.base, each.revision) for each in listed.change_requests} == (
            self.model.pending
        )

    async def check_revisions(self) -> None:
        """That every revision ever made is kept as it was."""
        page = await self.boss.call("ListRevisions", pb.ListRevisionsRequest(parent=self.made.name, page_size=200))
        assert not page.next_page_token
        assert {each.number: _state(each) for each in page.revisions} == self.model.states
        assert {each.number for each in page.revisions if each.draft} == self.model.unpublished
        assert {each.number: each.parent for each in page.revisions if each.parent} == self.model.parents


def _state(found: Any) -> State:
    """Of a deployment or a revision."""
    return found.variants[1].weight, found.routing.coverage


@pytest.mark.parametrize("seed", range(4))
async def test_any_walk_through_drafts_aliases_rollbacks_and_approvals_is_what_a_simple_model_says(
    registry: Any, shop: Any, deployment_request: Any, seed: int
) -> None:
    boss = await registry.client(shop.project, ("registry:read", "registry:write", "deployments:approve"))
    request = deployment_request(shop.project, "helper", ("A {{ name }}", "B {{ name }}"))
    request.deployment.protected = True
    request.deployment.routing.rules.add(condition="true").split.shares.add(variant="variant-2", weight=30)
    request.deployment.routing.baseline = "variant-1"
    walk = Walk(await shop.call("CreateDeployment", request), shop, boss, registry.url, random.Random(seed))
    for _ in range(STEPS):
        await walk.step()
        await walk.check()
    await walk.check_revisions()
    assert len(walk.model.states) > 5, "too little happened to say anything"
