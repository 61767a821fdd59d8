from __future__ import annotations

from types import MappingProxyType

import pytest

from catalog.conditions import Field, FieldKind
from catalog.convert import DEPLOYMENT_KINDS_TO_PROTO, FIELD_KINDS, fill_decision, fill_undecided, routing_from_proto
from catalog.plan import Decision, Evaluation, KeyKind, Refusal
from catalog.routing import Routing, Rule, Share
from catalog.targets import Target
from catalog.view import Completion, Deployment, DeploymentKind, Project, Revision, Variant
from turnout.registry.v1 import routing_pb2
from turnout.router.v1 import decision_pb2

VARIANT = Variant("var_1", 1, "mild", "Mild", True, 25, Completion("ver_1", 0, None))
REVISION = Revision("rev_1", "2.3", "salt", (VARIANT,))
DEPLOYMENT = Deployment("dep_1", "prj_1", "agent", DeploymentKind.COMPLETION, MappingProxyType({}))
TARGET = Target(Project("prj_1", 1, "shop"), DEPLOYMENT, "beta", REVISION)
RULE = Rule("rul_1", "Spanish", "context.es", True, (Share("var_1", 25),))


def written(evaluation: Evaluation, key_kind: KeyKind) -> decision_pb2.Decision:
    proto = decision_pb2.Decision()
    fill_decision(proto, Decision(TARGET, VARIANT, evaluation, 0.25, key_kind, RULE, outside_coverage=True))
    return proto


def test_a_decision_is_told_in_every_field() -> None:
    told = written(Evaluation.DEFAULT_MATCHED, KeyKind.USER)
    assert {field.name for field, _ in told.ListFields()} == {field.name for field in told.DESCRIPTOR.fields}


def test_a_refusal_is_told_in_every_field_but_those_of_a_variant() -> None:
    refused, decided = decision_pb2.Decision(), written(Evaluation.MATCHED, KeyKind.USER)
    fill_undecided(refused, TARGET, Refusal(TARGET, Evaluation.MATCHED, KeyKind.USER, RULE, outside_coverage=True))
    for field in ("variant", "variant_slug", "propensity"):
        decided.ClearField(field)
    assert refused == decided


def test_of_what_was_not_decided_it_is_told_what_was_called() -> None:
    undecided = decision_pb2.Decision()
    fill_undecided(undecided, TARGET, None)
    assert undecided == decision_pb2.Decision(deployment="dep_1", alias="beta", revision="rev_1", revision_number="2.3")


@pytest.mark.parametrize("evaluation", Evaluation)
def test_every_evaluation_has_a_word_in_the_contract(evaluation: Evaluation) -> None:
    told = written(evaluation, KeyKind.USER).evaluation
    assert decision_pb2.Evaluation.Name(told) == f"EVALUATION_{evaluation.name}"


@pytest.mark.parametrize("kind", KeyKind)
def test_every_kind_of_key_has_a_word_in_the_contract(kind: KeyKind) -> None:
    told = written(Evaluation.DEFAULT_MATCHED, kind).key_kind
    assert decision_pb2.KeyKind.Name(told) == f"KEY_KIND_{kind.name}"


def test_routing_is_what_the_registry_says_and_a_variant_alone_is_a_split_of_it() -> None:
    proto = routing_pb2.Routing(
        fields=[routing_pb2.Field(name=kind.value, kind=number) for number, kind in FIELD_KINDS.items()],
        coverage=0.25,
        baseline="var_b",
    )
    proto.rules.add(uid="rul_1", display_name="One", condition="present.date", active=True, variant="var_1")
    shares = [routing_pb2.Share(variant="var_1", weight=1.5), routing_pb2.Share(variant="var_b", weight=0)]
    proto.rules.add(uid="rul_2", display_name="Two", condition="true", split=routing_pb2.Split(shares=shares))
    assert routing_from_proto(proto) == Routing(
        fields=tuple(Field(kind.value, kind) for kind in FieldKind),
        rules=(
            Rule("rul_1", "One", "present.date", True, (Share("var_1", 100.0),)),
            Rule("rul_2", "Two", "true", False, (Share("var_1", 1.5), Share("var_b", 0.0))),
        ),
        coverage=0.25,
        baseline="var_b",
    )
    assert routing_from_proto(routing_pb2.Routing()) == Routing()


def test_a_field_of_a_kind_that_is_not_known_yet_is_none() -> None:
    proto = routing_pb2.Routing(fields=[routing_pb2.Field(name="new", kind=99)])  # type: ignore[arg-type]  # as said
    assert routing_from_proto(proto).fields == ()


def test_every_kind_of_deployment_has_a_word_in_the_contract() -> None:
    assert set(DEPLOYMENT_KINDS_TO_PROTO) == set(DeploymentKind)
