"""Calls that are assigned no variant: what is kept of them, so that they are found, and can be repeated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from catalog.plan import Evaluation, KeyKind
from catalog.routing import Routing, Rule, Share
from catalog.view import Deployment, DeploymentKind
from kit import values
from kit.errors import AppError, Precondition
from services.executor.convert.events import start_to_proto
from services.executor.domain import Reason, Run
from tests.services.executor.house import ANSWER, FLAKY, House, Views
from tests.services.executor.test_application_rules import RULES, house_of, with_changed
from turnout.events.v1 import request_pb2
from turnout.router.v1 import decision_pb2

NOBODY = Rule("rul_es", "Spanish", 'context.country == "ES"', True, (Share("var_2", 0),))
SPANISH: dict[str, Any] = {"context_json": '{"country":"ES"}', "routing_key": "ada", "thread": "t"}
CALLED: dict[str, Any] = {"deployment": "dep_1", "alias": "live", "revision": "rev_1", "revision_number": "1.0"}


async def failed(house: House, **fields: Any) -> Run:
    with pytest.raises(AppError):
        await house.run(**fields)
    return house.recorded


def event_of(run: Run) -> request_pb2.RequestServed:
    return start_to_proto(run, service_instance="i")


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_of_a_call_that_nothing_could_serve_all_is_kept_but_a_variant(is_streamed: bool) -> None:
    house = house_of(replace(RULES, rules=(NOBODY,)))
    with pytest.raises(Precondition) as refused:
        await (house.stream(**SPANISH) if is_streamed else house.run(**SPANISH))

    assert refused.value.reason == "NO_ACTIVE_VARIANT"
    run = house.recorded
    assert run.decision is None
    assert run.refusal is not None
    assert (run.refusal.rule, run.refusal.evaluation, run.refusal.key_kind) == (
        NOBODY,
        Evaluation.MATCHED,
        KeyKind.ROUTING_KEY,
    )
    event = event_of(run)
    assert event.decision == decision_pb2.Decision(
        **CALLED,
        evaluation=decision_pb2.EVALUATION_MATCHED,
        key_kind=decision_pb2.KEY_KIND_ROUTING_KEY,
        rule="rul_es",
        rule_name="Spanish",
    )
    assert (event.context_json, event.routing_key, event.thread) == ('{"country":"ES"}', "ada", "t")
    assert event.served_variant == ""


async def test_a_baseline_that_is_not_active_refuses_those_outside_coverage() -> None:
    event = event_of(await failed(house_of(Routing(coverage=0.0, baseline="var_gone")), **SPANISH))

    assert event.decision == decision_pb2.Decision(
        **CALLED,
        evaluation=decision_pb2.EVALUATION_DEFAULT_MATCHED,
        key_kind=decision_pb2.KEY_KIND_ROUTING_KEY,
        outside_coverage=True,
    )
    # No rule asks about it.
    assert event.context_json == ""


@pytest.mark.parametrize(
    "fields",
    [
        {"variables_json": "{"},
        {"context_json": '{"country":"ES"'},
        {"context_json": "[" * 100_000},
        {"metadata_json": "[1]"},
    ],
)
async def test_of_a_call_that_failed_before_it_was_decided_it_is_kept_what_it_called(fields: dict[str, Any]) -> None:
    event = event_of(await failed(house_of(RULES), **({"context_json": "{}"} | fields)))
    assert event.decision == decision_pb2.Decision(**CALLED)
    assert event.context_json == ""


async def test_a_deployment_of_another_kind_decides_nothing() -> None:
    house = house_of(RULES)
    views = house.executor.catalog
    assert isinstance(views, Views)
    deployment = views.view.things["deployment/dep_1"]
    assert isinstance(deployment, Deployment)
    views.view = with_changed(views.view, replace(deployment, kind=DeploymentKind.RECOMMENDATION))

    run = await failed(house)

    assert run.reason == "DEPLOYMENT_KIND_MISMATCH"
    assert event_of(run).decision == decision_pb2.Decision(**CALLED)


async def test_a_call_that_fails_after_its_decision_keeps_all_of_it() -> None:
    run = await failed(House(values.replace(FLAKY, reason=Reason.ERROR, is_retryable=False)))
    assert (run.refusal, event_of(run).decision.variant, event_of(run).decision.propensity) == (None, "var_1", 1.0)


async def test_a_completion_without_a_deployment_has_no_decision() -> None:
    house = House(ANSWER)
    run = await house.run()
    run.target, run.decision = None, None
    assert not event_of(run).HasField("decision")
