from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from catalog import plan
from catalog.conditions import read_context
from catalog.rules import Compiler
from catalog.targets import Target
from catalog.view import Deployment, DeploymentKind, Project, Revision
from services.router.application.tally import Tally, Trial
from tests.catalog import plans
from tests.catalog.choices import choose
from turnout.registry.v1 import catalog_pb2

UNITS = st.lists(st.tuples(plans.CONTEXTS, plans.KEYS), min_size=1, max_size=30)


@settings(max_examples=200, deadline=None)
@given(first=plans.revisions("rev_1", "1.0"), second=plans.revisions("rev_2", "1.1"), units=UNITS)
async def test_what_is_counted_is_what_the_planner_chooses_for_each(
    first: catalog_pb2.CatalogRevision, second: catalog_pb2.CatalogRevision, units: list[tuple[str, str]]
) -> None:
    after, before = (plans.in_view(each) for each in (first, second))
    trial = Trial(*(Tally(Compiler(), target_of(each)) for each in (after, before)))
    for text, key in units:
        await trial.meet(text, read_context(text))
        trial.add(text, key)
    result = trial.result()

    choices = [
        [choose(revision, "dep_agent", key, read_context(text)) for text, key in units] for revision in (after, before)
    ]
    served = Counter(choice.variant and choice.variant.uid for choice in choices[0])
    assert {share.variant.uid: share.count for share in result.shares} == {
        each.uid: served[each.uid] for each in after.variants
    }
    assert result.refused_count == served[None]
    assert result.outside_count == sum(choice.outside_coverage for choice in choices[0])
    rules = Counter(choice.rule.uid for choice in choices[0] if choice.rule is not None)
    assert {rule.uid: count for rule, count in result.rules} == {
        rule.uid: rules[rule.uid] for rule in after.routing.rules
    }
    assert result.matched_count == rules.total()
    assert result.decided_count == len(units)
    for share in result.shares:
        chances = [plan.propensity(after, choice, share.variant) * share.variant.active for choice in choices[0]]
        assert abs(share.expected_count - sum(chances)) < 1e-9
    pairs = Counter(
        (old.variant and old.variant.uid, new.variant and new.variant.uid) for new, old in zip(*choices, strict=True)
    )
    assert result.comparison is not None
    assert {
        (each.before and each.before.uid, each.after and each.after.uid): each.count
        for each in result.comparison.movements
    } == pairs
    assert result.comparison.moved_count == sum(count for (old, new), count in pairs.items() if old != new)


def target_of(revision: Revision) -> Target:
    deployment = Deployment("dep_agent", "prj_1", "agent", DeploymentKind.COMPLETION, {"live": revision})
    return Target(Project("prj_1", 1, "shop"), deployment, "live", revision)
