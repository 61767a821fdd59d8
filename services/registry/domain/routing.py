"""How calls find their variants, as callers describe it: what is wrong with that, and what becomes of it. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from catalog.conditions import BadCondition, Field, Languages, faults_of, repetitions
from catalog.routing import WEIGHTS_ALONE, Routing, Rule, Share
from kit.errors import Violation
from services.registry.domain.access import all_violated, violated
from services.registry.domain.deployments import Variant

WHOLE: Final = 100.0
"""The weight of a share that was given none, and of a variant that is all of a rule's split."""
MAX_CONDITION_BYTES: Final = 16 << 10
"""Of all rules together: every service keeps them compiled, at about 90 bytes for each, and the first call waits until
they are."""
MAX_REPETITIONS: Final = 100
"""Of all rules together: each may take up to 0.4 ms of a call, if the caller brings the longest list."""
MAX_SHARES: Final = 2000
"""Of all rules together: they are in every deployment that is listed, and in the catalog."""
_MAX_NAMED: Final = 20
"""Variants that a refusal names."""


@dataclass(frozen=True, slots=True)
class RuleDraft:
    """A rule to be made, or one that stays."""

    uid: str
    """Empty for a new one."""
    display_name: str
    """Empty for `Rule n`."""
    condition: str
    active: bool
    shares: tuple[Share, ...]
    """With slugs or uids."""
    is_split: bool
    """Whether its shares were given as a split; else there is one, of the only variant."""

    def share_field(self, index: int) -> str:
        """Path of a share's variant, from the rule's."""
        return f"split.shares[{index}].variant" if self.is_split else "variant"


@dataclass(frozen=True, slots=True)
class RoutingDraft:
    """A routing to be made."""

    fields: tuple[Field, ...] = ()
    rules: tuple[RuleDraft, ...] = ()
    coverage: float = 1.0
    baseline: str = ""
    """Slug or uid; empty for none."""


def check_routing(draft: RoutingDraft, *, field: str) -> None:
    """Refuse what is wrong whatever the deployment's variants and rules are. Takes up to some 100 ms for many long
    conditions.

    :param field: path of the routing in the request, for violations
    :raises Invalid: `FIELD_INVALID`, `WEIGHT_INVALID`, `COVERAGE_INVALID`, `BASELINE_REQUIRED`, `RULE_DUPLICATE`,
        `ROUTING_TOO_LARGE`, `CONDITION_INVALID`
    """
    if faults := faults_of(draft.fields):
        wrong = [Violation(f"{field}.fields[{place}].name", message) for place, message in faults]
        raise all_violated("FIELD_INVALID", wrong)
    if wrong := list(_bad_weights(draft, field)):
        raise all_violated("WEIGHT_INVALID", wrong)
    if not 0 <= draft.coverage <= 1:
        raise violated("COVERAGE_INVALID", f"{field}.coverage", "must be a number from 0 to 1")
    if draft.coverage < 1 and not draft.baseline:
        raise violated("BASELINE_REQUIRED", f"{field}.baseline", "is required where coverage is below 1")
    if wrong := list(_repeated_rules(draft, field)):
        raise all_violated("RULE_DUPLICATE", wrong)
    _check_size(draft, field)
    if wrong := list(_bad_conditions(draft, field)):
        raise all_violated("CONDITION_INVALID", wrong)
    if (count := sum(repetitions(rule.condition) for rule in draft.rules)) > MAX_REPETITIONS:
        said = f"must use all, exists, exists_one and matches at most {MAX_REPETITIONS} times together"
        message = f"{said}, do so {count} times"
        raise violated("ROUTING_TOO_LARGE", f"{field}.rules", message)


def routing_of(
    draft: RoutingDraft, variants: Sequence[Variant], former: Routing, new_uid: Callable[[str], str], *, field: str
) -> Routing:
    """A checked draft among the variants and after the rules of a revision.

    :param variants: those that can be named
    :param former: whose rules can stay
    :param field: path of the routing in the request, for violations
    :raises Invalid: `VARIANT_NOT_FOUND`, `SHARE_DUPLICATE`, `RULE_NOT_FOUND`
    """
    uids = {segment: variant.uid for variant in variants for segment in (variant.slug, variant.uid)}
    _check_variants(draft, uids, variants, field)
    if wrong := list(_repeated_shares(draft, uids, field)):
        raise all_violated("SHARE_DUPLICATE", wrong)
    known = {rule.uid for rule in former.rules}
    strange = [
        Violation(f"{field}.rules[{index}].uid", "is of no rule of the revision that is changed; leave it empty")
        for index, rule in enumerate(draft.rules)
        if rule.uid and rule.uid not in known
    ]
    if strange:
        raise all_violated("RULE_NOT_FOUND", strange)
    rules = tuple(
        Rule(
            uid=rule.uid or new_uid("rul"),
            display_name=rule.display_name or f"Rule {number}",
            condition=rule.condition,
            active=rule.active,
            shares=tuple(Share(uids[share.variant], share.weight) for share in rule.shares),
        )
        for number, rule in enumerate(draft.rules, start=1)
    )
    return Routing(draft.fields, rules, draft.coverage, uids.get(draft.baseline, ""))


def only_variant(rule: Rule) -> str | None:
    """What a rule names alone: the uid of the variant that is all of its destination; None for a split."""
    return rule.shares[0].variant if len(rule.shares) == 1 and rule.shares[0].weight == WHOLE else None


def users_of(routing: Routing, variant: str) -> list[str]:
    """What of a routing sends calls to the variant with this uid, in words."""
    users = [
        f"the rule {rule.display_name!r}"
        for rule in routing.rules
        if any(share.variant == variant for share in rule.shares)
    ]
    return [*users, "the baseline"] if routing.baseline == variant else users


def in_words(users: Sequence[str], limit: int = 5) -> str:
    """The first of them, and how many more there are."""
    shown, more = list(users[:limit]), len(users) - limit
    if more > 0:
        shown.append(f"{more} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _bad_weights(draft: RoutingDraft, field: str) -> Iterator[Violation]:
    for number, rule in enumerate(draft.rules):
        for index, share in enumerate(rule.shares):
            if not (math.isfinite(share.weight) and 0 <= share.weight <= 100):
                path = f"{field}.rules[{number}].split.shares[{index}].weight"
                yield Violation(path, "must be a number from 0 to 100")


def _repeated_rules(draft: RoutingDraft, field: str) -> Iterator[Violation]:
    seen: set[str] = set()
    for index, rule in enumerate(draft.rules):
        if rule.uid and rule.uid in seen:
            yield Violation(f"{field}.rules[{index}].uid", "is another rule's too; leave it empty for a new rule")
        seen.add(rule.uid)


def _repeated_shares(draft: RoutingDraft, uids: dict[str, str], field: str) -> Iterator[Violation]:
    for number, rule in enumerate(draft.rules):
        seen: set[str] = set()
        for index, share in enumerate(rule.shares):
            uid = uids[share.variant]
            if uid in seen:
                path = f"{field}.rules[{number}].{rule.share_field(index)}"
                yield Violation(path, f"names {share.variant!r}, which the split has already; add the weights")
            seen.add(uid)


def _check_size(draft: RoutingDraft, field: str) -> None:
    size = sum(len(rule.condition.encode(errors="replace")) for rule in draft.rules)
    if size > MAX_CONDITION_BYTES:
        raise violated(
            "ROUTING_TOO_LARGE",
            f"{field}.rules",
            f"must hold at most {MAX_CONDITION_BYTES} bytes of conditions together, hold {size}",
        )
    count = sum(len(rule.shares) for rule in draft.rules)
    if count > MAX_SHARES:
        message = f"must hold at most {MAX_SHARES} shares together, hold {count}"
        raise violated("ROUTING_TOO_LARGE", f"{field}.rules", message)


def _bad_conditions(draft: RoutingDraft, field: str) -> Iterator[Violation]:
    language = Languages().of(draft.fields)
    good: set[str] = set()
    for index, rule in enumerate(draft.rules):
        if rule.condition in good:
            continue
        try:
            language.check(rule.condition)
        except BadCondition as bad:
            message = f"line {bad.line}, column {bad.column}: {bad.message}"
            yield Violation(f"{field}.rules[{index}].condition", message)
        else:
            good.add(rule.condition)


def _check_variants(draft: RoutingDraft, uids: dict[str, str], variants: Sequence[Variant], field: str) -> None:
    named = [
        (f"{field}.rules[{number}].{rule.share_field(index)}", share.variant)
        for number, rule in enumerate(draft.rules)
        for index, share in enumerate(rule.shares)
    ]
    if draft.baseline:
        named.append((f"{field}.baseline", draft.baseline))
    slugs = [variant.slug for variant in variants]
    there = f"there are {in_words(slugs, _MAX_NAMED)}" if len(slugs) > 1 else f"there is {(slugs or ['none'])[0]}"
    wrong = [
        Violation(path, f"names {segment!r}, which is none of the deployment's variants; {there}")
        for path, segment in named
        if segment not in uids
    ]
    if wrong:
        raise all_violated("VARIANT_NOT_FOUND", wrong)


NO_ROUTING: Final = RoutingDraft()
"""What takes rules and coverage away."""

__all__ = [
    "NO_ROUTING",
    "WEIGHTS_ALONE",
    "WHOLE",
    "Routing",
    "RoutingDraft",
    "Rule",
    "RuleDraft",
    "Share",
    "check_routing",
    "in_words",
    "only_variant",
    "routing_of",
    "users_of",
]
