from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import pytest

from catalog.conditions import Field, FieldKind
from catalog.plan import Evaluation, KeyKind
from catalog.routing import Routing, Rule, Share
from catalog.rules import Compiler
from catalog.targets import Target
from catalog.view import Completion, Deployment, DeploymentKind, Project, Revision, Variant, View
from kit.clock import SystemClock
from kit.errors import Deadline, Exhausted, Invalid, NotFound, Unavailable
from kit.values import replace
from services.router.application.simulating import Simulator
from services.router.domain import Experiment, Population, Simulated, Simulation, Unit

COUNTRY = (Field("country", FieldKind.STRING),)
SPANISH = '{"country": "ES"}'


def variant(slug: str, weight: float = 100, *, active: bool = True) -> Variant:
    return Variant(f"var_{slug}", 1, slug, "", active, weight, Completion("ver_1", 0, None))


def revision(uid: str, number: str, *variants: Variant, **routing: Any) -> Revision:
    return Revision(uid, number, "dep_1", variants, Routing(COUNTRY, **routing))


def rule(condition: str, *shares: Share, uid: str = "rul_1") -> Rule:
    return Rule(uid, "Spain", condition, True, shares)


@dataclass
class Room:
    """A simulator with all that it needs, without a server."""

    live: Revision
    others: dict[str, Revision] = field(default_factory=dict)
    recorded: list[Simulated] = field(default_factory=list)
    asked: list[tuple[str, float]] = field(default_factory=list)
    is_full: bool = False
    aliases: dict[str, Revision] = field(default_factory=dict)
    clock: Any = field(default_factory=SystemClock)

    def usable_view(self) -> View:
        aliases = MappingProxyType({"live": self.live, **self.aliases})
        deployment = Deployment("dep_1", "prj_1", "agent", DeploymentKind.COMPLETION, aliases)
        changes = (("project/prj_1", Project("prj_1", 1, "shop")), ("deployment/dep_1", deployment))
        return View().with_changes(1, changes)

    async def revision(self, target: Target, segment: str, timeout_seconds: float) -> Revision:
        self.asked.append((segment, timeout_seconds))
        if segment not in self.others:
            raise NotFound("there is no such revision", reason="REVISION_NOT_FOUND")
        return self.others[segment]

    def record(self, simulated: Simulated) -> None:
        if self.is_full:
            raise Unavailable("the event spool is full", reason="SPOOL_FULL")
        self.recorded.append(simulated)

    def simulator(self, max_running: int = 2) -> Simulator:
        return Simulator(self, self, Compiler(), self, self.clock, counting(), max_running)

    async def simulate(self, *units: Unit, **rest: Any) -> Simulation:
        return await self.simulator().simulate(experiment(*units, **rest))


def experiment(*units: Unit, seconds: float = 30, **rest: Any) -> Experiment:
    made = Experiment(
        deployment="agent",
        revision="",
        compared_revision="",
        unit_count=len(units),
        units=iter(units),
        population=None,
        tenant="prj_1",
        key_id="key",
        trace_id="t" * 32,
        deadline=SystemClock().now() + seconds,
    )
    return replace(made, **rest)


def population(size: int, *contexts: str) -> Population:
    return Population(size, "unit-", contexts)


def counting() -> Callable[[str], str]:
    numbers = itertools.count()
    return lambda kind: f"{kind}_{next(numbers)}"


def counts(simulation: Simulation) -> dict[str, int]:
    return {share.variant.slug: share.count for share in simulation.shares}


def moves(simulation: Simulation) -> list[tuple[str, str]]:
    assert simulation.comparison is not None
    return [
        (each.before.slug if each.before else "", each.after.slug if each.after else "")
        for each in simulation.comparison.movements
    ]


async def test_one_call_is_shown_the_whole_way_and_recorded() -> None:
    spain = rule('context.country == "ES"', Share("var_b", 100))
    room = Room(revision("rev_1", "1.0", variant("a"), variant("b", 0), rules=(spain,)))

    simulation = await room.simulate(Unit(context_json=SPANISH, user="ada"))

    trace = simulation.trace
    assert trace is not None
    assert trace.decision is not None
    assert (trace.decision.variant.slug, trace.decision.evaluation, trace.decision.rule) == (
        "b",
        Evaluation.MATCHED,
        spain,
    )
    assert (trace.key, trace.decision.key_kind, trace.refusal, trace.message) == ("ada", KeyKind.USER, None, "")
    assert [each.variant.slug for each in trace.candidates] == ["b"]
    assert (simulation.decided_count, counts(simulation), simulation.matched_count) == (1, {"a": 0, "b": 1}, 1)
    (recorded,) = room.recorded
    assert recorded.trace is trace
    assert (recorded.key_id, recorded.trace_id) == ("key", "t" * 32)
    assert recorded.latency_us >= 0


async def test_a_call_that_would_be_refused_is_shown_and_recorded_too() -> None:
    room = Room(revision("rev_1", "1.0", variant("a", 0)))

    simulation = await room.simulate(Unit())

    assert simulation.trace is not None
    assert simulation.trace.decision is None
    assert "no active variant" in simulation.trace.message
    assert simulation.refused_count == 1
    [recorded] = room.recorded
    assert recorded.trace.reason == "NO_ACTIVE_VARIANT"
    assert recorded.trace.refusal is not None
    assert (recorded.trace.refusal.evaluation, recorded.trace.refusal.rule) == (Evaluation.DEFAULT_MATCHED, None)


@pytest.mark.parametrize("weight", [100, 0])
@pytest.mark.parametrize(
    ("wanted", "alias"),
    [
        ("", "live"),
        ("live", "live"),
        ("1.0", "live"),
        ("rev_1", "live"),
        ("beta", "beta"),
        ("same", "same"),
        ("2.0", ""),
        ("rev_2", ""),
        ("0.9", ""),
    ],
)
async def test_the_alias_of_what_is_tried_is_one_that_was_asked_for_and_points_there(
    wanted: str, alias: str, weight: float
) -> None:
    live = revision("rev_1", "1.0", variant("a", weight))
    room = Room(
        live,
        aliases={"beta": revision("rev_2", "2.0", variant("b", weight)), "same": live},
        others={"0.9": revision("rev_0", "0.9", variant("old", weight))},
    )

    await room.simulate(Unit(), revision=wanted, compared_revision="beta")

    [recorded] = room.recorded
    decided = recorded.trace.decision or recorded.trace.refusal
    assert decided is not None
    assert recorded.trace.target.alias == decided.target.alias == alias


async def test_a_decision_that_cannot_be_recorded_is_not_told() -> None:
    room = Room(revision("rev_1", "1.0", variant("a")), is_full=True)
    with pytest.raises(Unavailable) as failure:
        await room.simulate(Unit())
    assert failure.value.reason == "SPOOL_FULL"


async def test_many_calls_are_counted_and_not_recorded() -> None:
    spain = rule('context.country == "ES"', Share("var_b", 100))
    idle = rule("false", Share("var_a", 100), uid="rul_2")
    room = Room(revision("rev_1", "1.0", variant("a"), variant("b", 0), rules=(spain, idle)), is_full=True)

    simulation = await room.simulate(
        Unit(context_json=SPANISH),
        Unit(),
        Unit(context_json='{"country": "DE"}'),
        population=population(6, SPANISH, ""),
    )

    assert simulation.trace is None
    assert (simulation.decided_count, simulation.matched_count) == (9, 4)
    assert counts(simulation) == {"a": 5, "b": 4}
    assert [(each.uid, count) for each, count in simulation.rules] == [("rul_1", 4), ("rul_2", 0)]


async def test_shares_come_to_the_expected_ones() -> None:
    split = rule('context.country == "ES"', Share("var_a", 1), Share("var_b", 3))
    room = Room(
        revision(
            "rev_1", "1.0", variant("a", 6), variant("b", 2), variant("base", 0), rules=(split,), coverage=0.8,
            baseline="var_base",
        )
    )  # fmt: skip
    total = 30_000

    simulation = await room.simulate(population=population(total, SPANISH, "", ""))

    expected = {"a": 0.8 * (1 / 4 + 2 * 3 / 4) / 3, "b": 0.8 * (3 / 4 + 2 / 4) / 3, "base": 0.2}
    for share in simulation.shares:
        chance = expected[share.variant.slug]
        assert math.isclose(share.expected_count, chance * total)
        assert abs(share.count - chance * total) < 4 * math.sqrt(chance * (1 - chance) * total)
    assert sum(counts(simulation).values()) == total
    assert counts(simulation)["base"] == simulation.outside_count


async def test_those_whom_nobody_could_serve_are_in_no_share() -> None:
    off = variant("base", active=False)
    room = Room(revision("rev_1", "1.0", variant("a"), off, coverage=0.5, baseline="var_base"))

    simulation = await room.simulate(population=population(1000))

    assert simulation.refused_count == simulation.outside_count > 400
    assert counts(simulation) == {"a": 1000 - simulation.refused_count, "base": 0}
    assert [share.expected_count for share in simulation.shares] == [500, 0]


async def test_a_comparison_says_who_moves_and_who_stays() -> None:
    room = Room(
        revision("rev_2", "1.1", variant("a", 60), variant("c", 40)),
        aliases={"beta": revision("rev_1", "1.0", variant("a", 50), variant("b", 50))},
    )

    simulation = await room.simulate(population=population(4000), compared_revision="beta")

    comparison = simulation.comparison
    assert comparison is not None
    assert comparison.revision.uid == "rev_1"
    assert set(moves(simulation)) == {("a", "a"), ("a", "c"), ("b", "a"), ("b", "c")}
    sizes = [movement.count for movement in comparison.movements]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) == 4000
    stay = next(each.count for each in comparison.movements if not each.is_move)
    assert comparison.moved_count == 4000 - stay
    after = sum(each.count for each in comparison.movements if each.after and each.after.slug == "c")
    assert after == counts(simulation)["c"]


async def test_a_raised_weight_moves_units_to_that_variant_only() -> None:
    room = Room(
        revision("rev_2", "1.1", variant("a", 50), variant("b", 90), variant("c", 10)),
        aliases={"before": revision("rev_1", "1.0", variant("a", 50), variant("b", 50), variant("c", 10))},
    )
    simulation = await room.simulate(population=population(3000), compared_revision="before")
    assert {after for before, after in moves(simulation) if before != after} == {"b"}


async def test_whoever_is_refused_moves_from_and_to_nothing() -> None:
    served, closed = revision("rev_1", "1.0", variant("a")), revision("rev_2", "1.1", variant("a", 0))
    room = Room(served, aliases={"closed": closed})

    opened = await room.simulate(population=population(10), compared_revision="closed")
    shut = await room.simulate(population=population(10), revision="closed", compared_revision="live")
    both = await room.simulate(population=population(10), revision="closed", compared_revision="closed")

    assert (moves(opened), moves(shut), moves(both)) == ([("", "a")], [("a", "")], [("", "")])
    assert [each.comparison.moved_count for each in (opened, shut, both) if each.comparison] == [10, 10, 0]


async def test_a_revision_that_an_alias_points_to_is_known_here() -> None:
    room = Room(revision("rev_1", "1.0", variant("a")), aliases={"beta": revision("rev_2", "2.0", variant("b"))})
    for segment in ("rev_2", "2.0"):
        simulation = await room.simulate(Unit(), revision=segment, compared_revision="1.0")
        assert (simulation.revision.uid, moves(simulation)) == ("rev_2", [("a", "b")])
    assert room.asked == []


async def test_any_other_revision_is_the_registrys_within_the_deadline() -> None:
    room = Room(revision("rev_1", "1.0", variant("a")), others={"0.9": revision("rev_0", "0.9", variant("old"))})

    simulation = await room.simulate(Unit(), revision="0.9", seconds=3)

    assert counts(simulation) == {"old": 1}
    assert simulation.trace is not None
    assert simulation.trace.decision is not None
    assert simulation.trace.decision.target.revision.uid == "rev_0"
    ((segment, seconds),) = room.asked
    assert segment == "0.9"
    assert 0 < seconds <= 3
    with pytest.raises(NotFound):
        await room.simulate(Unit(), compared_revision="7.0")


@pytest.mark.parametrize(
    ("units", "population", "path"),
    [
        ((Unit(context_json="["),), None, "calls[0].context_json"),
        ((Unit(), Unit(), Unit(), Unit(context_json="[]")), None, "calls[3].context_json"),
        ((Unit(), Unit(thread="\0")), None, "calls[1].thread"),
        ((), Population(1, "u", ("", "{}", "!")), "population.contexts_json[2]"),
        ((), Population(1, "\0", ()), "population.prefix"),
    ],
)
async def test_what_route_would_refuse_is_refused_with_its_path(
    units: tuple[Unit, ...], population: Population | None, path: str
) -> None:
    with pytest.raises(Invalid) as failure:
        await Room(revision("rev_1", "1.0", variant("a"))).simulate(*units, population=population)
    assert [violation.field for violation in failure.value.violations] == [path]


async def test_a_call_without_a_key_is_decided_by_the_request_that_it_repeats() -> None:
    room = Room(revision("rev_1", "1.0", variant("a"), variant("b")))

    simulation = await room.simulate(Unit(request_id="req_" + "0" * 26))

    assert simulation.trace is not None
    assert simulation.trace.key == "req_" + "0" * 26
    # Two records of one name would count as one.
    assert simulation.trace.request_id == "req_0"


class Turned:
    """A clock whose turns a test counts and may hold."""

    def __init__(self) -> None:
        self.turns = 0
        self.held: asyncio.Event | None = None
        self.reached = asyncio.Event()

    def now(self) -> float:
        # Every look at the clock is past the slice.
        self.turns += 1
        return float(self.turns)

    def unix_ns(self) -> int:
        return 0

    async def sleep(self, seconds: float) -> None:
        self.reached.set()
        await (asyncio.sleep(seconds) if self.held is None else self.held.wait())


async def test_no_more_simulate_at_a_time_than_may_and_single_calls_always_do() -> None:
    room = Room(revision("rev_1", "1.0", variant("a")), clock=(clock := Turned()))
    clock.held = asyncio.Event()
    simulator = room.simulator(max_running=1)
    many: dict[str, Any] = {"population": population(100), "deadline": 1e9}
    running = asyncio.create_task(simulator.simulate(experiment(**many)))
    await clock.reached.wait()

    with pytest.raises(Exhausted) as failure:
        await simulator.simulate(experiment(**many))
    assert (failure.value.reason, failure.value.retry_after_seconds) == ("SIMULATOR_BUSY", 1.0)
    single = await simulator.simulate(experiment(Unit(), deadline=1e9))
    assert single.decided_count == 1

    clock.held.set()
    assert (await running).decided_count == 100
    assert (await simulator.simulate(experiment(**many))).decided_count == 100


async def test_a_simulation_that_nobody_waits_for_ends_and_makes_room() -> None:
    room = Room(revision("rev_1", "1.0", variant("a")), clock=(clock := Turned()))
    clock.held = asyncio.Event()
    simulator = room.simulator(max_running=1)
    running = asyncio.create_task(simulator.simulate(experiment(population=population(100), deadline=1e9)))
    await clock.reached.wait()

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    clock.held = None
    assert (await simulator.simulate(experiment(population=population(3), deadline=1e9))).decided_count == 3


async def test_a_simulation_ends_with_its_deadline() -> None:
    room = Room(revision("rev_1", "1.0", *(variant(f"v{n}") for n in range(100))))
    with pytest.raises(Deadline) as failure:
        await room.simulate(population=population(100_000), seconds=0.05)
    assert failure.value.reason == "DEADLINE_EXCEEDED"
