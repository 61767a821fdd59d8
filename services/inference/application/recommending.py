"""Recommending: from a call to an answer, and a record of it whatever happens."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from catalog import plan, targets, view
from catalog.conditions import read_context
from catalog.view import DeploymentKind, UnknownUsers
from kit import ids
from kit.errors import AppError, Deadline, NotFound, Precondition
from recommenders.scoring import Query
from services.inference import domain, inputs
from services.inference.application.models import Models
from services.inference.application.projects import find_project
from services.inference.domain import LoadedModel, Recommendation, RecommendCall, Status
from services.inference.ports import Clock, Recorder, Views

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recommending:
    """Recommends items."""

    catalog: Views
    planner: plan.Planner
    models: Models
    recorder: Recorder
    clock: Clock

    async def recommend(self, call: RecommendCall) -> Recommendation:
        """Decide which variant serves, ask its model, and record what happened before anybody hears of it.

        Every call whose deployment is found is recorded exactly once; a failure says under which `request_id`.

        :raises NotFound: `DEPLOYMENT_NOT_FOUND`, `ALIAS_NOT_FOUND`, `PROJECT_NOT_FOUND`, `UNKNOWN_USER`
        :raises Invalid: what `inputs` refuses
        :raises Precondition: `DEPLOYMENT_KIND_MISMATCH`, `NO_ACTIVE_VARIANT`
        :raises Exhausted: `RECOMMEND_QUEUE_FULL`
        :raises Unavailable: `MODEL_NOT_LOADED`; `SPOOL_FULL` before any model is asked
        :raises Deadline: `DEADLINE_EXCEEDED`
        """
        started = self.clock.now()
        seen = self.catalog.usable_view()
        target = targets.resolve(seen, call.deployment, tenant=call.tenant)
        recommendation = Recommendation(ids.new_uid("req"), call, target, self.clock.unix_ns(), started)
        record = _Record(self.recorder, recommendation)
        try:
            await self._serve(seen, recommendation, record)
        except AppError as error:
            error.metadata.setdefault("request_id", recommendation.request_id)
            cancelled = isinstance(error, Deadline)
            self._end(record, Status.CANCELLED if cancelled else Status.ERROR, error.reason)
            raise
        except asyncio.CancelledError:
            late = call.deadline - self.clock.now() <= domain.DEADLINE_LEAD_SECONDS
            self._end_quietly(record, Status.CANCELLED, "DEADLINE_EXCEEDED" if late else "CALLER_LEFT")
            raise
        except BaseException:
            self._end_quietly(record, Status.ERROR, "INTERNAL")
            raise
        self._end(record, Status.OK, "")
        return recommendation

    def list_loaded_models(self, project: str, *, tenant: str) -> list[LoadedModel]:
        """What this process holds for a project.

        :raises NotFound: `PROJECT_NOT_FOUND`
        """
        seen = self.catalog.usable_view()
        found = find_project(seen, project, tenant=tenant)
        self.models.follow(seen)
        return self.models.loaded_models(found.uid)

    async def _serve(self, seen: view.View, recommendation: Recommendation, record: _Record) -> None:
        call, target = recommendation.call, recommendation.target
        if target.deployment.kind is not DeploymentKind.RECOMMENDATION:
            raise Precondition(
                f"the deployment {target.deployment.slug!r} recommends nothing", reason="DEPLOYMENT_KIND_MISMATCH"
            )
        inputs.check(call)
        # Before it is known whether rules ask about it: what is refused never depends on them.
        context = read_context(call.context_json)
        key_kind, key = plan.choose_key(
            request_id=recommendation.request_id,
            routing_key=call.routing_key,
            identity=call.identity,
            thread=call.thread,
            user=call.user_id,
        )
        try:
            recommendation.decision = decision = await self.planner.decide(target, key_kind, key, context)
        except plan.NothingActive as nothing:
            recommendation.refusal = nothing.refusal
            raise
        record.open()
        remaining = call.deadline - self.clock.now()
        try:
            async with asyncio.timeout(remaining):
                await self._ask(seen, recommendation, decision, remaining)
        except TimeoutError:
            raise Deadline("the deadline passed; allow more time", reason="DEADLINE_EXCEEDED") from None

    async def _ask(
        self, seen: view.View, recommendation: Recommendation, decision: plan.Decision, remaining_seconds: float
    ) -> None:
        call, serving = recommendation.call, decision.variant.serving
        ready = await self.models.find(seen, decision, limit_seconds=remaining_seconds)
        query = Query(call.user_id, call.limit or domain.DEFAULT_LIMIT, call.include_seen)
        answer = await ready.batches.recommend(query)
        refuses = isinstance(serving, view.Recommendation) and serving.unknown_users is UnknownUsers.REFUSE
        if answer.cold_start and refuses:
            raise NotFound("the model does not know this user", reason="UNKNOWN_USER", variant=decision.variant.uid)
        recommendation.model, recommendation.answer = ready.model, answer

    def _end(self, record: _Record, status: Status, reason: str) -> None:
        recommendation = record.recommendation
        recommendation.status, recommendation.reason = status, reason
        recommendation.latency_us = domain.microseconds(self.clock.now() - recommendation.started)
        record.end()

    def _end_quietly(self, record: _Record, status: Status, reason: str) -> None:
        """As `_end`, when something is on its way out that nothing may replace."""
        try:
            self._end(record, status, reason)
        except AppError as error:
            log.warning(
                "the end of a call cannot be recorded",
                extra={"request_id": record.recommendation.request_id, "reason": error.reason},
            )


class _Record:
    """What is recorded of one call: its start before a model is asked, and its end, whatever happened before."""

    __slots__ = ("_opened", "_recorder", "recommendation")

    def __init__(self, recorder: Recorder, recommendation: Recommendation) -> None:
        self.recommendation = recommendation
        self._recorder = recorder
        self._opened: object = None

    def open(self) -> None:
        self._opened = self._recorder.open(self.recommendation)

    def end(self) -> None:
        if self._opened is None:
            self.open()
        self._recorder.close(self._opened, self.recommendation)
