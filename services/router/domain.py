"""What is asked of the router, and what it finds. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from catalog import plan
from catalog.explain import Candidate, RuleTrace
from catalog.plan import Decision, KeyKind, Refusal
from catalog.routing import Rule
from catalog.targets import Target
from catalog.view import Revision, Variant
from kit.values import Value

DEFAULT_PREFIX: Final = "unit-"
"""How the keys of made-up units begin."""


class Unit(Value):
    """What a decision depends on, but for the deployment. Texts are as sent."""

    context_json: str = ""
    routing_key: str = ""
    identity: str = ""
    thread: str = ""
    user: str = ""
    request_id: str = ""
    """Of a call that was served, to repeat it; empty: a new one."""

    def key(self, request_id: str) -> tuple[KeyKind, str]:
        """What the choice of variant sticks to.

        :param request_id: that which is hashed if there is nothing else
        """
        return plan.choose_key(
            request_id=request_id,
            routing_key=self.routing_key,
            identity=self.identity,
            thread=self.thread,
            user=self.user,
        )


class Population(Value):
    """Made-up units, with the keys `<prefix>0`, `<prefix>1` and so on."""

    size: int
    prefix: str
    contexts_json: tuple[str, ...]
    """In turn; none means the empty one."""


class Experiment(Value):
    """What is to be tried, and who asks."""

    deployment: str
    revision: str
    """Number, uid or alias; empty: the target's own."""
    compared_revision: str
    """Number, uid or alias; empty: no comparison."""
    unit_count: int
    units: Iterable[Unit]
    """So many; made as they are taken, since they are many."""
    population: Population | None
    tenant: str
    """uid of the key's project; empty for platform keys."""
    key_id: str
    trace_id: str
    """W3C, 32 hexadecimal digits."""
    deadline: float
    """On the clock of `ports.Clock.now`."""

    @property
    def size(self) -> int:
        """How many are decided."""
        return self.unit_count + (0 if self.population is None else self.population.size)

    @property
    def is_single(self) -> bool:
        """Whether it is exactly one call, whose way is shown and whose decision is recorded."""
        return self.unit_count == 1 and self.population is None


@dataclass(frozen=True, slots=True)
class Trace:
    """How one call came to its decision."""

    request_id: str
    """Under which the log keeps it."""
    unit: Unit
    target: Target
    """With the revision that was tried, and the alias that points to it; empty if that is none that was asked for."""
    key: str
    decision: Decision | None
    refusal: Refusal | None
    """What was decided if there is no decision."""
    reason: str
    """UPPER_SNAKE; empty unless it would be refused."""
    message: str
    """A sentence; as `reason`."""
    rules: tuple[RuleTrace, ...]
    coverage_draw: float
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Simulated:
    """A single call that was tried, for the log."""

    trace: Trace
    start_unix_ns: int
    latency_us: int
    key_id: str
    trace_id: str


@dataclass(frozen=True, slots=True)
class Share:
    """What a variant would serve."""

    variant: Variant
    count: int
    expected_count: float
    """The sum of its propensities over the same calls."""


@dataclass(frozen=True, slots=True)
class Movement:
    """How many would be served by one variant after another, or stay; None are those who are refused."""

    before: Variant | None
    after: Variant | None
    count: int

    @property
    def is_move(self) -> bool:
        """Whether they do not stay."""
        return (self.before and self.before.uid) != (self.after and self.after.uid)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Who would move, from the decisions of another revision."""

    revision: Revision
    movements: tuple[Movement, ...]
    """The largest first."""

    @property
    def moved_count(self) -> int:
        """How many would."""
        return sum(movement.count for movement in self.movements if movement.is_move)


@dataclass(frozen=True, slots=True)
class Simulation:
    """What would be."""

    revision: Revision
    trace: Trace | None
    decided_count: int
    shares: tuple[Share, ...]
    """Of every variant of the revision, in its order."""
    rules: tuple[tuple[Rule, int], ...]
    """How many each rule decided, in their order: those that nothing could serve, and those outside coverage, too."""
    outside_count: int
    refused_count: int
    comparison: Comparison | None

    @property
    def matched_count(self) -> int:
        """How many were decided by a rule."""
        return sum(count for _, count in self.rules)
