"""Decisions to the contract. Pure."""

from __future__ import annotations

from catalog.convert import fill_decision
from catalog.plan import Decision
from catalog.view import Completion
from turnout.router.v1 import routing_service_pb2 as pb


def decision_to_response(decision: Decision) -> pb.RouteResponse:
    """A decision, and what its variant runs."""
    target, variant = decision.target, decision.variant
    response = pb.RouteResponse(
        variant=f"projects/{target.project.slug}/deployments/{target.deployment.slug}/variants/{variant.slug}",
        variant_display_name=variant.display_name,
    )
    fill_decision(response.decision, decision)
    if isinstance(variant.serving, Completion):
        response.version = variant.serving.version
    else:
        response.model = variant.serving.model
    return response
