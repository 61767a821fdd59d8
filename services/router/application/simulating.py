"""Simulating: how calls would be decided, by any revision, and who would move."""

from __future__ import annotations

import asyncio
from typing import Final

from catalog import explain, plan, targets
from catalog.conditions import read_context
from catalog.explain import Explainer
from catalog.plan import Decision, NothingActive, Refusal
from catalog.routing import Rule
from catalog.rules import Compiler, Context
from catalog.targets import Target
from catalog.view import Revision
from kit import storable
from kit.errors import Deadline
from kit.values import replace
from services.router import inputs
from services.router.application.places import Places
from services.router.application.slices import Slices
from services.router.application.tally import Tally, Trial
from services.router.domain import Experiment, Population, Simulated, Simulation, Trace, Unit
from services.router.ports import Clock, Ids, Recorder, Registry, Views

REGISTRY_SECONDS: Final = 5.0
"""How long the registry may take to tell a revision."""


class Simulator:
    """Tries decisions out.

    :param max_running: how many simulations of more than one call are under way at a time
    """

    def __init__(
        self,
        catalog: Views,
        registry: Registry,
        compiler: Compiler,
        recorder: Recorder,
        clock: Clock,
        new_uid: Ids,
        max_running: int,
    ) -> None:
        self._catalog = catalog
        self._registry = registry
        self._compiler = compiler
        self._explainer = Explainer()
        self._recorder = recorder
        self._clock = clock
        self._new_uid = new_uid
        self._places = Places(max_running, what="simulates", reason="SIMULATOR_BUSY")

    async def simulate(self, wanted: Experiment) -> Simulation:
        """What would be, at the newest state that is known here.

        A single call's decision is recorded before anybody hears of it.

        :raises NotFound: `DEPLOYMENT_NOT_FOUND`, `ALIAS_NOT_FOUND`, `PROJECT_NOT_FOUND`, `REVISION_NOT_FOUND`
        :raises Invalid: `TARGET_NEEDS_PROJECT`; what `inputs` refuses, with the path
        :raises Exhausted: `SIMULATOR_BUSY`
        :raises Unavailable: `SPOOL_FULL`; whatever keeps the registry from answering
        :raises Deadline: `DEADLINE_EXCEEDED`
        """
        try:
            async with asyncio.timeout(wanted.deadline - self._clock.now()):
                if wanted.is_single:
                    return await self._single(wanted)
                with self._places.one():
                    return await self._many(wanted)
        except TimeoutError:
            raise Deadline(
                "the deadline passed; allow more time or ask for fewer units", reason="DEADLINE_EXCEEDED"
            ) from None

    async def _single(self, wanted: Experiment) -> Simulation:
        started, start_unix_ns = self._clock.now(), self._clock.unix_ns()
        (unit,) = wanted.units
        inputs.check_texts(unit, "calls[0].")
        context = read_context(unit.context_json, field="calls[0].context_json")
        target, trial, slices = await self._prepared(wanted)
        await trial.meet(unit.context_json, context)
        trace = await self._trace(target, unit, context, trial.rule(unit.context_json), slices)
        trial.add(unit.context_json, trace.key)
        latency_us = max(0, int((self._clock.now() - started) * 1e6))
        self._recorder.record(Simulated(trace, start_unix_ns, latency_us, wanted.key_id, wanted.trace_id))
        return trial.result(trace)

    async def _many(self, wanted: Experiment) -> Simulation:
        _, trial, slices = await self._prepared(wanted)
        met: set[str] = set()
        for index, unit in enumerate(wanted.units):
            path = f"calls[{index}]."
            inputs.check_texts(unit, path)
            text = unit.context_json
            if text not in met:
                await trial.meet(text, read_context(text, field=f"{path}context_json"))
                met.add(text)
            _, key = unit.key(unit.request_id or self._new_uid("req"))
            trial.add(text, key)
            if slices.is_over:
                await slices.pause()
        if wanted.population is not None:
            await self._populate(trial, wanted.population, slices)
        # Between many variants there may be 40,000 movements.
        return await asyncio.to_thread(trial.result)

    async def _populate(self, trial: Trial, population: Population, slices: Slices) -> None:
        storable.check_texts((("population.prefix", population.prefix),))
        texts = population.contexts_json or ("",)
        for index, text in enumerate(texts):
            await trial.meet(text, read_context(text, field=f"population.contexts_json[{index}]"))
        for number in range(population.size):
            trial.add(texts[number % len(texts)], f"{population.prefix}{number}")
            if slices.is_over:
                await slices.pause()

    async def _prepared(self, wanted: Experiment) -> tuple[Target, Trial, Slices]:
        """The target with the revision that is tried, and the trial."""
        target = targets.resolve(self._catalog.usable_view(), wanted.deployment, tenant=wanted.tenant)
        tried = await self._tried(target, wanted.revision, wanted.deadline) if wanted.revision else target
        compared = (
            await self._revision(target, wanted.compared_revision, wanted.deadline)
            if wanted.compared_revision
            else None
        )
        before = None if compared is None else Tally(self._compiler, replace(target, revision=compared))
        return tried, Trial(Tally(self._compiler, tried), before), Slices(self._clock)

    async def _tried(self, target: Target, segment: str, deadline: float) -> Target:
        """With another revision, and the alias that was asked for if it points there; else without one."""
        revision = await self._revision(target, segment, deadline)
        aliases = target.deployment.aliases
        alias = segment if segment in aliases else target.alias
        return replace(target, revision=revision, alias=alias if aliases[alias].uid == revision.uid else "")

    async def _revision(self, target: Target, segment: str, deadline: float) -> Revision:
        """By alias, number or uid: here if an alias points to it, else as the registry keeps it."""
        aliases = target.deployment.aliases
        if segment in aliases:
            return aliases[segment]
        for revision in aliases.values():
            if segment in (revision.uid, revision.number):
                return revision
        return await self._registry.revision(target, segment, min(REGISTRY_SECONDS, deadline - self._clock.now()))

    async def _trace(self, target: Target, unit: Unit, context: Context, rule: Rule | None, slices: Slices) -> Trace:
        request_id = self._new_uid("req")
        key_kind, key = unit.key(unit.request_id or request_id)
        revision, deployment = target.revision, target.deployment.uid
        decision: Decision | None = None
        refusal: Refusal | None = None
        reason = message = ""
        try:
            decision = plan.decide(target, key_kind, key, rule)
        except NothingActive as error:
            refusal, reason, message = error.refusal, error.reason, error.message
        choice = plan.choose(revision, deployment, key, rule)
        rules = []
        for traced in self._explainer.rules(revision, choice, context):
            rules.append(traced)
            if slices.is_over:
                await slices.pause()
        return Trace(
            request_id=request_id,
            unit=unit,
            target=target,
            key=key,
            decision=decision,
            refusal=refusal,
            reason=reason,
            message=message,
            rules=tuple(rules),
            coverage_draw=explain.coverage_draw(revision, deployment, key),
            candidates=explain.candidates_of(revision, choice, key),
        )
