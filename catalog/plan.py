"""Which variant serves a call: the decision, from the local view alone, with what is needed to repeat it exactly."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from opentelemetry.trace import SpanKind

from catalog import assignment
from catalog.routing import Rule
from catalog.rules import Compiler, Context
from catalog.targets import Target
from catalog.view import Revision, Variant, shares_of
from kit.errors import Precondition
from kit.telemetry import Tracing
from kit.values import Value

NO_CONTEXT: Final[Context] = {}


class Evaluation(StrEnum):
    """How a decision came about."""

    MATCHED = "matched"
    """A rule's condition was true."""
    DEFAULT_MATCHED = "default_matched"
    """None was, so the variants' own weights decided."""


class KeyKind(StrEnum):
    """Which of the call's values was hashed."""

    ROUTING_KEY = "routing_key"
    IDENTITY = "identity"
    THREAD = "thread"
    USER = "user"
    REQUEST = "request"


class Decision(Value):
    """The variant that a call is assigned, how, and with which probability in (0, 1]."""

    target: Target
    variant: Variant
    evaluation: Evaluation
    propensity: float
    key_kind: KeyKind
    rule: Rule | None = None
    """The one that matched."""
    outside_coverage: bool = False
    """Whether the baseline was assigned because the unit is outside coverage."""


class Refusal(Value):
    """What was decided of a call that nothing could serve."""

    target: Target
    evaluation: Evaluation
    key_kind: KeyKind
    rule: Rule | None
    """The one that matched."""
    outside_coverage: bool
    """Whether it was the baseline that is not active."""


class NothingActive(Precondition):
    """No variant that the call could be assigned is active: `NO_ACTIVE_VARIANT`."""

    def __init__(self, message: str, resource: str, refusal: Refusal) -> None:
        super().__init__(message, reason="NO_ACTIVE_VARIANT", resource=resource)
        self.refusal = refusal
        if refusal.rule is not None:
            self.metadata["rule"] = refusal.rule.uid


class Choice(Value):
    """What a revision says of a unit."""

    rule: Rule | None
    """The one that matched."""
    candidates: Sequence[tuple[Variant, float]]
    """Those that take part in the draw, with their weights: active, and above 0."""
    outside_coverage: bool
    variant: Variant | None
    """None if nothing that could serve is active."""

    @property
    def evaluation(self) -> Evaluation:
        """How it came about."""
        return Evaluation.DEFAULT_MATCHED if self.rule is None else Evaluation.MATCHED


class Planner:
    """Decides calls by revisions' rules, coverage and weights. For one event loop.

    :param tracing: for a span of each decision in a sampled call; None for none
    :param compiler: keeps rules compiled; several planners may share one
    """

    def __init__(self, tracing: Tracing | None = None, compiler: Compiler | None = None) -> None:
        self._tracing = tracing
        self._compiler = compiler or Compiler()

    async def decide(self, target: Target, key_kind: KeyKind, key: str, context: Context = NO_CONTEXT) -> Decision:
        """Assign a variant. Others go on meanwhile where the rules must be compiled, or take long.

        :param context: as `catalog.conditions.read_context` reads it
        :raises Invalid: `ROUTING_KEY_NOT_TEXT`
        :raises NothingActive: `NO_ACTIVE_VARIANT`
        """
        if self._tracing is None or not self._tracing.is_sampled:
            # Most have no rules: then there is nobody to wait for.
            rule = await self.match(target, context) if target.revision.routing.rules else None
            return decide(target, key_kind, key, rule)
        with self._tracing.span(f"route {target.deployment.slug}", SpanKind.INTERNAL, {}) as span:
            try:
                decision = decide(target, key_kind, key, await self.match(target, context))
            except NothingActive as nothing:
                span.set_attributes(told(target, nothing.refusal))
                raise
            span.set_attributes(told(target, decision))
            return decision

    async def match(self, target: Target, context: Context) -> Rule | None:
        """The target's first rule that is true of a context."""
        return await self._compiler.match(target.project.uid, target.revision, context)


def decide(target: Target, key_kind: KeyKind, key: str, rule: Rule | None = None) -> Decision:
    """Assign a variant.

    :param rule: the one that matches the call's context; None if none does
    :raises Invalid: `ROUTING_KEY_NOT_TEXT`
    :raises NothingActive: `NO_ACTIVE_VARIANT`
    """
    choice = choose(target.revision, target.deployment.uid, key, rule)
    if choice.variant is None:
        raise _nothing_active(target, key_kind, choice)
    return Decision(
        target=target,
        variant=choice.variant,
        evaluation=choice.evaluation,
        propensity=propensity(target.revision, choice, choice.variant),
        key_kind=key_kind,
        rule=rule,
        outside_coverage=choice.outside_coverage,
    )


def choose(revision: Revision, deployment: str, key: str, rule: Rule | None) -> Choice:
    """What a revision says of the unit with this key.

    :param deployment: uid of the revision's
    :param rule: the one that matches the call's context; None if none does
    :raises Invalid: `ROUTING_KEY_NOT_TEXT`
    """
    routing = revision.routing
    candidates = revision.candidates if rule is None else split_of(rule, revision)
    if not assignment.is_covered(revision.salt, deployment, key, routing.coverage):
        return Choice(rule, candidates, True, _active(revision, routing.baseline))
    winner = assignment.assign(revision.salt, key, [(variant.uid, weight) for variant, weight in candidates])
    for variant, _ in candidates:
        if variant.uid == winner:
            return Choice(rule, candidates, False, variant)
    return Choice(rule, candidates, False, None)


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


def split_of(rule: Rule, revision: Revision) -> list[tuple[Variant, float]]:
    """The variants of a rule's split that take part, with their weights there."""
    by_uid = {variant.uid: variant for variant in revision.variants if variant.active}
    return [
        (by_uid[share.variant], share.weight) for share in rule.shares if share.weight > 0 and share.variant in by_uid
    ]


def propensity(revision: Revision, choice: Choice, variant: Variant) -> float:
    """The probability with which a random key that meets the same candidates is assigned `variant`.

    p(v) = a·w(v)/Σw + (1 − a)·[v is the baseline], a = coverage.
    """
    routing = revision.routing
    shares = revision.shares if choice.rule is None else shares_of(choice.candidates)
    covered = shares.get(variant.uid, 0.0)
    if routing.coverage >= 1:
        return covered
    return routing.coverage * covered + (1 - routing.coverage) * (variant.uid == routing.baseline)


def _active(revision: Revision, uid: str) -> Variant | None:
    return next((variant for variant in revision.variants if variant.uid == uid and variant.active), None)


def told(target: Target, found: Decision | Refusal | None) -> dict[str, str | float | bool]:
    """A decision in a span, by OpenTelemetry's conventions for feature flags. Without the key, which may be a person's.

    https://opentelemetry.io/docs/specs/semconv/feature-flags/feature-flags-events/

    :param found: None if the call failed before it was decided
    """
    told: dict[str, str | float | bool] = {
        "feature_flag.key": target.deployment.slug,
        "feature_flag.provider.name": "turnout",
        "feature_flag.set.id": target.revision.uid,
        "feature_flag.version": target.revision.number,
        "turnout.alias": target.alias,
    }
    if found is None:
        return told
    told["turnout.evaluation"] = found.evaluation.value
    if found.rule is not None:
        told["turnout.rule"] = found.rule.uid
    if isinstance(found, Decision):
        told["feature_flag.result.variant"] = found.variant.slug
        told["turnout.propensity"] = found.propensity
        by_weight = "split" if found.rule is None else "targeting_match"
        told["feature_flag.result.reason"] = "default" if found.outside_coverage else by_weight
    else:
        # That of a flag whose evaluation fails; which failure it was, the span's `error.type` says.
        told["feature_flag.result.reason"] = "error"
    return told


def _nothing_active(target: Target, key_kind: KeyKind, choice: Choice) -> NothingActive:
    slug = target.deployment.slug
    resource = f"projects/{target.project.slug}/deployments/{slug}"
    if choice.outside_coverage:
        message = f"the baseline of the deployment {slug!r} is not active; activate it or name another"
    elif choice.rule is not None:
        message = (
            f"the rule {choice.rule.display_name!r} of the deployment {slug!r} has no active variant with a weight "
            "above 0; activate one, raise a weight there, or switch the rule off"
        )
    else:
        message = f"the deployment {slug!r} has no active variant with a weight above 0; activate one or raise a weight"
    refusal = Refusal(target, choice.evaluation, key_kind, choice.rule, choice.outside_coverage)
    return NothingActive(message, resource, refusal)
