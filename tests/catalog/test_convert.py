from __future__ import annotations

from types import MappingProxyType

import pytest

from catalog.convert import DEPLOYMENT_KINDS_TO_PROTO, fill_decision
from catalog.plan import Decision, Evaluation, KeyKind
from catalog.targets import Target
from catalog.view import Completion, Deployment, DeploymentKind, Project, Revision, Variant
from turnout.router.v1 import decision_pb2


def written(evaluation: Evaluation, key_kind: KeyKind) -> decision_pb2.Decision:
    variant = Variant("var_1", 1, "mild", "Mild", True, 25, Completion("ver_1", 0, None))
    revision = Revision("rev_1", "2.3", "salt", (variant,))
    deployment = Deployment("dep_1", "prj_1", "agent", DeploymentKind.COMPLETION, MappingProxyType({}))
    target = Target(Project("prj_1", 1, "shop"), deployment, "beta", revision)
    proto = decision_pb2.Decision()
    fill_decision(proto, Decision(target, variant, evaluation, 0.25, key_kind))
    return proto


def test_a_decision_is_told_in_every_field() -> None:
    told = written(Evaluation.DEFAULT_MATCHED, KeyKind.USER)
    assert {field.name for field, _ in told.ListFields()} == {field.name for field in told.DESCRIPTOR.fields}


@pytest.mark.parametrize("evaluation", Evaluation)
def test_every_evaluation_has_a_word_in_the_contract(evaluation: Evaluation) -> None:
    told = written(evaluation, KeyKind.USER).evaluation
    assert decision_pb2.Evaluation.Name(told) == f"EVALUATION_{evaluation.name}"


@pytest.mark.parametrize("kind", KeyKind)
def test_every_kind_of_key_has_a_word_in_the_contract(kind: KeyKind) -> None:
    told = written(Evaluation.DEFAULT_MATCHED, kind).key_kind
    assert decision_pb2.KeyKind.Name(told) == f"KEY_KIND_{kind.name}"


def test_every_kind_of_deployment_has_a_word_in_the_contract() -> None:
    assert set(DEPLOYMENT_KINDS_TO_PROTO) == set(DeploymentKind)
