"""Which variant serves a call: the decision, from the local view alone, with what is needed to repeat it exactly."""

from __future__ import annotations

from enum import StrEnum

from catalog import assignment
from catalog.targets import Target
from catalog.view import Variant
from kit.errors import Precondition
from kit.values import value


class Evaluation(StrEnum):
    """How a decision came about."""

    DEFAULT_MATCHED = "default_matched"


class KeyKind(StrEnum):
    """Which of the call's values was hashed."""

    ROUTING_KEY = "routing_key"
    IDENTITY = "identity"
    THREAD = "thread"
    USER = "user"
    REQUEST = "request"


@value
class Decision:
    """The variant that a call is assigned, how, and with which probability in (0, 1]."""

    target: Target
    variant: Variant
    evaluation: Evaluation
    propensity: float
    key_kind: KeyKind


def choose_key(
    *, request_id: str, routing_key: str = "", identity: str = "", thread: str = "", user: str = ""
) -> tuple[KeyKind, str]:
    """What the choice of variant sticks to: the first that the call gives, else its own id, which sticks to nothing."""
    if routing_key:
        return KeyKind.ROUTING_KEY, routing_key
    if identity:
        return KeyKind.IDENTITY, identity
    if thread:
        return KeyKind.THREAD, thread
    if user:
        return KeyKind.USER, user
    return KeyKind.REQUEST, request_id


def decide(target: Target, key_kind: KeyKind, key: str) -> Decision:
    """Assign a variant.

    :raises Precondition: `NO_ACTIVE_VARIANT` if no active variant has a positive weight
    """
    revision = target.revision
    eligible = [variant for variant in revision.variants if variant.active and variant.weight > 0]
    winner = assignment.assign(revision.salt, key, ((variant.uid, variant.weight) for variant in eligible))
    for variant in eligible:
        if variant.uid == winner:
            propensity = variant.weight / sum(each.weight for each in eligible)
            return Decision(target, variant, Evaluation.DEFAULT_MATCHED, propensity, key_kind)
    raise Precondition(
        f"the deployment {target.deployment.slug!r} has no active variant with a weight above 0; "
        "activate one or raise a weight",
        reason="NO_ACTIVE_VARIANT",
        resource=f"projects/{target.project.slug}/deployments/{target.deployment.slug}",
    )
