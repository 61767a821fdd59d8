"""Routing: a decision alone, by the rules that run where calls are served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from catalog import targets
from catalog.conditions import read_context
from catalog.plan import Decision, Planner
from catalog.view import View
from kit.errors import AppError
from services.router import inputs
from services.router.application.places import Places
from services.router.application.slices import Slices
from services.router.domain import Unit
from services.router.ports import Clock, Ids, Views

_SMALL_BATCH: Final = 10


@dataclass(frozen=True, slots=True)
class Router:
    """Decides."""

    catalog: Views
    planner: Planner
    """Of single calls."""
    batch_planner: Planner
    """Of many: without a span for each."""
    clock: Clock
    new_uid: Ids
    places: Places
    """Of batches that are under way at a time, but for small ones."""

    async def route(self, deployment: str, unit: Unit, *, tenant: str) -> Decision:
        """Which variant serves a call to `deployment` that says this, at the newest state that is known here.

        A call that gives no key is decided as one call of many would be: by a request id of its own.

        :param tenant: uid of the project whose key calls; empty for platform keys
        :raises NotFound: `DEPLOYMENT_NOT_FOUND`, `ALIAS_NOT_FOUND`, `PROJECT_NOT_FOUND`
        :raises Invalid: `TARGET_NEEDS_PROJECT`; what `inputs` refuses
        :raises Precondition: `NO_ACTIVE_VARIANT`
        """
        return await self._route(self.planner, self.catalog.usable_view(), deployment, unit, tenant)

    async def batch_route(self, calls: Sequence[tuple[str, Unit]], *, tenant: str) -> list[Decision | AppError]:
        """As `route` for each, all at one state; what one raises stands in its place.

        :param calls: deployments, each with what the call says
        :raises Exhausted: `ROUTER_BUSY`
        """
        if len(calls) <= _SMALL_BATCH:
            return await self._decided(calls, tenant)
        with self.places.one():
            return await self._decided(calls, tenant)

    async def _decided(self, calls: Sequence[tuple[str, Unit]], tenant: str) -> list[Decision | AppError]:
        seen, slices = self.catalog.usable_view(), Slices(self.clock)
        found: list[Decision | AppError] = []
        for deployment, unit in calls:
            try:
                found.append(await self._route(self.batch_planner, seen, deployment, unit, tenant))
            except AppError as error:
                found.append(error)
            if slices.is_over:
                await slices.pause()
        return found

    async def _route(self, planner: Planner, seen: View, deployment: str, unit: Unit, tenant: str) -> Decision:
        target = targets.resolve(seen, deployment, tenant=tenant)
        inputs.check_texts(unit)
        context = read_context(unit.context_json)
        key_kind, key = unit.key(self.new_uid("req"))
        return await planner.decide(target, key_kind, key, context)
