from __future__ import annotations

import itertools
from collections.abc import Callable
from types import MappingProxyType

import pytest

from catalog import plan, targets
from catalog.plan import KeyKind
from catalog.view import Completion, Deployment, DeploymentKind, Project, Revision, Variant, View
from kit.errors import Invalid, NotFound, Precondition
from services.router.application import Router

NO_KEYS = {"routing_key": "", "identity": "", "thread": "", "user": ""}


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

    def usable_view(self) -> View:
        return self._view


def counting() -> Callable[[str], str]:
    numbers = itertools.count()
    return lambda kind: f"{kind}_{next(numbers)}"


def test_the_decision_is_that_of_the_plan_for_the_first_key_that_is_given() -> None:
    router = Router(catalog := Catalog(50, 50), counting())
    given = {"routing_key": "k", "identity": "i", "thread": "t", "user": "u"}
    order = ((KeyKind.ROUTING_KEY, "k"), (KeyKind.IDENTITY, "i"), (KeyKind.THREAD, "t"), (KeyKind.USER, "u"))
    for name, (kind, key) in zip(list(given), order, strict=True):
        decision = router.route("agent", **given, tenant="prj_1")
        target = targets.resolve(catalog.usable_view(), "agent", tenant="prj_1")
        assert decision == plan.decide(target, kind, key)
        given[name] = ""


def test_without_a_key_each_call_is_a_draw_of_its_own() -> None:
    router = Router(Catalog(50, 50), counting())

    decisions = [router.route("agent", **NO_KEYS, tenant="prj_1") for _ in range(50)]

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
def test_what_cannot_be_decided_says_why(
    weights: tuple[float, ...], target: str, tenant: str, error: type[Exception], reason: str
) -> None:
    with pytest.raises(error) as failure:
        Router(Catalog(*weights), counting()).route(target, **NO_KEYS, tenant=tenant)
    assert failure.value.reason == reason  # type: ignore[attr-defined]  # one of ours
