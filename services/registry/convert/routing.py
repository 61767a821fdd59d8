"""How calls find their variants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from catalog.conditions import Field
from catalog.convert import FIELD_KINDS, routing_from_proto
from services.registry.domain import (
    WEIGHTS_ALONE,
    WHOLE,
    Revision,
    Routing,
    RoutingDraft,
    Rule,
    RuleDraft,
    Share,
    only_variant,
)
from turnout.registry.v1 import routing_pb2 as pb

_FIELD_KINDS_TO_PROTO: Final = {kind: number for number, kind in FIELD_KINDS.items()}


def routing_draft(routing: pb.Routing) -> RoutingDraft:
    """What a caller gives."""
    return RoutingDraft(
        fields=tuple(Field(field.name, FIELD_KINDS[field.kind]) for field in routing.fields),
        rules=tuple(map(_rule_draft, routing.rules)),
        coverage=routing.coverage if routing.HasField("coverage") else 1.0,
        baseline=routing.baseline,
    )


def _rule_draft(rule: pb.Rule) -> RuleDraft:
    shares = (
        tuple(Share(share.variant, share.weight if share.HasField("weight") else WHOLE) for share in rule.split.shares)
        if rule.HasField("split")
        else (Share(rule.variant, WHOLE),)
    )
    return RuleDraft(
        uid=rule.uid,
        display_name=rule.display_name,
        condition=rule.condition,
        active=rule.active if rule.HasField("active") else True,
        shares=shares,
        is_split=rule.HasField("split"),
    )


def routing_to_proto(revision: Revision) -> pb.Routing | None:
    """As callers see it, by slugs; None where the weights decide alone."""
    slugs = {variant.uid: variant.slug for variant in revision.variants}
    return None if revision.routing == WEIGHTS_ALONE else _to_proto(revision.routing, slugs.__getitem__)


def routing_to_catalog(routing: Routing) -> pb.Routing | None:
    """As services see it, by uids, with nothing left to defaults; None where the weights decide alone."""
    return None if routing == WEIGHTS_ALONE else _to_proto(routing, str)


def pack_routing(routing: Routing) -> bytes | None:
    """As the store keeps it."""
    proto = routing_to_catalog(routing)
    return None if proto is None else proto.SerializeToString(deterministic=True)


def unpack_routing(packed: bytes | None) -> Routing:
    """The inverse of :func:`pack_routing`."""
    return WEIGHTS_ALONE if packed is None else routing_from_proto(pb.Routing.FromString(packed))


def _to_proto(routing: Routing, name_of: Callable[[str], str]) -> pb.Routing:
    return pb.Routing(
        fields=[pb.Field(name=field.name, kind=_FIELD_KINDS_TO_PROTO[field.kind]) for field in routing.fields],
        rules=[_rule(rule, name_of) for rule in routing.rules],
        coverage=routing.coverage,
        baseline=name_of(routing.baseline) if routing.baseline else "",
    )


def _rule(rule: Rule, name_of: Callable[[str], str]) -> pb.Rule:
    proto = pb.Rule(uid=rule.uid, display_name=rule.display_name, condition=rule.condition, active=rule.active)
    if (variant := only_variant(rule)) is not None:
        proto.variant = name_of(variant)
    else:
        shares = [pb.Share(variant=name_of(share.variant), weight=share.weight) for share in rule.shares]
        proto.split.CopyFrom(pb.Split(shares=shares))
    return proto
