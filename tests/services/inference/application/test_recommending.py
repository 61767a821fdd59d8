from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from catalog.conditions import Field, FieldKind
from catalog.plan import KeyKind, Planner
from catalog.routing import Routing, Rule, Share
from catalog.view import DeploymentKind, UnknownUsers
from kit.errors import Deadline, Invalid, NotFound, Precondition, Unavailable
from services.inference.application.batches import Computing
from services.inference.application.models import Models
from services.inference.application.recommending import Recommending
from services.inference.convert import start_to_proto
from services.inference.domain import Recommendation, RecommendCall, Source, Status
from tests.services.inference.fakes import (
    SHOP,
    STRANGER,
    FakeArtifacts,
    FakeClock,
    FakeRecommender,
    FakeViews,
    deployment,
    model,
    until,
    variant,
)
from turnout.router.v1 import decision_pb2

CALLED = decision_pb2.Decision(deployment="dep_films", alias="live", revision="rev_1", revision_number="1.0")
"""What is known before a decision."""


@dataclass
class Records:
    """Keeps what is recorded: the status of each call at its start, and the whole of it at its end."""

    full: bool = False
    opened: list[tuple[Status, bool]] = field(default_factory=list)
    closed: list[Recommendation] = field(default_factory=list)
    asked: FakeRecommender | None = None

    def open(self, recommendation: Recommendation) -> object:
        if self.full:
            raise Unavailable("the event spool is full", reason="SPOOL_FULL")
        self.opened.append((recommendation.status, bool(self.asked and self.asked.batches)))
        return recommendation.request_id

    def close(self, opened: object, recommendation: Recommendation) -> None:
        assert opened == recommendation.request_id
        self.closed.append(recommendation)


class House:
    """Recommending on fakes of its ports; two models behind two slots."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self.views, self.artifacts, self.clock, self.records = FakeViews(), FakeArtifacts(), FakeClock(), Records()
        self.recommenders = [self.artifacts.put(model(number).digest, multiplications=1) for number in (1, 2)]
        self.computing = Computing(threads, 64, 1000, 10)
        self.models = Models(self.views, self.artifacts, self.clock, self.computing, threads)
        self.application = Recommending(self.views, Planner(), self.models, self.records, self.clock)
        self.show(90, 10)

    def show(self, *weights: float, **fields: Any) -> None:
        slots = [variant(f"v{n}", f"mod_{n}", weight=weight, **fields) for n, weight in enumerate(weights, 1)]
        self.views.show(deployment(*slots), model(1), model(2))

    async def recommend(self, user_id: str = "ada", *, deadline: float = 110, **fields: Any) -> Recommendation:
        call = RecommendCall(
            deployment="films",
            user_id=user_id,
            limit=0,
            include_seen=False,
            routing_key="",
            identity="",
            thread="",
            metadata_json="",
            caller_trace_id="",
            source=Source.API,
            tenant=SHOP.uid,
            key_id="key",
            trace_id="a" * 32,
            deadline=deadline,
        )
        return await self.application.recommend(replace(call, **fields))


@pytest.fixture
async def house() -> AsyncIterator[House]:
    with ThreadPoolExecutor(2) as threads:
        house = House(threads)
        yield house
        for recommender in house.recommenders:
            recommender.gate.set()
        await house.models.close()


async def test_a_rule_sends_a_context_to_its_slot_and_the_event_can_repeat_it(house: House) -> None:
    slots = [variant("v1", "mod_1"), variant("v2", "mod_2", weight=0)]
    kids = Rule("rul_1", "Kids", "context.age < 13", True, (Share("var_v2", 100),))
    films = deployment(*slots)
    routing = Routing((Field("age", FieldKind.NUMBER),), (kids,))
    house.views.show(
        replace(films, aliases={"live": replace(films.aliases["live"], routing=routing)}), model(1), model(2)
    )

    child, grown = [await house.recommend(context_json=f'{{"age":{age}}}') for age in (7, 30)]

    assert child.decision is not None
    assert grown.decision is not None
    assert (child.decision.variant.slug, child.decision.rule) == ("v2", kids)
    assert (grown.decision.variant.slug, grown.decision.rule) == ("v1", None)
    assert start_to_proto(child, service_instance="i").context_json == '{"age":7}'
    with pytest.raises(Invalid, match="context_json"):
        await house.recommend(context_json="7")


async def test_the_start_is_kept_before_the_model_is_asked_and_the_end_once(house: House) -> None:
    house.show(100, 0)
    house.records.asked = house.recommenders[0]
    recommendation = await house.recommend()
    assert house.records.opened == [(Status.LOST, False)]
    assert house.records.closed == [recommendation]
    assert (recommendation.status, recommendation.reason) == (Status.OK, "")
    assert recommendation.model == model(1)
    assert recommendation.answer is not None
    assert recommendation.answer.items[0].item_id == "ada of 0000"


async def test_a_call_without_a_limit_asks_for_ten(house: House) -> None:
    asked: list[int] = []
    answer = house.recommenders[0].recommend

    def listen(queries: Any) -> Any:
        asked.extend(query.limit for query in queries)
        return answer(queries)

    house.recommenders[0].recommend = listen  # type: ignore[method-assign]
    house.show(100, 0)
    await house.recommend()
    await house.recommend(limit=3)
    assert asked == [10, 3]


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"routing_key": "k", "identity": "i", "thread": "t"}, KeyKind.ROUTING_KEY),
        ({"identity": "i", "thread": "t"}, KeyKind.IDENTITY),
        ({"thread": "t"}, KeyKind.THREAD),
        ({}, KeyKind.USER),
    ],
)
async def test_the_choice_sticks_to_the_first_thing_that_the_call_gives(
    house: House, fields: dict[str, Any], kind: KeyKind
) -> None:
    decision = (await house.recommend(**fields)).decision
    assert decision is not None
    assert decision.key_kind is kind


async def test_strangers_get_what_is_popular_or_are_refused_as_the_variant_says(house: House) -> None:
    answer = (await house.recommend(STRANGER)).answer
    assert answer is not None
    assert answer.cold_start
    house.show(90, 10, unknown=UnknownUsers.REFUSE)
    with pytest.raises(NotFound) as failure:
        await house.recommend(STRANGER)
    last = house.records.closed[-1]
    assert (failure.value.reason, failure.value.metadata["request_id"]) == ("UNKNOWN_USER", last.request_id)
    assert (last.status, last.reason, last.answer) == (Status.ERROR, "UNKNOWN_USER", None)
    assert last.decision is not None
    assert (await house.recommend("ada")).answer is not None


async def test_a_deployment_of_another_kind_is_refused_and_recorded_without_a_decision(house: House) -> None:
    films = house.views.view.deployment("dep_films")
    assert films is not None
    house.views.show(replace(films, kind=DeploymentKind.COMPLETION))
    with pytest.raises(Precondition) as failure:
        await house.recommend()
    assert failure.value.reason == "DEPLOYMENT_KIND_MISMATCH"
    [record] = house.records.closed
    assert (record.reason, record.decision, record.refusal) == ("DEPLOYMENT_KIND_MISMATCH", None, None)
    assert start_to_proto(record, service_instance="i").decision == CALLED


async def test_no_active_slot_is_a_precondition(house: House) -> None:
    house.show(0, 0)
    with pytest.raises(Precondition) as failure:
        await house.recommend()
    assert failure.value.reason == "NO_ACTIVE_VARIANT"


async def test_what_was_decided_of_a_call_that_no_slot_could_serve_is_kept(house: House) -> None:
    kids = Rule("rul_1", "Kids", "context.age < 13", True, (Share("var_v1", 100),))
    films = deployment(variant("v1", "mod_1", active=False), variant("v2", "mod_2"))
    routing = Routing((Field("age", FieldKind.NUMBER),), (kids,))
    house.views.show(
        replace(films, aliases={"live": replace(films.aliases["live"], routing=routing)}), model(1), model(2)
    )
    with pytest.raises(Precondition):
        await house.recommend(context_json='{"age":7}', routing_key="k")

    [record] = house.records.closed
    assert (record.reason, record.decision) == ("NO_ACTIVE_VARIANT", None)
    assert record.refusal is not None
    assert record.refusal.rule == kids
    event = start_to_proto(record, service_instance="i")
    expected = decision_pb2.Decision(
        evaluation=decision_pb2.EVALUATION_MATCHED,
        key_kind=decision_pb2.KEY_KIND_ROUTING_KEY,
        rule="rul_1",
        rule_name="Kids",
    )
    expected.MergeFrom(CALLED)
    assert event.decision == expected
    assert (event.context_json, event.routing_key) == ('{"age":7}', "k")


async def test_input_is_checked_before_the_variant_is_chosen(house: House) -> None:
    with pytest.raises(Invalid) as failure:
        await house.recommend(metadata_json="[1]")
    assert failure.value.reason == "JSON_NOT_OBJECT"
    [record] = house.records.closed
    assert record.decision is None
    assert start_to_proto(record, service_instance="i").decision == CALLED


async def test_a_deployment_that_is_not_there_leaves_no_record(house: House) -> None:
    with pytest.raises(NotFound):
        await house.recommend(deployment="nothing")
    assert (house.records.opened, house.records.closed) == ([], [])


async def test_a_call_whose_start_cannot_be_kept_asks_no_model(house: House) -> None:
    house.records.full = True
    with pytest.raises(Unavailable) as failure:
        await house.recommend()
    assert failure.value.reason == "SPOOL_FULL"
    assert [recommender.batches for recommender in house.recommenders] == [[], []]


async def busy(house: House) -> FakeRecommender:
    """The only model, computing in a thread what will not end by itself."""
    house.recommenders[0] = house.artifacts.put(model(1).digest, multiplications=1000)
    house.recommenders[0].gate.clear()
    house.show(100, 0)
    return house.recommenders[0]


async def test_a_deadline_that_passes_ends_the_call_and_is_recorded(house: House) -> None:
    await busy(house)
    with pytest.raises(Deadline) as failure:
        await house.recommend(deadline=house.clock.time + 0.05)
    assert failure.value.reason == "DEADLINE_EXCEEDED"
    assert [(each.status, each.reason) for each in house.records.closed] == [(Status.CANCELLED, "DEADLINE_EXCEEDED")]


async def test_a_caller_who_leaves_is_recorded_and_keeps_no_model_open(house: House) -> None:
    recommender = await busy(house)
    call = asyncio.create_task(house.recommend())
    await until(lambda: recommender.batches)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert [(each.status, each.reason) for each in house.records.closed] == [(Status.CANCELLED, "CALLER_LEFT")]
    house.views.show()
    house.models.follow(house.views.view)
    assert recommender.closed == 0
    recommender.gate.set()
    await until(lambda: recommender.closed == 1)


async def test_a_bug_is_recorded_too(house: House) -> None:
    house.recommenders[0].fails = ZeroDivisionError()
    house.show(100, 0)
    with pytest.raises(ZeroDivisionError):
        await house.recommend()
    assert [(each.status, each.reason) for each in house.records.closed] == [(Status.ERROR, "INTERNAL")]


USERS = [f"user-{number}" for number in range(10_000)]


async def slots(house: House) -> dict[str, str]:
    """Which slot serves each user."""
    found = {}
    for user in USERS:
        recommendation = await house.recommend(user)
        assert recommendation.decision is not None
        assert recommendation.model is not None
        # The slot and the model that answered belong together.
        assert recommendation.model.uid.removeprefix("mod_") == recommendation.decision.variant.slug.removeprefix("v")
        found[user] = recommendation.decision.variant.slug
    return found


async def test_slots_share_users_by_weight_and_a_change_of_weight_moves_only_who_must_move(house: House) -> None:
    before = await slots(house)
    sigma = math.sqrt(0.9 * 0.1 / len(USERS))
    assert abs(Counter(before.values())["v1"] / len(USERS) - 0.9) < 4 * sigma
    assert await slots(house) == before
    assert len(house.records.closed) == len(house.records.opened) == 2 * len(USERS)

    house.show(90, 30)
    after = await slots(house)
    moved = Counter((before[user], after[user]) for user in USERS if before[user] != after[user])
    assert set(moved) == {("v1", "v2")}
    assert abs(Counter(after.values())["v2"] / len(USERS) - 0.25) < 4 * math.sqrt(0.25 * 0.75 / len(USERS))
