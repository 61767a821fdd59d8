"""Whom rules, weights and coverage send where: the stories of the product pages, in one process and in several."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import openai
import pytest

from kit import status
from stack.services import Installation
from tests.system.clients import Clients, eventually
from turnout.events.v1 import request_pb2
from turnout.executor.v1 import execution_pb2
from turnout.registry.v1 import deployment_pb2, deployment_service_pb2, revision_pb2, routing_pb2
from turnout.router.v1 import decision_pb2, routing_service_pb2

pytestmark = pytest.mark.slow

FIELDS = [
    routing_pb2.Field(name="locale", kind=routing_pb2.FIELD_KIND_STRING),
    routing_pb2.Field(name="vip", kind=routing_pb2.FIELD_KIND_BOOLEAN),
]


def split(**weights: float) -> routing_pb2.Split:
    return routing_pb2.Split(shares=[routing_pb2.Share(variant=slug, weight=each) for slug, each in weights.items()])


SPANISH = routing_pb2.Rule(
    display_name="Spanish users",
    condition='context.locale.startsWith("es")',
    split=split(**{"spanish-formal": 50, "spanish-warm": 50}),
)
ENGLISH = routing_pb2.Rule(display_name="English users", condition='context.locale.startsWith("en")', variant="english")


async def languages(shop: Clients, upstream: str, name: str = "support") -> deployment_pb2.Deployment:
    """Four variants, of which the first serves all whom no rule knows, and rules for two languages."""
    await shop.create_provider("instant", upstream)
    deployment = deployment_pb2.Deployment(
        kind=deployment_pb2.DEPLOYMENT_KIND_COMPLETION,
        routing=routing_pb2.Routing(fields=FIELDS, rules=[SPANISH, ENGLISH]),
    )
    for display_name in ("everybody", "english", "spanish formal", "spanish warm"):
        version = deployment.variants.add(display_name=display_name).completion.new_version
        version.provider, version.model = "instant", "m"
        version.messages.add(role=1, content=f"Answer as {display_name} does.")
    request = deployment_service_pb2.CreateDeploymentRequest(
        parent=shop.parent, deployment_id=name, deployment=deployment
    )
    return await shop.write(shop.deployments.CreateDeployment, request)


async def reroute(shop: Clients, name: str, routing: routing_pb2.Routing, **more: Any) -> deployment_pb2.Deployment:
    request = deployment_service_pb2.UpdateDeploymentRequest(
        deployment=deployment_pb2.Deployment(name=f"{shop.parent}/deployments/{name}", routing=routing), **more
    )
    request.update_mask.paths.append("routing")
    return await shop.write(shop.deployments.UpdateDeployment, request)


async def simulate(shop: Clients, deployment: str, **fields: Any) -> routing_service_pb2.SimulateResponse:
    request = routing_service_pb2.SimulateRequest(deployment=deployment, **fields)
    return await shop.read(shop.routing.Simulate, request)


async def test_spanish_users_get_spanish_variants_english_ones_english_and_everybody_else_the_default(
    shop: Clients, instant_llm: str
) -> None:
    made = await languages(shop, instant_llm)
    slugs = {variant.uid: variant.slug for variant in made.variants}
    rules = {rule.display_name: rule.uid for rule in made.routing.rules}

    served: dict[str, Counter[str]] = {}
    for number in range(20):
        for locale in ("es-MX", "en-GB", "fr-FR", ""):
            context = json.dumps({"locale": locale} if locale else {})
            answer = await shop.run("support", routing_key=f"user-{number}", context_json=context)
            served.setdefault(locale, Counter())[answer.decision.variant_slug] += 1
            by_rule = {"es-MX": "Spanish users", "en-GB": "English users"}.get(locale, "")
            assert answer.decision.rule_name == by_rule
            assert answer.decision.rule == rules.get(by_rule, "")
            assert answer.decision.evaluation == (
                decision_pb2.EVALUATION_MATCHED if by_rule else decision_pb2.EVALUATION_DEFAULT_MATCHED
            )
            route = await shop.read(
                shop.routing.Route,
                routing_service_pb2.RouteRequest(
                    deployment="support", routing_key=f"user-{number}", context_json=context
                ),
            )
            assert route.decision == answer.decision

    assert set(served["es-MX"]) == {"spanish-formal", "spanish-warm"}
    assert served["en-GB"] == {"english": 20}
    assert served["fr-FR"] == served[""] == {"everybody": 20}

    async def counted() -> None:
        totals = {slugs[row.variant]: row.ok for row in (await shop.totals("support")).rows}
        assert totals == {**served["es-MX"], "english": 20, "everybody": 40}
        logs = [log.request for log in await shop.all_logs("support")]
        assert len(logs) == 80
        spanish = [log for log in logs if log.decision.rule_name == "Spanish users"]
        assert {log.decision.propensity for log in spanish} == {0.5}
        # All that is needed to repeat it is there.
        for log in spanish[:5]:
            call = routing_service_pb2.SimulatedCall(context_json=log.context_json, routing_key=log.routing_key)
            again = await simulate(shop, "support", revision=log.decision.revision, calls=[call])
            assert again.trace.decision == log.decision

    await eventually(counted)


async def test_a_client_of_the_openai_api_says_its_context(
    shop: Clients, installation: Installation, instant_llm: str
) -> None:
    await languages(shop, instant_llm)
    async with openai.AsyncOpenAI(base_url=f"http://{installation.http_address}/v1", api_key=shop.key) as client:

        async def variant(context: Any) -> Any:
            answer = await client.chat.completions.create(
                model="turnout/deployment/support",
                messages=[{"role": "user", "content": "Hola"}],
                extra_body={"context": context},
                extra_headers={"turnout-sequence": str(shop.sequence)},
            )
            return getattr(answer, "turnout")["variant"]  # noqa: B009  # not in OpenAI's types

        assert await variant({"locale": "en"}) == "english"
        assert await variant({"locale": "es"}) in ("spanish-formal", "spanish-warm")
        assert await variant({}) == "everybody"
        with pytest.raises(openai.BadRequestError, match="context"):
            await variant({"deep": json.loads("[" * 20 + "]" * 20)})


async def test_a_change_of_rules_is_tried_before_it_is_made_and_rolled_back_after(
    shop: Clients, instant_llm: str
) -> None:
    made = await languages(shop, instant_llm)
    routing = routing_pb2.Routing()
    routing.CopyFrom(made.routing)
    del routing.rules[:]
    routing.rules.add(display_name="VIP", condition="context.vip", split=split(**{"spanish-warm": 1}))
    routing.rules.extend(made.routing.rules)
    routing.rules[2].active = False
    drafted = await reroute(shop, "support", routing, draft=True)
    contexts = [json.dumps(each) for each in ({"locale": "en"}, {"locale": "fr", "vip": True}, {"locale": "es"})]
    population = routing_service_pb2.Population(size=3000, contexts_json=contexts)

    request = deployment_service_pb2.ListRevisionsRequest(parent=made.name)
    revisions = (await shop.read(shop.deployments.ListRevisions, request)).revisions
    [draft] = [revision.number for revision in revisions if revision.draft]
    tried = await simulate(shop, "support", revision=draft, compared_revision="live", population=population)

    assert drafted.revision == made.revision, "a draft moves nobody"
    assert tried.decided_count == 3000
    assert tried.comparison.revision == made.revision
    # A third asks in English, whose rule is off now; a third are French VIPs; the Spanish stay where they were.
    assert tried.comparison.moved_count == 2000
    moves = {(move.from_slug, move.to_slug): move.count for move in tried.comparison.movements}
    assert moves["english", "everybody"] == moves["everybody", "spanish-warm"] == 1000
    assert moves["spanish-formal", "spanish-formal"] + moves["spanish-warm", "spanish-warm"] == 1000
    assert (await simulate(shop, "support", population=population)).comparison.moved_count == 0

    await shop.write(
        shop.deployments.SetAlias,
        deployment_service_pb2.SetAliasRequest(name=made.name, alias="live", revision=draft),
    )
    vip = await shop.run("support", routing_key="k", context_json='{"locale":"fr","vip":"true"}')
    assert (vip.decision.variant_slug, vip.decision.rule_name) == ("spanish-warm", "VIP")
    await shop.write(
        shop.deployments.RollbackDeployment,
        deployment_service_pb2.RollbackDeploymentRequest(name=made.name, revision=made.revision),
    )
    back = await shop.run("support", routing_key="k", context_json='{"locale":"fr","vip":"true"}')
    assert (back.decision.variant_slug, back.decision.rule_name) == ("everybody", "")
    request2 = deployment_service_pb2.GetDeploymentRequest(name=made.name)
    again = await shop.read(shop.deployments.GetDeployment, request2)
    assert again.routing == made.routing


async def test_what_was_only_tried_is_in_the_log_and_in_no_metric(shop: Clients, instant_llm: str) -> None:
    await languages(shop, instant_llm)
    call = routing_service_pb2.SimulatedCall(context_json='{"locale":"es"}', routing_key="ada")
    tried = await simulate(shop, "support", calls=[call])
    answer = await shop.run("support", routing_key="ada", context_json='{"locale":"es"}')

    assert tried.trace.decision == answer.decision

    async def counted() -> None:
        logs = {log.request.request_id: log.request for log in await shop.all_logs("support")}
        assert logs.keys() == {tried.trace.request_id, answer.request_id}
        assert logs[tried.trace.request_id].source == execution_pb2.SOURCE_SIMULATOR
        assert logs[answer.request_id].status == request_pb2.REQUEST_STATUS_OK
        totals = (await shop.totals("support")).total
        assert (totals.requests, totals.ok) == (1, 1)

    await eventually(counted)


async def turnout(shop: Clients, folder: Path, *arguments: str) -> str:
    """What the command line says, in an empty folder."""
    services = ("registry", "router", "analytics")
    environment = {f"TURNOUT_{service.upper()}_ADDRESS": shop.addresses[service] for service in services}
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", "import sys; from cli.main import main; sys.exit(main())", *arguments],
        env={name: value for name, value in os.environ.items() if not name.startswith("TURNOUT_")}
        | environment
        | {"TURNOUT_API_KEY": shop.key, "TURNOUT_PROJECT": shop.project},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_a_refused_call_is_found_in_the_log_with_its_rule_and_refused_again_when_it_is_replayed(
    shop: Clients, instant_llm: str, tmp_path: Path
) -> None:
    made = await languages(shop, instant_llm)
    for variant in made.variants[2:]:
        await shop.update_variant(variant.name, active=False)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await shop.run("support", routing_key="ada", context_json='{"locale":"es-MX"}')
    error = status.from_rpc_error(refused.value, peer="executor")
    assert error.reason == "NO_ACTIVE_VARIANT"
    with pytest.raises(grpc.aio.AioRpcError) as unreadable:
        await shop.run("support", context_json="[")
    assert status.reason_of(unreadable.value) == "JSON_MALFORMED"

    async def counted() -> tuple[request_pb2.RequestServed, request_pb2.RequestServed]:
        logs = {log.request.reason: log.request for log in await shop.all_logs(made.uid)}
        assert logs.keys() == {"NO_ACTIVE_VARIANT", "JSON_MALFORMED"}
        [row] = (await shop.totals(made.uid)).rows
        assert (row.deployment, row.variant, row.errors, row.requests) == (made.uid, "", 2, 2)
        return logs["NO_ACTIVE_VARIANT"], logs["JSON_MALFORMED"]

    logged, undecided = await eventually(counted)
    assert logged.request_id == error.metadata["request_id"]
    decision = logged.decision
    assert (decision.deployment, decision.alias, decision.variant, decision.propensity) == (made.uid, "live", "", 0)
    assert (decision.evaluation, decision.rule, decision.rule_name) == (
        decision_pb2.EVALUATION_MATCHED,
        made.routing.rules[0].uid,
        "Spanish users",
    )
    assert (logged.context_json, logged.routing_key) == ('{"locale":"es-MX"}', "ada")
    assert undecided.decision == decision_pb2.Decision(
        deployment=made.uid,
        alias="live",
        revision=decision.revision,
        revision_number=decision.revision_number,
    )

    # Since then it was mended; the revision that refused is a past one.
    await shop.update_variant(made.variants[3].name, active=True)
    said = await turnout(shop, tmp_path, "simulate", "support", "--replay", logged.request_id, "--compare", "live")
    assert "rule Spanish users has nothing active to send it to; the same refusal comes again" in said
    assert "it would be spanish-warm" in said
    replay = ("--json", "simulate", "support", "--replay", logged.request_id)
    again = json.loads(await turnout(shop, tmp_path, *replay))["replayed"]
    assert (again["refused"], again["same"], again["rule"]) == (True, True, decision.rule)
    mended = json.loads(await turnout(shop, tmp_path, *replay, "--revision", "live"))
    assert (mended["replayed"]["same"], mended["trace"]["decision"]["variant_slug"]) == (False, "spanish-warm")

    async def tried() -> None:
        logs = [log.request for log in await shop.all_logs("support")]
        simulated = [log for log in logs if log.source == execution_pb2.SOURCE_SIMULATOR]
        # What was tried is told by the alias that points there, if one does.
        found = sorted((log.decision.alias, log.decision.rule_name, log.decision.variant_slug) for log in simulated)
        assert found == [("", "Spanish users", "")] * 2 + [("live", "Spanish users", "spanish-warm")]
        assert (await shop.totals("support")).total.requests == 2

    await eventually(tried)


@pytest.mark.parametrize("mistake", ["type", "undeclared", "variant", "coverage", "nesting", "backtracking", "huge"])
async def test_a_mistake_is_refused_at_once_and_where_it_is(shop: Clients, instant_llm: str, mistake: str) -> None:
    made = await languages(shop, instant_llm)
    routing = routing_pb2.Routing()
    routing.CopyFrom(made.routing)
    path, rule = "deployment.routing.rules[1].condition", routing.rules[1]
    if mistake == "type":
        rule.condition = "context.vip == 3"
    elif mistake == "undeclared":
        rule.condition = 'context.loacle == "es"'
    elif mistake == "variant":
        rule.variant, path = "nobody", "deployment.routing.rules[1].variant"
    elif mistake == "coverage":
        routing.coverage, path = 0.5, "deployment.routing.baseline"
    elif mistake == "nesting":
        rule.condition = "(" * 500 + "true" + ")" * 500
    elif mistake == "backtracking":
        rule.condition = "context.locale.matches('(a+)+$' + context.locale)"
    else:
        rule.condition = "true || " * 20_000 + "true"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await reroute(shop, "support", routing)
    error = status.from_rpc_error(refused.value, peer="registry")
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [each.field for each in error.violations][:1] == [path]


async def test_slots_of_30_and_70_are_slots_of_3_and_7_and_a_canary_is_5_of_105(
    shop: Clients, artifacts: dict[str, Path]
) -> None:
    als, bm25 = [(await shop.upload(artifacts[name])).uid for name in ("als", "bm25")]
    made = await shop.create_slots("films", **{als: 30, bm25: 70})
    first, second = made.variants
    thousand = routing_service_pb2.Population(size=20_000)

    before = await simulate(shop, "films", population=thousand)
    await shop.update_variant(first.name, weight=3)
    await shop.update_variant(second.name, weight=7)
    after = await simulate(shop, "films", compared_revision=made.revision, population=thousand)
    assert [share.count for share in before.shares] == [share.count for share in after.shares]
    assert after.comparison.moved_count == 0
    assert [share.expected_share for share in after.shares] == pytest.approx([0.3, 0.7])

    await shop.update_variant(first.name, weight=100)
    await shop.update_variant(second.name, weight=5)
    canary = await simulate(shop, "films", population=thousand)
    assert canary.shares[1].expected_share == pytest.approx(5 / 105)
    # 4 standard deviations of 20,000 draws.
    assert canary.shares[1].share == pytest.approx(5 / 105, abs=4 * (5 / 105 * 100 / 105 / 20_000) ** 0.5)

    await shop.update_variant(first.name, active=False)
    alone = await shop.recommend("films", "user-1")
    assert (alone.decision.variant, alone.decision.propensity) == (second.uid, 1.0)
    await shop.update_variant(second.name, active=False)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await shop.recommend("films", "user-1")
    assert status.reason_of(refused.value) == "NO_ACTIVE_VARIANT"
    trace = (await simulate(shop, "films", calls=[routing_service_pb2.SimulatedCall(user="user-1")])).trace
    assert trace.refusal
    assert not trace.HasField("decision")


async def test_coverage_keeps_whom_it_admitted_and_gives_the_others_the_baseline(
    shop: Clients, instant_llm: str
) -> None:
    await languages(shop, instant_llm)
    covered = routing_pb2.Routing(coverage=0.2, baseline="english")
    revision = (await reroute(shop, "support", covered, bump=revision_pb2.BUMP_MINOR)).revision
    population = routing_service_pb2.Population(size=5000)
    narrow = await simulate(shop, "support", population=population)
    covered.coverage = 0.6
    await reroute(shop, "support", covered)
    wide = await simulate(shop, "support", compared_revision=revision, population=population)

    assert narrow.outside_count == pytest.approx(4000, abs=4 * 28.3)
    assert wide.outside_count == pytest.approx(2000, abs=4 * 34.6)
    moves = {(move.from_slug, move.to_slug) for move in wide.comparison.movements}
    assert moves == {("english", "everybody"), ("english", "english"), ("everybody", "everybody")}
    answer = await shop.run("support", routing_key="unit-0")
    assert answer.decision.propensity == pytest.approx(0.4 if answer.decision.outside_coverage else 0.6)
