from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from catalog.view import Revision, View
from kit.errors import Invalid, Unavailable
from recommenders.scoring import Query
from services.inference.application.batches import Computing
from services.inference.application.models import Models
from services.inference.domain import LoadState
from tests.services.inference.fakes import (
    SHOP,
    FakeArtifacts,
    FakeClock,
    FakeViews,
    decision,
    deployment,
    model,
    until,
    variant,
)

DAMAGED = Invalid("seen_indices.npy: is too long", reason="ARTIFACT_FILE_SIZE", file="seen_indices.npy")


class House:
    """Models that follow a catalog by hand, on fake artifacts."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self.views, self.artifacts, self.clock = FakeViews(), FakeArtifacts(), FakeClock()
        computing = Computing(threads, 64, 1000, 0)
        self.models = Models(self.views, self.artifacts, self.clock, computing, threads)
        self.ready = asyncio.Event()
        self.ready_seconds = 10.0
        self.following: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.following = asyncio.create_task(self.models.run(self.ready, self.ready_seconds))

    def deploy(self, *numbers: int) -> View:
        """One slot for each model."""
        slots = [variant(f"v{place}", f"mod_{number}") for place, number in enumerate(numbers)]
        return self.views.show(deployment(*slots), *map(model, numbers))

    def put(self, number: int) -> Any:
        return self.artifacts.put(model(number).digest, multiplications=1)

    async def ask(self, limit_seconds: float = 10, user: str = "ada", alias: str = "live") -> tuple[int, str]:
        """The number of the model that answers, and what it says."""
        seen = self.views.usable_view()
        made = seen.deployment("dep_films")
        assert made is not None
        ready = await self.models.find(seen, decision(made, alias), limit_seconds=limit_seconds)
        return ready.model.number, (await ready.batches.recommend(Query(user, 5))).items[0].item_id

    def states(self) -> dict[int, LoadState]:
        return {loaded.model.number: loaded.state for loaded in self.models.loaded_models(SHOP.uid)}

    async def until_ready(self, number: int) -> None:
        await until(lambda: self.states().get(number) is LoadState.READY)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    with ThreadPoolExecutor(4) as threads:
        house = House(threads)
        yield house
        for gate in house.artifacts.gates.values():
            gate.set()
        if house.following is not None:
            house.following.cancel()
            with suppress(asyncio.CancelledError):
                await house.following
        await house.models.close()


async def test_models_are_loaded_ahead_of_the_calls_also_those_that_nobody_is_sent_to(house: House) -> None:
    house.put(1)
    house.put(2)
    idle = variant("idle", "mod_2", weight=0, active=False)
    house.views.show(deployment(variant("v0", "mod_1"), idle), model(1), model(2))
    house.start()
    await until(lambda: house.states() == {1: LoadState.READY, 2: LoadState.READY})
    [first, _] = house.models.loaded_models(SHOP.uid)
    assert (first.size_bytes, first.load_unix_ns, first.reason) == (1004, house.clock.unix_ns(), "")
    assert house.models.loaded_models("prj_other") == []


async def test_many_first_calls_make_one_load(house: House) -> None:
    house.put(1)
    gate = house.artifacts.hold(model(1).digest)
    house.deploy(1)
    calls = [asyncio.create_task(house.ask(user=f"u{number}")) for number in range(50)]
    await until(lambda: house.artifacts.opened)
    gate.set()
    assert await asyncio.gather(*calls) == [(1, f"u{number} of 0000") for number in range(50)]
    assert house.artifacts.opened == [model(1).digest]


async def test_models_of_one_artifact_share_it_and_keep_their_names(house: House) -> None:
    recommender = house.artifacts.put("a" * 64, multiplications=1)
    house.views.show(deployment(variant("v0", "mod_1")), model(1, "a" * 64))
    assert (await house.ask())[0] == 1
    house.views.show(deployment(variant("v0", "mod_2")), model(2, "a" * 64))
    house.models.follow(house.views.view)
    assert (await house.ask())[0] == 2
    assert (house.artifacts.opened, recommender.closed) == (["a" * 64], 0)


async def test_the_old_model_serves_until_the_new_one_is_ready_and_says_so(house: House) -> None:
    old = house.put(1)
    house.put(2)
    house.deploy(1)
    house.start()
    assert (await house.ask())[0] == 1
    gate = house.artifacts.hold(model(2).digest)
    house.deploy(2)
    await until(lambda: model(2).digest in house.artifacts.opened)
    assert (await house.ask())[0] == 1
    assert house.states() == {2: LoadState.LOADING}
    gate.set()
    await house.until_ready(2)
    assert (await house.ask())[0] == 2
    await until(lambda: old.closed == 1)


async def test_a_damaged_new_model_leaves_the_old_one_serving_and_is_tried_again(house: House) -> None:
    house.put(1)
    house.deploy(1)
    house.start()
    await house.until_ready(1)
    house.artifacts.there[model(2).digest] = DAMAGED
    house.deploy(2)
    await until(lambda: house.clock.slept)
    [failed] = house.models.loaded_models(SHOP.uid)
    assert (failed.model.number, failed.state, failed.reason) == (2, LoadState.FAILED, "ARTIFACT_FILE_SIZE")
    assert failed.message == "seen_indices.npy: is too long"
    assert (await house.ask())[0] == 1

    house.clock.wake()
    await until(lambda: len(house.clock.slept) == 2)
    assert house.clock.slept == [0.75, 1.5]

    house.put(2)
    house.clock.wake()
    await house.until_ready(2)
    assert (await house.ask())[0] == 2
    assert house.models.loaded_models(SHOP.uid)[0].reason == ""


async def test_a_bug_in_loading_is_a_failure_of_that_model_alone(house: House) -> None:
    house.put(1)
    house.artifacts.there[model(2).digest] = ZeroDivisionError("secret detail")
    house.deploy(1, 2)
    house.start()
    await until(lambda: house.states() == {1: LoadState.READY, 2: LoadState.FAILED})
    failed = house.models.loaded_models(SHOP.uid)[1]
    assert failed.reason == "INTERNAL"
    assert "secret" not in failed.message


async def test_a_variant_that_never_had_a_model_is_unavailable_at_once_when_loading_has_failed(house: House) -> None:
    house.artifacts.there[model(1).digest] = DAMAGED
    house.deploy(1)
    house.start()
    await until(lambda: house.clock.slept)
    house.clock.time -= 3
    with pytest.raises(Unavailable) as failure:
        await house.ask()
    assert (failure.value.reason, failure.value.metadata["variant"]) == ("MODEL_NOT_LOADED", "var_v0")
    assert failure.value.retry_after_seconds == 3.75
    assert "ARTIFACT_FILE_SIZE" in failure.value.message


async def test_a_call_waits_for_the_first_model_no_longer_than_it_may(house: House) -> None:
    house.put(1)
    house.artifacts.hold(model(1).digest)
    house.deploy(1)
    with pytest.raises(Unavailable) as failure:
        await house.ask(limit_seconds=0.05)
    assert failure.value.reason == "MODEL_NOT_LOADED"


async def test_a_model_that_the_catalog_does_not_have_is_unavailable_at_once(house: House) -> None:
    house.views.show(deployment(variant("v0", "mod_9")))
    with pytest.raises(Unavailable) as failure:
        await house.ask()
    assert failure.value.reason == "MODEL_NOT_LOADED"


async def test_the_old_model_is_closed_when_its_last_call_has_ended(house: House) -> None:
    old = house.put(1)
    house.put(2)
    house.deploy(1)
    house.start()
    await house.until_ready(1)
    old.gate.clear()
    calls = [asyncio.create_task(house.ask(user=f"u{number}")) for number in range(3)]
    await until(lambda: old.batches)
    house.deploy(2)
    await house.until_ready(2)
    assert (await house.ask())[0] == 2
    assert old.closed == 0
    old.gate.set()
    assert [number for number, _ in await asyncio.gather(*calls)] == [1, 1, 1]
    await until(lambda: old.closed == 1)


async def test_a_model_that_came_too_late_is_closed_again(house: House) -> None:
    late = house.put(1)
    gate = house.artifacts.hold(model(1).digest)
    house.deploy(1)
    house.start()
    await until(lambda: house.artifacts.opened)
    house.deploy()
    await until(lambda: house.states() == {})
    gate.set()
    await until(lambda: late.closed == 1)


async def test_aliases_keep_their_own_models_of_one_variant(house: House) -> None:
    for number in (1, 2):
        house.put(number)
    beta = Revision("rev_0", "0.9", "dep_films", (variant("v0", "mod_2"),))
    house.views.show(deployment(variant("v0", "mod_1"), beta=beta), model(1), model(2))
    house.start()
    await until(lambda: list(house.states().values()) == [LoadState.READY] * 2)
    # The new model of `live` cannot be loaded: its old one serves there, not the one that `beta` has.
    house.views.show(deployment(variant("v0", "mod_3"), beta=beta), model(2), model(3))
    await until(lambda: house.states().get(3) is LoadState.FAILED)
    assert ((await house.ask())[0], (await house.ask(alias="beta"))[0]) == (1, 2)
    # The same the other way round.
    beta = replace(beta, variants=(variant("v0", "mod_4"),))
    house.views.show(deployment(variant("v0", "mod_3"), beta=beta), model(3), model(4))
    await until(lambda: house.states().get(4) is LoadState.FAILED)
    assert ((await house.ask())[0], (await house.ask(alias="beta"))[0]) == (1, 2)


async def test_a_call_that_saw_a_change_first_does_not_wait_for_the_task_that_follows(house: House) -> None:
    house.put(1)
    house.deploy(1)
    assert house.following is None
    assert (await house.ask())[0] == 1


@pytest.mark.parametrize("is_sound", [True, False])
async def test_a_process_is_ready_when_its_first_models_are_loaded_or_have_failed(house: House, is_sound: bool) -> None:
    if is_sound:
        house.put(1)
    gate = house.artifacts.hold(model(1).digest)
    house.views.failure = Unavailable("not yet", reason="CATALOG_NOT_READY")
    house.start()
    await until(lambda: house.clock.slept == [0.1])
    house.views.failure = None
    house.deploy(1)
    house.clock.wake()
    await until(lambda: house.artifacts.opened)
    assert not house.ready.is_set()
    gate.set()
    await asyncio.wait_for(house.ready.wait(), 10)


async def test_a_start_waits_for_models_only_so_long(house: House) -> None:
    house.artifacts.hold(model(1).digest)
    house.ready_seconds = 0.05
    house.deploy(1)
    house.start()
    await asyncio.wait_for(house.ready.wait(), 10)
    assert house.states() == {1: LoadState.LOADING}


async def test_a_process_without_models_is_ready_with_its_first_view(house: House) -> None:
    house.deploy()
    house.start()
    await asyncio.wait_for(house.ready.wait(), 10)
