"""The main story: a generated client calls a deployment by name, a real model answers, analytics counts it once."""

from __future__ import annotations

import grpc
import pytest

from stack.llm import MODEL, Llm
from tests.system.clients import Clients, eventually
from turnout.chat.v1 import message_pb2
from turnout.events.v1 import request_pb2
from turnout.router.v1 import decision_pb2

pytestmark = pytest.mark.slow

PROMPT = "You are an expert on {{ country }}. Answer in {{ language }}, in one sentence."


async def test_a_completion_goes_from_a_generated_client_to_analytics(shop: Clients, llm: Llm) -> None:
    await shop.create_provider("local", llm.base_url)
    created = await shop.create_deployment("travel-assistant", "local", MODEL, prompts=[PROMPT, f"{PROMPT} Be warm."])

    answer = await shop.run(
        "travel-assistant:live",
        "Any customs I should be mindful about at the dinner table?",
        variables_json='{"country": "France", "language": "English"}',
        routing_key="user-1",
        trace_id="my-trace",
        metadata_json='{"team": "growth"}',
    )

    assert answer.message.role == message_pb2.ROLE_ASSISTANT
    assert answer.message.content
    assert answer.usage.input_tokens > 20
    assert answer.decision.deployment == created.uid
    assert answer.decision.revision_number == "1.0"
    assert answer.decision.evaluation == decision_pb2.EVALUATION_DEFAULT_MATCHED
    assert answer.decision.key_kind == decision_pb2.KEY_KIND_ROUTING_KEY
    assert answer.decision.propensity == 0.5
    assert answer.decision.variant in {variant.uid for variant in created.variants}
    assert not answer.HasField("cost_usd_micros"), "the price of a local model is unknown, which is not zero"
    assert [attempt.reason for attempt in answer.attempts] == [""]

    async def counted() -> None:
        totals = await shop.totals("travel-assistant")
        assert totals.total.requests == 1

    await eventually(counted)
    [row] = (await shop.totals()).rows
    assert (row.variant, row.ok, row.errors) == (answer.decision.variant, 1, 0)
    assert row.input_tokens == answer.usage.input_tokens
    assert row.output_tokens == answer.usage.output_tokens
    assert row.unknown_cost_requests == 1
    assert row.latency_p50_us == pytest.approx(answer.latency_us, rel=0.02)

    [log] = await shop.all_logs()
    assert log.name == f"{shop.parent}/logs/{answer.request_id}"
    assert log.request.status == request_pb2.REQUEST_STATUS_OK
    assert log.request.decision == answer.decision
    assert log.request.version == answer.version
    assert log.request.caller_trace_id == "my-trace"
    assert log.request.metadata_json == '{"team": "growth"}'
    assert len(log.request.trace_id) == 32


async def test_one_user_keeps_one_variant_and_many_users_split_by_weight(shop: Clients, instant_llm: str) -> None:
    await shop.create_provider("instant", instant_llm)
    await shop.create_deployment("split", "instant", prompts=["one", "two"])

    served: dict[str, set[str]] = {}
    for number in range(100):
        user = f"user-{number % 50}"
        answer = await shop.run("split", routing_key=user)
        served.setdefault(user, set()).add(answer.decision.variant)

    assert all(len(variants) == 1 for variants in served.values())
    assert len(set.union(*served.values())) == 2

    async def counted() -> None:
        assert (await shop.totals("split")).total.requests == 100

    await eventually(counted)
    rows = {row.variant: row.requests for row in (await shop.totals("split")).rows}
    for variant, requests in rows.items():
        assert requests == 2 * sum(variant in variants for variants in served.values())


async def test_a_write_is_served_at_once_where_its_sequence_is_shown(shop: Clients, instant_llm: str) -> None:
    await shop.create_provider("instant", instant_llm)
    for number in range(10):
        await shop.create_deployment(f"fresh-{number}", "instant")
        assert (await shop.run(f"fresh-{number}")).message.content


async def test_a_name_an_alias_a_uid_and_a_resource_name_are_one_target(shop: Clients, instant_llm: str) -> None:
    await shop.create_provider("instant", instant_llm)
    made = await shop.create_deployment("agent", "instant")

    for target in ("agent", "agent:live", "agent/live", made.uid, made.name, f"{made.name}:live"):
        assert (await shop.run(target)).decision.deployment == made.uid


async def test_an_oversized_prompt_is_served_and_recorded_and_blocks_nothing(shop: Clients, instant_llm: str) -> None:
    await shop.create_provider("instant", instant_llm)
    await shop.create_deployment("big", "instant")

    await shop.run("big", "x" * (2 << 20))
    await shop.run("big", "small")

    async def counted() -> None:
        assert (await shop.totals("big")).total.ok == 2

    await eventually(counted)


async def test_a_caller_who_leaves_is_recorded_as_cancelled(shop: Clients, slow_llm: str) -> None:
    await shop.create_provider("slow", slow_llm)
    await shop.create_deployment("slow", "slow")

    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await shop.run("slow", timeout=1)

    assert failure.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    async def counted() -> None:
        total = (await shop.totals("slow")).total
        assert (total.requests, total.cancelled) == (1, 1)

    await eventually(counted)
