from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from types import MappingProxyType

import pytest

from catalog import plan, targets
from catalog.plan import Decision, KeyKind
from catalog.view import Completion, Deployment, DeploymentKind, Project, Revision, Variant, View
from kit.clock import SystemClock
from kit.errors import AppError, Exhausted, Invalid, NotFound, Precondition
from services.router.application.places import Places
from services.router.application.routing import Router
from services.router.domain import Unit


class Catalog:
    def __init__(self, *weights: float) -> None:
        variants = tuple(
            Variant(f"var_{number}", number, f"v{number}", "", True, weight, Completion("ver_1", 0, None))
            for number, weight in enumerate(weights)
        )
        revision = Revision("rev_1", "1.0", "salt", variants)
        deployment = Deployment(
            "dep_1", "prj_1", "agent", DeploymentKind.COMPLETION, MappingProxyType({"live": revision})
        )
        changes = (("project/prj_1", Project("prj_1", 1, "shop")), ("deployment/dep_1", deployment))
        self._view = View().with_changes(1, changes)
        self.asked = 0

    def usable_view(self) -> View:
        self.asked += 1
        return self._view


def counting() -> Callable[[str], str]:
    numbers = itertools.count()
    return lambda kind: f"{kind}_{next(numbers)}"


def router_of(catalog: Catalog) -> Router:
    return Router(
        catalog,
        plan.Planner(),
        plan.Planner(),
        SystemClock(),
        counting(),
        Places(1, what="decides", reason="ROUTER_BUSY"),
    )


async def test_the_decision_is_that_of_the_plan_for_the_first_key_that_is_given() -> None:
    router = router_of(catalog := Catalog(50, 50))
    given = {"routing_key": "k", "identity": "i", "thread": "t", "user": "u"}
    order = ((KeyKind.ROUTING_KEY, "k"), (KeyKind.IDENTITY, "i"), (KeyKind.THREAD, "t"), (KeyKind.USER, "u"))
    for name, (kind, key) in zip(list(given), order, strict=True):
        decision = await router.route("agent", Unit(**given), tenant="prj_1")
        target = targets.resolve(catalog.usable_view(), "agent", tenant="prj_1")
        assert decision == plan.decide(target, kind, key)
        given[name] = ""


async def test_without_a_key_each_call_is_a_draw_of_its_own() -> None:
    router = router_of(Catalog(50, 50))

    decisions = [await router.route("agent", Unit(), tenant="prj_1") for _ in range(50)]

    assert {decision.key_kind for decision in decisions} == {KeyKind.REQUEST}
    assert {decision.variant.uid for decision in decisions} == {"var_0", "var_1"}


@pytest.mark.parametrize(
    ("weights", "target", "tenant", "error", "reason"),
    [
        ((0.0,), "agent", "prj_1", Precondition, "NO_ACTIVE_VARIANT"),
        ((1.0,), "nobody", "prj_1", NotFound, "DEPLOYMENT_NOT_FOUND"),
        ((1.0,), "agent:beta", "prj_1", NotFound, "ALIAS_NOT_FOUND"),
        ((1.0,), "agent", "", Invalid, "TARGET_NEEDS_PROJECT"),
    ],
)
async def test_what_cannot_be_decided_says_why(
    weights: tuple[float, ...], target: str, tenant: str, error: type[Exception], reason: str
) -> None:
    with pytest.raises(error) as failure:
        await router_of(Catalog(*weights)).route(target, Unit(), tenant=tenant)
    assert failure.value.reason == reason  # type: ignore[attr-defined]  # one of ours


async def test_a_batch_is_decided_at_one_state() -> None:
    router = router_of(catalog := Catalog(50, 50))

    found = await router.batch_route([("agent", Unit(user="a")), ("nobody", Unit())] * 400, tenant="prj_1")

    assert catalog.asked == 1
    assert [type(each) for each in found] == [Decision, NotFound] * 400


async def test_a_long_batch_lets_others_run() -> None:
    router = router_of(Catalog(*[1] * 100))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    beside = asyncio.create_task(others())
    found = await router.batch_route([("agent", Unit(user=f"u{n}")) for n in range(1000)], tenant="prj_1")
    beside.cancel()

    assert not any(isinstance(each, AppError) for each in found)
    assert turns > 10


async def test_a_large_batch_waits_for_nobody_and_a_small_one_is_always_decided() -> None:
    router = router_of(Catalog(50, 50))
    large = [("agent", Unit())] * 11
    with router.places.one():
        with pytest.raises(Exhausted) as refused:
            await router.batch_route(large, tenant="prj_1")
        assert (refused.value.reason, refused.value.retry_after_seconds) == ("ROUTER_BUSY", 1)
        assert len(await router.batch_route(large[:10], tenant="prj_1")) == 10
    assert len(await router.batch_route(large, tenant="prj_1")) == 11
