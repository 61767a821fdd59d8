from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest

from kit import calls
from kit.calls import Call, Method
from kit.telemetry import TraceContext
from services.registry.domain import CheckFailure, ModelList, Project, Provider, ProviderKind, ProviderModel, Record
from services.registry.providers import KeptModelLists
from services.registry.providers.kept import Outcome

NOW = datetime(2026, 1, 2, tzinfo=UTC)
RECORD = Record(NOW, NOW, 1, 1)
PROJECT = Project("prj_1", 1, "shop", "Shop", RECORD)
PROVIDER = Provider("prv_1", PROJECT, "main", ProviderKind.OPENAI_COMPATIBLE, "Main", "https://a.example", None, RECORD)
LISTED = ModelList((ProviderModel("small"),), NOW)
FAILED = CheckFailure("PROVIDER_UNREACHABLE", "it cannot be reached")


@dataclass
class Source:
    """What would ask providers, and the clock."""

    outcome: Outcome = LISTED
    asked: list[Provider] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    seconds: float = 100.0
    cancelled: int = 0

    async def read(self, provider: Provider) -> Outcome:
        self.asked.append(provider)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.outcome


@pytest.fixture
def source() -> Source:
    made = Source()
    made.gate.set()
    return made


@pytest.fixture
async def lists(source: Source) -> AsyncIterator[KeptModelLists]:
    async with KeptModelLists(source.read, lambda: source.seconds) as kept:
        yield kept


@pytest.mark.parametrize(("outcome", "seconds"), [(LISTED, 60), (FAILED, 15)])
async def test_an_outcome_is_kept_for_its_time(
    source: Source, lists: KeptModelLists, outcome: Outcome, seconds: float
) -> None:
    source.outcome = outcome
    for waited, asked in ((0, 1), (seconds - 0.1, 1), (0.2, 2)):
        source.seconds += waited
        assert await lists.of(PROVIDER) == outcome
        assert len(source.asked) == asked


async def test_a_fresh_list_is_asked_for_and_then_kept(source: Source, lists: KeptModelLists) -> None:
    await lists.of(PROVIDER)
    source.outcome = FAILED

    assert await lists.of(PROVIDER, fresh=True) == FAILED
    assert await lists.of(PROVIDER) == FAILED
    assert len(source.asked) == 2


async def test_a_provider_that_changed_is_asked_anew(source: Source, lists: KeptModelLists) -> None:
    await lists.of(PROVIDER)
    await lists.of(replace(PROVIDER, base_url="https://b.example", record=replace(RECORD, changed_in=2)))

    assert [each.base_url for each in source.asked] == ["https://a.example", "https://b.example"]


async def test_many_who_ask_at_once_are_one_request(source: Source, lists: KeptModelLists) -> None:
    source.gate.clear()
    asking = [asyncio.create_task(lists.of(PROVIDER, fresh=number % 2 == 0)) for number in range(50)]
    while not source.asked:
        await asyncio.sleep(0)
    source.gate.set()

    assert await asyncio.gather(*asking) == [LISTED] * 50
    assert len(source.asked) == 1


async def test_who_leaves_does_not_take_the_answer_from_who_waits(source: Source, lists: KeptModelLists) -> None:
    source.gate.clear()
    first, second = (asyncio.create_task(lists.of(PROVIDER)) for _ in range(2))
    while not source.asked:
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    source.gate.set()

    assert await second == LISTED
    assert len(source.asked) == 1


async def test_a_call_waits_for_part_of_its_time_only(source: Source, lists: KeptModelLists) -> None:
    source.gate.clear()
    loop = asyncio.get_running_loop()
    place = TraceContext("1" * 32, "1" * 16, sampled=False)

    async def ask() -> Outcome:
        calls.enter(Call(Method("/x/Y", ""), {}, "", loop.time() + 0.2, place))
        return await lists.of(PROVIDER)

    begun = loop.time()
    outcome = await asyncio.create_task(ask())

    assert isinstance(outcome, CheckFailure)
    assert outcome.reason == "PROVIDER_UNREACHABLE"
    assert loop.time() - begun < 0.19
    assert source.cancelled == 0


async def test_leaving_gives_up_what_is_on_its_way(source: Source) -> None:
    source.gate.clear()
    async with KeptModelLists(source.read, lambda: 0) as lists:
        asking = asyncio.create_task(lists.of(PROVIDER))
        while not source.asked:
            await asyncio.sleep(0)
    await asyncio.gather(asking, return_exceptions=True)

    assert source.cancelled == 1


async def test_what_is_kept_is_bounded(source: Source, lists: KeptModelLists) -> None:
    large = ModelList(tuple(ProviderModel(f"m{number}") for number in range(9000)), NOW)
    source.outcome = large
    for number in range(30):
        await lists.of(replace(PROVIDER, uid=f"prv_{number}"))

    await lists.of(replace(PROVIDER, uid="prv_29"))
    assert len(source.asked) == 30
    await lists.of(replace(PROVIDER, uid="prv_0"))
    assert len(source.asked) == 31
