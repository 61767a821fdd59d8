"""How a decision came about, told in full; and what a revision holds for all units whose context picks the same rule.

What is decided, and by which of the rules, always comes from :class:`catalog.plan.Planner`; here it is only looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from enum import StrEnum

from catalog import assignment, plan
from catalog.conditions import Condition, Field, Languages, Seen, Truth
from catalog.plan import Choice
from catalog.routing import Routing, Rule
from catalog.rules import Context
from catalog.view import Revision, Variant
from kit.lru import Lru
from kit.values import Value

_MAX_LANGUAGES = 64
_MAX_CONDITIONS = 1000
_MAX_BYTES = 8 << 20


class RuleOutcome(StrEnum):
    """What a rule came to."""

    TRUE = "true"
    FALSE = "false"
    MISSING = "missing"
    """It needed a field that the context lacks, or holds as something else."""
    ERROR = "error"
    INACTIVE = "inactive"
    """It is switched off, so it was not asked."""
    NOT_REACHED = "not_reached"
    """One before it matched."""


_OUTCOMES = {
    Truth.TRUE: RuleOutcome.TRUE,
    Truth.FALSE: RuleOutcome.FALSE,
    Truth.MISSING: RuleOutcome.MISSING,
    Truth.ERROR: RuleOutcome.ERROR,
}


class RuleTrace(Value):
    """What became of one rule."""

    rule: Rule
    outcome: RuleOutcome
    message: str
    """Why it could not be asked, of MISSING and ERROR."""
    seen: tuple[Seen, ...]
    """What the call has of the fields that the condition mentions."""


class Candidate(Value):
    """A variant that might have been chosen."""

    variant: Variant
    weight: float
    draw: float
    """In (0, 1), for this variant and the key."""
    score: float
    """The highest wins; 0 for those that take no part."""
    propensity: float
    """Of a random key that meets the same rule; coverage included."""


class Explainer:
    """Looks again at what a planner has decided. For one event loop.

    Keeps conditions compiled of its own: few, for people look at few.
    """

    def __init__(self) -> None:
        self._languages = Languages(max_languages=_MAX_LANGUAGES)
        self._conditions: Lru[tuple[tuple[Field, ...], str], Condition] = Lru(
            max_entries=_MAX_CONDITIONS, max_bytes=_MAX_BYTES
        )

    def rules(self, revision: Revision, choice: Choice, context: Context) -> Iterator[RuleTrace]:
        """What became of every rule, in order. Each is looked at when it is asked for: it may have to be compiled.

        :param choice: the planner's, of the same revision and context
        """
        language = self._languages.of(revision.routing.fields)
        bindings = language.bindings(context)
        matching, is_reached = None if choice.rule is None else choice.rule.uid, True
        for rule in revision.routing.rules:
            condition = language.condition(rule.condition)
            # Conditions stay compiled as long as somebody holds them.
            self._conditions.put((revision.routing.fields, rule.condition), condition, size_bytes=condition.size_bytes)
            message = ""
            if not rule.active:
                outcome = RuleOutcome.INACTIVE
            elif not is_reached:
                outcome = RuleOutcome.NOT_REACHED
            else:
                said = condition.evaluate(bindings)
                outcome, message = _OUTCOMES[said.truth], said.message
            yield RuleTrace(rule, outcome, message, condition.values_seen(bindings))
            is_reached = is_reached and rule.uid != matching


def candidates_of(revision: Revision, choice: Choice, key: str) -> tuple[Candidate, ...]:
    """The variants of the split that was picked, or of the revision where no rule was true, in their order: also those
    that take no part.

    :param choice: the planner's, of the same revision and key
    """
    taking_part = {variant.uid for variant, _ in choice.candidates}
    found = []
    for variant, weight in _offered(revision, choice):
        draw = assignment.uniform(revision.salt, "assign", variant.uid, key)
        score = assignment.score(weight, draw) if variant.uid in taking_part else 0.0
        found.append(Candidate(variant, weight, draw, score, propensity_of(revision, choice, variant)))
    return tuple(found)


def coverage_draw(revision: Revision, deployment: str, key: str) -> float:
    """The unit's number in (0, 1); it is covered if that is below the coverage.

    :param deployment: uid of the revision's
    """
    return assignment.uniform(revision.salt, "admit", deployment, key)


def propensity_of(revision: Revision, choice: Choice, variant: Variant) -> float:
    """As :func:`catalog.plan.propensity`, but for any variant: one that is not active serves nobody, though it be the
    baseline."""
    return plan.propensity(revision, choice, variant) if variant.active else 0.0


class Outlook(Value):
    """What a revision holds for all units whose context picks the same rule, or none."""

    rule: Rule | None
    propensities: Mapping[str, float]
    """Of each variant that can serve, by uid; what they lack of 1 is refused."""
    drawn: Revision
    """The revision with no rule, and that rule's split as its weights: it chooses the same, and asks nothing."""


def outlook(revision: Revision, choice: Choice) -> Outlook:
    """What the rule that a choice followed means for all keys.

    :param choice: the planner's, of the same revision and any key
    """
    propensities = {
        variant.uid: chance for variant in revision.variants if (chance := propensity_of(revision, choice, variant)) > 0
    }
    variants = [replace(variant, weight=weight) for variant, weight in choice.candidates]
    routing = revision.routing
    drawn = {variant.uid for variant in variants}
    variants += [
        replace(variant, weight=0.0)
        for variant in revision.variants
        if variant.uid == routing.baseline and variant.uid not in drawn
    ]
    without_rules = Routing(coverage=routing.coverage, baseline=routing.baseline)
    return Outlook(choice.rule, propensities, replace(revision, variants=tuple(variants), routing=without_rules))


def _offered(revision: Revision, choice: Choice) -> Iterator[tuple[Variant, float]]:
    if choice.rule is None:
        yield from ((variant, variant.weight) for variant in revision.variants)
        return
    by_uid = {variant.uid: variant for variant in revision.variants}
    yield from ((by_uid[share.variant], share.weight) for share in choice.rule.shares if share.variant in by_uid)
