"""Counting what many calls come to under a revision."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from catalog import explain, plan
from catalog.explain import Outlook
from catalog.routing import Rule
from catalog.rules import Context, Rules
from catalog.view import Revision
from services.router.domain import Comparison, Movement, Share, Simulation, Trace

REFUSED = ""
"""In place of a variant's uid."""


@dataclass(slots=True)
class Group:
    """The units whose context picks the same rule."""

    outlook: Outlook
    count: int = 0


class Tally:
    """What each unit is assigned, and how often each is.

    What rules say of a context is asked once for each context, and what a rule means is worked out once for each rule:
    both are the same for every key.

    :param deployment: uid of the revision's
    :param rules: the revision's; None if it has none
    """

    def __init__(self, deployment: str, revision: Revision, rules: Rules | None) -> None:
        self.revision = revision
        self._deployment = deployment
        self._rules = rules
        self._groups: dict[str, Group] = {}
        self._by_context: dict[str, Group] = {}
        self._served: Counter[str] = Counter()
        self._outside = 0

    def group(self, context_json: str, context: Context) -> Group:
        """Those whose context is this, or picks the same rule."""
        found = self._by_context.get(context_json)
        if found is None:
            rule = None if self._rules is None else self._rules.match(context)
            uid = "" if rule is None else rule.uid
            found = self._groups.get(uid)
            if found is None:
                choice = plan.choose(self.revision, self._deployment, "", rule)
                found = self._groups[uid] = Group(explain.outlook(self.revision, choice))
            self._by_context[context_json] = found
        return found

    def add(self, group: Group, key: str) -> str:
        """Count one more.

        :return: the uid of the variant that it is assigned, or REFUSED
        """
        choice = plan.choose(group.outlook.drawn, self._deployment, key, None)
        uid = REFUSED if choice.variant is None else choice.variant.uid
        group.count += 1
        self._served[uid] += 1
        self._outside += choice.outside_coverage
        return uid

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(group.count for group in self._groups.values())

    @property
    def outside_count(self) -> int:
        """How many were outside coverage."""
        return self._outside

    @property
    def refused_count(self) -> int:
        """How many nothing could serve."""
        return self._served[REFUSED]

    def shares(self) -> tuple[Share, ...]:
        """Of every variant, in the revision's order."""
        expected: dict[str, float] = defaultdict(float)
        for group in self._groups.values():
            for uid, chance in group.outlook.propensities.items():
                expected[uid] += chance * group.count
        return tuple(
            Share(variant, self._served[variant.uid], expected[variant.uid]) for variant in self.revision.variants
        )

    def counts_by_rule(self) -> dict[str, int]:
        """How many each rule decided, by its uid; those that none did are not in it."""
        return {rule: group.count for rule, group in self._groups.items() if rule}


class Trial:
    """Counts under a revision, and who would move to it from another.

    :param after: of the revision that is tried
    :param before: of the other; None for no comparison
    """

    def __init__(self, after: Tally, before: Tally | None) -> None:
        self._after = after
        self._before = before
        self._pairs: Counter[tuple[str, str]] = Counter()

    def add(self, context_json: str, context: Context, key: str) -> None:
        """Count one more.

        :param context: what `context_json` says
        """
        after = self._after.add(self._after.group(context_json, context), key)
        if self._before is not None:
            before = self._before.add(self._before.group(context_json, context), key)
            self._pairs[before, after] += 1

    def rule(self, context_json: str, context: Context) -> Rule | None:
        """The one that picks where calls with this context go, in the revision that is tried."""
        return self._after.group(context_json, context).outlook.rule

    def result(self, trace: Trace | None = None) -> Simulation:
        """What has been counted."""
        tally, by_rule = self._after, self._after.counts_by_rule()
        return Simulation(
            revision=tally.revision,
            trace=trace,
            decided_count=tally.count,
            shares=tally.shares(),
            rules=tuple((rule, by_rule.get(rule.uid, 0)) for rule in tally.revision.routing.rules),
            outside_count=tally.outside_count,
            refused_count=tally.refused_count,
            comparison=None
            if self._before is None
            else Comparison(self._before.revision, _movements(self._before.revision, tally.revision, self._pairs)),
        )


def _movements(before: Revision, after: Revision, pairs: Counter[tuple[str, str]]) -> tuple[Movement, ...]:
    sides = [{variant.uid: variant for variant in revision.variants} for revision in (before, after)]
    places = [{uid: place for place, uid in enumerate(side)} for side in sides]

    def order(pair: tuple[tuple[str, str], int]) -> tuple[int, int, int]:
        (source, destination), count = pair
        return -count, places[0].get(source, -1), places[1].get(destination, -1)

    return tuple(
        # Those who are refused have no variant.
        Movement(sides[0].get(source), sides[1].get(destination), count)
        for (source, destination), count in sorted(pairs.items(), key=order)
    )
