from __future__ import annotations

from types import MappingProxyType

from catalog.plan import Decision, Evaluation, KeyKind
from catalog.targets import Target
from catalog.view import (
    Completion,
    Deployment,
    DeploymentKind,
    Project,
    Recommendation,
    Revision,
    Serving,
    UnknownUsers,
    Variant,
)
from services.router import convert
from turnout.router.v1 import decision_pb2
from turnout.router.v1 import routing_service_pb2 as pb


def decided(serving: Serving) -> Decision:
    variant = Variant("var_1", 1, "mild", "Mild", True, 25, serving)
    revision = Revision("rev_1", "2.3", "salt", (variant,))
    deployment = Deployment("dep_1", "prj_1", "agent", DeploymentKind.COMPLETION, MappingProxyType({}))
    target = Target(Project("prj_1", 1, "shop"), deployment, "beta", revision)
    return Decision(target, variant, Evaluation.DEFAULT_MATCHED, 0.25, KeyKind.USER)


def test_a_decision_is_told_in_every_field() -> None:
    assert convert.decision_to_response(decided(Completion("ver_1", 0, None))) == pb.RouteResponse(
        decision=decision_pb2.Decision(
            deployment="dep_1",
            alias="beta",
            revision="rev_1",
            revision_number="2.3",
            variant="var_1",
            variant_slug="mild",
            evaluation=decision_pb2.EVALUATION_DEFAULT_MATCHED,
            propensity=0.25,
            key_kind=decision_pb2.KEY_KIND_USER,
        ),
        variant="projects/shop/deployments/agent/variants/mild",
        variant_display_name="Mild",
        version="ver_1",
    )


def test_a_recommender_is_told_by_its_model() -> None:
    response = convert.decision_to_response(decided(Recommendation("mod_1", UnknownUsers.POPULAR)))
    assert (response.WhichOneof("serving"), response.model) == ("model", "mod_1")
