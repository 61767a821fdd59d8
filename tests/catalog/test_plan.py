from __future__ import annotations

import pytest

from catalog import plan
from catalog.plan import KeyKind
from catalog.targets import Target
from catalog.view import Completion, Deployment, DeploymentKind, Project, Revision, Variant
from kit.errors import Precondition


def _target(*variants: tuple[str, float, bool]) -> Target:
    made = tuple(
        Variant(uid, number, uid, uid, active, weight, Completion("ver_1", 0, None))
        for number, (uid, weight, active) in enumerate(variants, 1)
    )
    revision = Revision("rev_1", "1.0", "dep_1", made)
    deployment = Deployment("dep_1", "prj_1", "agent", DeploymentKind.COMPLETION, {"live": revision})
    return Target(Project("prj_1", 1, "shop"), deployment, "live", revision)


def test_the_key_is_the_first_thing_that_the_call_gives() -> None:
    assert plan.choose_key(request_id="r", routing_key="k", identity="i", thread="t") == (KeyKind.ROUTING_KEY, "k")
    assert plan.choose_key(request_id="r", identity="i", thread="t") == (KeyKind.IDENTITY, "i")
    assert plan.choose_key(request_id="r", thread="t") == (KeyKind.THREAD, "t")
    assert plan.choose_key(request_id="r") == (KeyKind.REQUEST, "r")


def test_a_decision_is_sticky_and_says_its_propensity() -> None:
    target = _target(("var_a", 30, True), ("var_b", 10, True), ("var_c", 60, False))

    decisions = [plan.decide(target, KeyKind.ROUTING_KEY, "user-1") for _ in range(5)]

    assert len({decision.variant.uid for decision in decisions}) == 1
    assert decisions[0].propensity == {"var_a": 0.75, "var_b": 0.25}[decisions[0].variant.uid]


def test_an_inactive_or_weightless_variant_never_serves() -> None:
    target = _target(("var_a", 0, True), ("var_b", 50, False), ("var_c", 0.001, True))

    served = {plan.decide(target, KeyKind.REQUEST, str(number)).variant.uid for number in range(200)}

    assert served == {"var_c"}


@pytest.mark.parametrize("variants", [(), (("var_a", 0, True),), (("var_a", 100, False),)])
def test_without_an_eligible_variant_serving_is_refused(variants: tuple[tuple[str, float, bool], ...]) -> None:
    with pytest.raises(Precondition) as failure:
        plan.decide(_target(*variants), KeyKind.REQUEST, "r")

    assert failure.value.reason == "NO_ACTIVE_VARIANT"
