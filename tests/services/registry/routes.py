"""A routing as callers write it."""

from __future__ import annotations

from typing import Any

from turnout.registry.v1 import deployment_pb2
from turnout.registry.v1 import deployment_service_pb2 as pb
from turnout.registry.v1 import routing_pb2 as routing

SPAIN = 'context.country in ["ES", "MX"]'


def story() -> routing.Routing:
    """Spanish calls to one of two variants, all others as the weights say, a tenth at the baseline."""
    made = routing.Routing(coverage=0.9, baseline="variant-1")
    made.fields.add(name="country", kind=routing.FIELD_KIND_STRING)
    spanish = made.rules.add(display_name="Spanish", condition=SPAIN)
    spanish.split.shares.add(variant="variant-2", weight=30)
    spanish.split.shares.add(variant="variant-3")
    made.rules.add(condition="!present.country", variant="variant-1", active=False)
    return made


def update(made: Any, wanted: routing.Routing | None, **fields: Any) -> pb.UpdateDeploymentRequest:
    """The request for that routing; for None, to take it away."""
    request = pb.UpdateDeploymentRequest(deployment=deployment_pb2.Deployment(name=made.name, routing=wanted), **fields)
    request.update_mask.paths.append("routing")
    return request


def violations(failure: Any) -> list[str]:
    """The paths of what is wrong."""
    return [each.field for each in failure.violations]
