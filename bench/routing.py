"""Routing decisions: `make bench WHAT=routing`.

In this process, without network: `catalog.plan.Planner.decide`, as the executor, the inference service and the router
call it. On: the context parsed from JSON, its members coerced to five declared fields, conditions evaluated, five
variants drawn from, propensity. Off: key, contract, events; `bench.run` measures whole calls. Every decision is
compared with the one that was meant; another fails the run.

Then memory, each time in a process of its own: 10,000 deployments of 5 variants, each with a version of its own, and of
5 rules with conditions of their own over 5 fields, as the registry sends them; before anybody calls them, and when each
has been called twice.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

import psutil

from bench.figures import percentile, table
from bench.jobs import ROOT
from catalog.conditions import read_context
from catalog.convert import change_from_proto
from catalog.plan import KeyKind, Planner
from catalog.targets import Target, resolve
from catalog.view import View
from turnout.chat.v1 import message_pb2
from turnout.registry.v1 import catalog_pb2 as pb
from turnout.registry.v1 import deployment_pb2, routing_pb2

VARIANTS: Final = 5
PLAN_RULES: Final = 5
GOALS_US: Final = {0: 40.0, 5: 40.0, 50: 250.0}
"""By the number of rules."""
MEMORY_GOAL_BYTES: Final = 10_000
"""For a variant, with all that belongs to it."""
KINDS: Final = ("without rules", "rules over the same fields", "rules over fields of their own")

_FIELDS: Final = (
    ("country", routing_pb2.FIELD_KIND_STRING),
    ("age", routing_pb2.FIELD_KIND_NUMBER),
    ("vip", routing_pb2.FIELD_KIND_BOOLEAN),
    ("since", routing_pb2.FIELD_KIND_DATE),
    ("locale", routing_pb2.FIELD_KIND_LIST),
)
_CONTEXT: Final = {
    "country": "DE",
    "age": 31,
    "vip": True,
    "since": "2026-03-01T10:00:00Z",
    "locale": ["de-DE", "de"],
    "page": "/products/42",
}
# Each is false for the context above, at its last step.
_CONDITIONS: Final = (
    'context.country in ["ES", "MX", "X{number}"]',
    "context.vip && context.age >= {number}.5",
    'context.locale.exists(l, l.startsWith("x{number}"))',
    'context.since > timestamp("2026-03-01T10:00:00Z") + duration("{number}h")',
    'present.country && context.country.startsWith("X{number}") || context.age < 0.{number}',
)
_TRUE: Final = "context.vip && context.age >= 30.5"
_SYSTEM: Final = (
    "You are expert {number} on {{{{ country }}}}. Answer questions in {{{{ language }}}}, in at most {{{{ count }}}} "
    "sentences. If you do not know, say so; never invent names, numbers or dates."
)


@dataclass(frozen=True, slots=True)
class Row:
    """What decisions of one kind took."""

    name: str
    rules: int
    p50_us: float
    p99_us: float
    cpu_us: float
    """Of one, on average."""
    first_us: float
    """The very first, which compiles the conditions that it asks; the event loop does nothing else meanwhile."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What plans hold, in bytes of resident memory for each variant, and what calling them takes."""

    kind: str
    uncalled: float
    called: float
    """When each has been called twice."""
    first_us: float
    """The median first decision, which compiles."""
    again_us: float
    """The median second, after all the others."""


def entries(number: int, *, rules: int, matching: int | None = None, own_fields: bool = False) -> list[pb.CatalogEntry]:
    """A deployment `d<number>` and its versions, as the registry sends them.

    :param matching: place of the rule that is true for the benchmark's context; None: none is
    :param own_fields: whether no other deployment declares fields of the same names
    """
    deployment = pb.CatalogDeployment(uid=f"dep_{number:026}", project="prj_bench", slug=f"d{number}")
    deployment.kind = deployment_pb2.DEPLOYMENT_KIND_COMPLETION
    revision = deployment.revisions.add(uid=f"rev_{number:026}", number="1.0", salt=deployment.uid)
    deployment.aliases.add(alias="live", revision=revision.uid)
    sent = []
    for place in range(VARIANTS):
        serial = number * VARIANTS + place
        uid, slug = f"var_{serial:026}", f"variant-{place}"
        variant = revision.variants.add(
            uid=uid, number=serial + 1, slug=slug, display_name=slug, active=True, weight=12.5 * (place + 1)
        )
        variant.completion.version = f"{serial:032}"
        version = pb.CatalogVersion(project="prj_bench")
        version.version.uid, version.version.provider = variant.completion.version, f"prv_{0:026}"
        version.version.model = "bench-model"
        version.version.messages.add(role=message_pb2.ROLE_SYSTEM, content=_SYSTEM.format(number=serial))
        sent.append(pb.CatalogEntry(key=f"version/prj_bench/{version.version.uid}", version=version))
    suffix = f"_{number}" if own_fields else ""
    for name, kind in _FIELDS if rules else ():
        revision.routing.fields.add(name=name + suffix, kind=kind)
    for place in range(rules):
        # From 32 on, so that nobody in the context is as old, and no two conditions are equal.
        text = _CONDITIONS[place % len(_CONDITIONS)].format(number=32 + number * rules + place)
        text = _TRUE if place == matching else text
        for name, _ in _FIELDS if own_fields else ():
            text = text.replace(f".{name}", f".{name}{suffix}")
        rule = revision.routing.rules.add(uid=f"rul_{number:020}{place:06}", display_name=f"Rule {place}", active=True)
        rule.condition = text
        for share in range(2):
            chosen = revision.variants[(place + share) % VARIANTS].uid
            rule.split.shares.add(variant=chosen, weight=50)
    return [*sent, pb.CatalogEntry(key=f"deployment/{deployment.uid}", deployment=deployment)]


def project() -> pb.CatalogEntry:
    """The deployments' own."""
    return pb.CatalogEntry(key="project/prj_bench", project=pb.CatalogProject(uid="prj_bench", number=1, slug="bench"))


async def decisions(name: str, count: int, *, rules: int, matching: int | None, context: str) -> Row:
    """Decide again and again, each time for another unit."""
    sent = [project(), *entries(0, rules=rules, matching=matching)]
    target = resolve(View().with_changes(1, map(change_from_proto, sent)), "d0", tenant="prj_bench")
    planner, expected = Planner(), None if matching is None else target.revision.routing.rules[matching].uid
    keys = [f"user-{number}" for number in range(1000)]
    began = time.perf_counter_ns()
    await planner.decide(target, KeyKind.ROUTING_KEY, "first", read_context(context))
    first_us = (time.perf_counter_ns() - began) / 1000
    for key in keys:
        await planner.decide(target, KeyKind.ROUTING_KEY, key, read_context(context))
    taken: list[float] = []
    cpu = time.process_time()
    for number in range(count):
        key = keys[number % len(keys)]
        began = time.perf_counter_ns()
        decision = await planner.decide(target, KeyKind.ROUTING_KEY, key, read_context(context))
        taken.append((time.perf_counter_ns() - began) / 1000)
        if (decision.rule.uid if decision.rule else None) != expected:
            raise AssertionError(f"{name}: another rule matched than was meant")
    cpu = time.process_time() - cpu
    taken.sort()
    return Row(name, rules, percentile(taken, 0.5), percentile(taken, 0.99), cpu / count * 1e6, first_us)


async def all_decisions(count: int) -> list[Row]:
    """Every kind."""
    context = json.dumps(_CONTEXT)
    # Loads CEL.
    await decisions("warm", 1, rules=1, matching=0, context=context)
    rows = [
        await decisions("no rules, no context", count, rules=0, matching=None, context=""),
        await decisions("no rules", count, rules=0, matching=None, context=context),
    ]
    for rules in (5, 50):
        for name, matching in (("the first matches", 0), ("the last matches", rules - 1), ("none matches", None)):
            row = await decisions(f"{rules} rules, {name}", count, rules=rules, matching=matching, context=context)
            rows.append(row)
    return rows


async def hold(kind: str, plans: int) -> Memory:
    """Take so many plans into a view, then call each once, and again."""
    rules, own_fields = (0 if kind == KINDS[0] else PLAN_RULES), kind == KINDS[2]
    view = View().with_changes(1, [change_from_proto(_sent(project()))])
    # Loads what every process loads.
    warm = View().with_changes(1, map(change_from_proto, [project(), *entries(plans, rules=0)]))
    await Planner().decide(resolve(warm, f"d{plans}", tenant="prj_bench"), KeyKind.ROUTING_KEY, "warm")
    before = _resident_bytes()
    for start in range(0, plans, 100):
        numbers = range(start, min(start + 100, plans))
        changes = [
            change_from_proto(_sent(entry))
            for number in numbers
            for entry in entries(number, rules=rules, own_fields=own_fields)
        ]
        view = view.with_changes(2 + start, changes)
    uncalled = _resident_bytes()
    planner = Planner()
    first: list[float] = []
    again: list[float] = []
    for taken in (first, again):
        for number in range(plans):
            suffix = f"_{number}" if own_fields else ""
            context = json.dumps({name + suffix: value for name, value in _CONTEXT.items()})
            target: Target = resolve(view, f"d{number}", tenant="prj_bench")
            began = time.perf_counter_ns()
            decision = await planner.decide(target, KeyKind.ROUTING_KEY, "user-1", read_context(context))
            taken.append((time.perf_counter_ns() - began) / 1000)
            if decision.rule is not None:
                raise AssertionError("a rule matched that should not")
    called, variants = _resident_bytes(), plans * VARIANTS
    medians = (percentile(sorted(taken), 0.5) for taken in (first, again))
    return Memory(kind, (uncalled - before) / variants, (called - before) / variants, *medians)


def _sent(entry: pb.CatalogEntry) -> pb.CatalogEntry:
    """As it comes from the network."""
    return pb.CatalogEntry.FromString(entry.SerializeToString())


def _resident_bytes() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def held_elsewhere(kind: str, plans: int) -> Memory:
    """What :func:`hold` finds in a fresh process."""
    command = [sys.executable, "-m", "bench.routing", "--plans", str(plans), "--hold", kind]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return Memory(**json.loads(done.stdout))


def report(rows: Sequence[Row], memories: Sequence[Memory], options: argparse.Namespace) -> None:
    """Print for people."""
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(
        f"{options.decisions:,} decisions each, {VARIANTS} variants, 5 fields, a context of 6 members; in the process\n"
    )
    lines = [
        [row.name, *(f"{us:.1f}" for us in (row.p50_us, row.p99_us, row.cpu_us)), f"{goal:.0f}", f"{row.first_us:,.0f}"]
        for row in rows
        for goal in [GOALS_US[row.rules]]
    ]
    print(table(["", "p50 µs", "p99 µs", "CPU µs", "goal µs", "first µs"], lines))
    print(f"\n{options.plans:,} deployments × {VARIANTS} variants with a version each, bytes of memory a variant:\n")
    lines = [
        [
            held.kind,
            f"{held.uncalled:,.0f}",
            f"{held.called:,.0f}",
            f"{MEMORY_GOAL_BYTES:,}",
            f"{held.first_us:,.0f}",
            f"{held.again_us:,.0f}",
        ]
        for held in memories
    ]
    print(table(["", "uncalled", "all called", "goal", "first call µs", "second µs"], lines))
    print(f"\nload of the machine in the last minute: {os.getloadavg()[0]:.1f}")


def main() -> int:
    """Measure and print; goals stand beside the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.routing", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--decisions", type=int, default=20_000, help="of each kind (default 20000)")
    parser.add_argument("--plans", type=int, default=10_000, help="how many are held in memory (default 10000)")
    parser.add_argument("--hold", choices=KINDS, help="only hold plans of one kind, and say so as JSON")
    options = parser.parse_args()
    if options.hold:
        print(json.dumps(asdict(asyncio.run(hold(options.hold, options.plans)))))
        return 0
    rows = asyncio.run(all_decisions(options.decisions))
    report(rows, [held_elsewhere(kind, options.plans) for kind in KINDS], options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
