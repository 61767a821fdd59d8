"""What is legal but does not serve, or may surprise. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from catalog.routing import Routing, Rule
from services.registry.domain.deployments import LIVE, Deployment, Revision
from services.registry.domain.routing import in_words


def warnings(revision: Revision) -> tuple[str, ...]:
    """States that are legal but do not serve."""
    if not revision.variants:
        return ("there is no variant: calls fail with NO_ACTIVE_VARIANT",)
    active = {variant.uid for variant in revision.variants if variant.active}
    if not active:
        return ("no variant is active: calls fail with NO_ACTIVE_VARIANT",)
    weighted = {variant.uid for variant in revision.variants if variant.active and variant.weight > 0}
    return tuple(_warnings(revision.routing, active, has_weights=bool(weighted)))


def _warnings(routing: Routing, active: set[str], *, has_weights: bool) -> Iterator[str]:
    """:param active: uids of variants"""
    if routing.coverage < 1 and routing.baseline not in active:
        yield "the baseline is not active: calls outside coverage fail with NO_ACTIVE_VARIANT"
    if routing.coverage <= 0:
        yield "coverage is 0: all calls get the baseline"
        return
    asked = [rule for rule in routing.rules if rule.active]
    always = next((place for place, rule in enumerate(asked) if rule.condition.strip() == "true"), len(asked))
    if hidden := asked[always + 1 :]:
        yield f"{_named(hidden)} never asked: the rule {asked[always].display_name!r} before matches every call"
    if dead := [rule for rule in asked[: always + 1] if not _serves(rule, active)]:
        yield (
            f"{_named(dead)} without an active variant that has a weight: calls that match fail with NO_ACTIVE_VARIANT"
        )
    if not has_weights and always == len(asked):
        whose = "calls that no rule matches" if asked else "calls"
        yield f"the weights of all active variants are 0: {whose} fail with NO_ACTIVE_VARIANT"


def _serves(rule: Rule, active: set[str]) -> bool:
    return any(share.weight > 0 and share.variant in active for share in rule.shares)


def _named(rules: Sequence[Rule]) -> str:
    names = [repr(rule.display_name) for rule in rules]
    return f"the rule {names[0]} is" if len(names) == 1 else f"the rules {in_words(names)} are"


def standing_warnings(deployment: Deployment, alias: str = "") -> tuple[str, ...]:
    """The same of what aliases point to, each named but for `live`.

    :param alias: the only one to speak of; empty for all
    """
    return tuple(
        sentence if each.alias == LIVE else f"{each.alias}: {sentence}"
        for each in deployment.aliases
        if alias in ("", each.alias)
        for sentence in warnings(deployment.revision(each.revision))
    )
