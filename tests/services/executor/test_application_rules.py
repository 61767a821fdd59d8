"""Calls that rules send somewhere: what the context decides, what is refused, and what is kept to repeat it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from catalog.conditions import Field, FieldKind
from catalog.plan import Evaluation, Planner
from catalog.routing import Routing, Rule, Share
from catalog.rules import Context
from catalog.targets import Target
from catalog.view import Deployment, View
from kit.errors import Invalid, Precondition
from kit.telemetry import Tracing
from services.executor.convert.events import start_to_proto
from services.executor.domain import Status
from tests.served import under
from tests.services.executor.house import House, Views

SPANISH = Rule("rul_es", "Spanish", 'context.country in ["ES", "MX"]', True, (Share("var_2", 100),))


def house_of(routing: Routing, **fields: Any) -> House:
    """A deployment whose second variant has no weight of its own."""
    house = House(**fields)
    views = house.executor.catalog
    assert isinstance(views, Views)
    deployment = views.view.things["deployment/dep_1"]
    assert isinstance(deployment, Deployment)
    live = deployment.aliases["live"]
    second = replace(live.variants[0], uid="var_2", slug="v2", weight=0.0)
    revision = replace(live, variants=(*live.variants, second), routing=routing)
    views.view = with_changed(views.view, replace(deployment, aliases={"live": revision}))
    return house


def with_changed(view: View, deployment: Deployment) -> View:
    return view.with_changes(2, [("deployment/dep_1", deployment)])


RULES = Routing((Field("country", FieldKind.STRING),), (SPANISH,))


@pytest.mark.parametrize(
    ("context", "variant", "evaluation"),
    [
        ('{"country":"ES"}', "var_2", Evaluation.MATCHED),
        ('{"country":["MX"]}', "var_2", Evaluation.MATCHED),
        ('{"country":"FR"}', "var_1", Evaluation.DEFAULT_MATCHED),
        ('{"country":{}}', "var_1", Evaluation.DEFAULT_MATCHED),
        ("{}", "var_1", Evaluation.DEFAULT_MATCHED),
        ("", "var_1", Evaluation.DEFAULT_MATCHED),
    ],
)
async def test_the_context_decides(context: str, variant: str, evaluation: Evaluation) -> None:
    house = house_of(RULES)
    run = await house.run(context_json=context)
    assert run.decision is not None
    assert (run.decision.variant.uid, run.decision.evaluation) == (variant, evaluation)
    assert run.decision.rule is (SPANISH if evaluation is Evaluation.MATCHED else None)


@pytest.mark.parametrize("routing", [RULES, Routing()])
@pytest.mark.parametrize(
    ("context", "reason"),
    [
        ("[1]", "JSON_NOT_OBJECT"),
        ("{", "JSON_MALFORMED"),
        ('{"a":"' + "x" * (17 << 10) + '"}', "JSON_TOO_LARGE"),
        ('{"a":' * 17 + "1" + "}" * 17, "JSON_TOO_DEEP"),
        ('{"a":"\\u0000"}', "TEXT_NOT_STORABLE"),
    ],
)
async def test_a_context_that_is_none_is_refused_whether_rules_ask_or_not(
    routing: Routing, context: str, reason: str
) -> None:
    house = house_of(routing)
    with pytest.raises(Invalid) as refused:
        await house.run(context_json=context)
    assert refused.value.reason == reason
    assert refused.value.violations[0].field.startswith("context_json")
    assert house.provider.requests == []


async def test_a_rule_without_anybody_to_serve_is_named() -> None:
    house = house_of(Routing((), (Rule("rul_all", "All of them", "true", True, (Share("var_2", 0),)),)))
    with pytest.raises(Precondition, match="'All of them'") as refused:
        await house.run()
    assert (refused.value.reason, refused.value.metadata["rule"]) == ("NO_ACTIVE_VARIANT", "rul_all")


async def test_what_is_needed_to_repeat_a_decision_is_in_its_event() -> None:
    house = house_of(RULES)
    run = await house.run(context_json='{"country":"ES"}', routing_key="k", thread="t")
    event = start_to_proto(run, service_instance="i")
    assert (event.context_json, event.routing_key, event.thread) == ('{"country":"ES"}', "k", "t")
    assert (event.decision.rule, event.decision.rule_name, event.decision.propensity) == ("rul_es", "Spanish", 1.0)


async def test_a_context_that_no_rule_asks_about_is_not_kept() -> None:
    run = await house_of(Routing()).run(context_json='{"mail":"ada@example.org"}')
    assert start_to_proto(run, service_instance="i").context_json == ""


async def test_a_sampled_call_has_a_span_of_its_decision_without_the_key() -> None:
    told = await _told_of_decision(RULES, context_json='{"country":"ES"}', routing_key="ada@example.org")
    assert told == {
        "feature_flag.key": "assistant",
        "feature_flag.provider.name": "turnout",
        "feature_flag.result.variant": "v2",
        "feature_flag.result.reason": "targeting_match",
        "feature_flag.set.id": "rev_1",
        "feature_flag.version": "1.0",
        "turnout.alias": "live",
        "turnout.evaluation": "matched",
        "turnout.propensity": 1.0,
        "turnout.rule": "rul_es",
    }


async def test_the_span_of_a_decision_that_nothing_can_serve_tells_the_rule() -> None:
    nobody = replace(RULES, rules=tuple(replace(each, shares=(Share("var_gone", 1),)) for each in RULES.rules))
    told = await _told_of_decision(nobody, context_json='{"country":"ES"}', routing_key="ada@example.org")
    assert told["feature_flag.result.reason"] == "error"
    assert (told["turnout.rule"], told["turnout.evaluation"]) == ("rul_es", "matched")
    assert "feature_flag.result.variant" not in told


async def _told_of_decision(routing: Routing, **call: Any) -> dict[str, Any]:
    exporter = InMemorySpanExporter()
    tracing = Tracing(sample_ratio=1, resource={}, exporter=exporter)
    house = house_of(routing)
    preparation = replace(house.executor.preparation, planner=Planner(tracing))
    executor = replace(house.executor, preparation=preparation)
    span = tracing.server_span("call", tracing.begin(None), is_root=True)
    assert span is not None
    with span, under(span), suppress(Precondition):
        await executor.run(house.call(**call))
    tracing.shutdown()
    [told] = [each for each in exporter.get_finished_spans() if each.name == "route assistant"]
    return dict(told.attributes or {})


class Compiling(Planner):
    """Has conditions to compile for ever."""

    async def match(self, target: Target, context: Context) -> Rule | None:
        await asyncio.Event().wait()
        return None


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_caller_who_leaves_while_conditions_are_compiled_is_recorded(is_streamed: bool) -> None:
    house = house_of(RULES)
    preparation = replace(house.executor.preparation, planner=Compiling())
    house.executor = replace(house.executor, preparation=preparation)
    call = asyncio.create_task(house.stream() if is_streamed else house.run())
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (house.recorded.status, house.recorded.reason) == (Status.CANCELLED, "CALLER_LEFT")
    assert house.provider.requests == []
