"""Decisions to the contract. Pure."""

from __future__ import annotations

from typing import Final

from catalog.plan import Decision, Evaluation, KeyKind
from catalog.view import Completion
from turnout.router.v1 import decision_pb2
from turnout.router.v1 import routing_service_pb2 as pb

EVALUATIONS: Final = {Evaluation.DEFAULT_MATCHED: decision_pb2.EVALUATION_DEFAULT_MATCHED}
KEY_KINDS: Final = {
    KeyKind.ROUTING_KEY: decision_pb2.KEY_KIND_ROUTING_KEY,
    KeyKind.IDENTITY: decision_pb2.KEY_KIND_IDENTITY,
    KeyKind.THREAD: decision_pb2.KEY_KIND_THREAD,
    KeyKind.USER: decision_pb2.KEY_KIND_USER,
    KeyKind.REQUEST: decision_pb2.KEY_KIND_REQUEST,
}


def decision_to_response(decision: Decision) -> pb.RouteResponse:
    """A decision, and what its variant runs."""
    target, variant = decision.target, decision.variant
    response = pb.RouteResponse(
        decision=decision_pb2.Decision(
            deployment=target.deployment.uid,
            alias=target.alias,
            revision=target.revision.uid,
            revision_number=target.revision.number,
            variant=variant.uid,
            variant_slug=variant.slug,
            evaluation=EVALUATIONS[decision.evaluation],
            propensity=decision.propensity,
            key_kind=KEY_KINDS[decision.key_kind],
        ),
        variant=f"projects/{target.project.slug}/deployments/{target.deployment.slug}/variants/{variant.slug}",
        variant_display_name=variant.display_name,
    )
    if isinstance(variant.serving, Completion):
        response.version = variant.serving.version
    else:
        response.model = variant.serving.model
    return response
