from __future__ import annotations

from types import MappingProxyType

from hypothesis import given, settings

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
from kit.errors import NotFound
from services.router import convert
from services.router.domain import Population, Unit
from tests.catalog.plans import as_answered, in_view, revisions
from turnout.registry.v1 import catalog_pb2, revision_pb2
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


def test_a_batch_tells_failures_in_their_places() -> None:
    failed = NotFound("there is no such thing", reason="DEPLOYMENT_NOT_FOUND")
    found = convert.results_to_proto([decided(Completion("ver_1", 0, None)), failed])

    assert found.results[0].response == convert.decision_to_response(decided(Completion("ver_1", 0, None)))
    assert found.results[1].failure == pb.RouteFailure(reason="DEPLOYMENT_NOT_FOUND", message="there is no such thing")


def test_to_say_nothing_is_one_call_that_says_nothing() -> None:
    asker = {"tenant": "prj_1", "key_id": "key", "trace_id": "t", "deadline": 7.0}
    nothing = convert.experiment_from_proto(pb.SimulateRequest(deployment="a"), **asker)  # type: ignore[arg-type]
    assert (nothing.is_single, nothing.size, list(nothing.units)) == (True, 1, [Unit()])

    made_up = convert.experiment_from_proto(
        pb.SimulateRequest(deployment="a", population=pb.Population(size=3)),
        **asker,  # type: ignore[arg-type]
    )
    assert (made_up.is_single, made_up.size, list(made_up.units)) == (False, 3, [])
    assert made_up.population == Population(3, "unit-", ())

    call = pb.SimulatedCall(context_json="{}", routing_key="k", identity="i", thread="t", user="u", request_id="req_1")
    both = convert.experiment_from_proto(
        pb.SimulateRequest(
            deployment="a", calls=[call], population=pb.Population(size=3, prefix="p", contexts_json=["{}"])
        ),
        **asker,  # type: ignore[arg-type]
    )
    assert (both.is_single, both.size) == (False, 4)
    assert list(both.units) == [Unit("{}", "k", "i", "t", "u", "req_1")]
    assert both.population == Population(3, "p", ("{}",))


@settings(max_examples=100, deadline=None)
@given(made=revisions())
def test_a_revision_that_the_registry_answers_is_the_catalogs(made: catalog_pb2.CatalogRevision) -> None:
    assert convert.revision_from_proto(as_answered(made)) == in_view(made)


def test_of_a_recommender_that_the_registry_answers_its_model_is_known() -> None:
    answered = revision_pb2.Revision(uid="rev_1", number="1.0", salt="s")
    answered.variants.add(uid="var_1", slug="als", active=True, weight=1).recommendation.model = "mod_1"
    (found,) = convert.revision_from_proto(answered).variants
    assert found.serving == Recommendation("mod_1", UnknownUsers.POPULAR)
