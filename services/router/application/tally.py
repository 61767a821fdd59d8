"""Counting what many calls come to under a revision."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from catalog import explain, plan
from catalog.explain import Outlook
from catalog.routing import Rule
from catalog.rules import Compiler, Context
from catalog.targets import Target
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

    :param target: with the revision that is asked
    """

    def __init__(self, compiler: Compiler, target: Target) -> None:
        self.revision = target.revision
        self._compiler = compiler
        self._target = target
        self._groups: dict[str, Group] = {}
        self._by_context: dict[str, Group] = {}
        self._served: Counter[str] = Counter()
        self._outside = 0

    async def meet(self, context_json: str, context: Context) -> None:
        """Ask the rules about a context; once, before the first unit that has it."""
        if context_json in self._by_context:
            return
        rule = await self._compiler.match(self._target.project.uid, self.revision, context)
        uid = "" if rule is None else rule.uid
        if uid not in self._groups:
            choice = plan.choose(self.revision, self._target.deployment.uid, "", rule)
            self._groups[uid] = Group(explain.outlook(self.revision, choice))
        self._by_context[context_json] = self._groups[uid]

    def group(self, context_json: str) -> Group:
        """Those whose context picks the same rule as this one."""
        return self._by_context[context_json]

    def add(self, context_json: str, key: str) -> str:
        """Count one more.

        :return: the uid of the variant that it is assigned, or REFUSED
        """
        group = self._by_context[context_json]
        choice = plan.choose(group.outlook.drawn, self._target.deployment.uid, key, None)
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

    async def meet(self, context_json: str, context: Context) -> None:
        """To be called before the first unit that has this context.

        :param context: what `context_json` says
        """
        await self._after.meet(context_json, context)
        if self._before is not None:
            await self._before.meet(context_json, context)

    def add(self, context_json: str, key: str) -> None:
        """Count one more."""
        after = self._after.add(context_json, key)
        if self._before is not None:
            self._pairs[self._before.add(context_json, key), after] += 1

    def rule(self, context_json: str) -> Rule | None:
        """The one that picks where calls with this context go, in the revision that is tried."""
        return self._after.group(context_json).outlook.rule

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
