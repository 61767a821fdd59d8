"""Trying until there is an answer or none can be expected. A completion changes nothing, so it may be repeated."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final

from catalog import view
from catalog.view import OutputPolicy, ProviderKind
from completions.chat import Message, Role
from kit.errors import Exhausted
from kit.values import replace
from services.executor import domain
from services.executor.application.course import Course
from services.executor.breaker import Breakers, Outcome, Permit, outcome_of
from services.executor.domain import (
    Delta,
    FinishReason,
    ProviderAnswer,
    ProviderFailure,
    Reason,
    Run,
    Started,
    Usage,
)
from services.executor.job import Job
from services.executor.limits import ProviderLimits
from services.executor.output_check import feedback
from services.executor.ports import Clock, Prices, Provider, Windows

log = logging.getLogger(__name__)

_SHORTEST_SECONDS: Final = 0.001
"""Time-outs are above 0."""
_MAX_FAULT_CHARACTERS: Final = 500
"""Of what is wrong with an answer, in an attempt: paths have names in them that the model chose."""
_CANCELLED: Final = ProviderFailure(Reason.CANCELLED, "the call ended first", 0, is_retryable=False)
_LEFT: Final = ProviderFailure(Reason.BUSY, "the call ended while it waited for a slot", 0, is_retryable=False)
_LATE: Final = ProviderFailure(Reason.BUSY, "a slot was free too late", 0, is_retryable=False)


@dataclass(frozen=True, slots=True)
class Attempts:
    """Asks providers.

    :param max_concurrent_calls: under way at one provider, where that says nothing itself
    """

    providers: Mapping[ProviderKind, Provider]
    breakers: Breakers
    limits: ProviderLimits
    windows: Windows
    prices: Prices
    clock: Clock
    max_concurrent_calls: int

    async def whole(self, run: Run, job: Job) -> ProviderAnswer:
        """An answer in one piece. The run's cost is that of every answer, each at its own place's price.

        :raises AppError: when there is none: as `domain.failure_of`, `Deadline`
        """
        course = Course(run, job, self.clock, self.windows)
        corrected: Sequence[Message] | None = None
        spent: Usage | None = None
        while True:
            outcome = await self._attempt(course, corrected)
            if isinstance(outcome, ProviderFailure):
                await course.go_on(outcome)
                continue
            await self._pay(course, outcome)
            answer = outcome if spent is None else replace(outcome, usage=_added(spent, outcome.usage))
            spent = answer.usage
            violations = _violations(job, answer)
            run.output_violations = violations
            if not violations or job.completion.output_policy is OutputPolicy.MARK:
                return answer
            # What was paid for is told even if it is not taken.
            run.answer = answer
            fault = violations[0][:_MAX_FAULT_CHARACTERS]
            failure = ProviderFailure(Reason.OUTPUT_INVALID, fault, answer.http_status, is_retryable=False)
            course.refuse(failure)
            may_repeat = course.retries_left > 0 and course.remaining_seconds > domain.RETRY_RESERVE_SECONDS
            if job.completion.output_policy is OutputPolicy.FAIL or not may_repeat:
                raise domain.failure_of(failure, run.attempts)
            course.retries_left -= 1
            corrected = _corrected(job, answer, violations)

    async def streamed(self, run: Run, job: Job) -> AsyncGenerator[Started | Delta, None]:
        """An answer in pieces: repeated until something was said; then on to the end of that attempt.

        :raises AppError: as :meth:`whole`; `STREAM_BROKEN` once something was said
        """
        course = Course(run, job, self.clock, self.windows)
        while True:
            begun = self.clock.now()
            limit = course.attempt_seconds(begun)
            permit = self._admit(course, begun, limit)
            outcome: ProviderAnswer | ProviderFailure | None = None
            is_asked = False
            if isinstance(permit, ProviderFailure):
                outcome = permit
            else:
                try:
                    # Here and not in functions of their own: all of this runs for every piece.
                    async with self._slot(course.place.request.provider, limit) as has_waited:
                        asked = self.clock.now() if has_waited else begun
                        if has_waited:
                            # The wait for a slot was not the provider's, so the variant's time-out does not hold it.
                            limit = course.limit_seconds(asked)
                        is_asked = not (has_waited and course.is_late)
                        pieces = self._pieces(course, asked, limit) if is_asked else _alone(_LATE)
                        try:
                            async for piece in pieces:
                                if isinstance(piece, (ProviderAnswer, ProviderFailure)):
                                    outcome = piece
                                    break
                                if run.time_to_first_token_us is None:
                                    run.time_to_first_token_us = domain.microseconds(self.clock.now() - run.started)
                                    if permit.probe:
                                        # Whoever speaks serves: nobody else need wait for its last word.
                                        self._record(course, permit, limit, None)
                                yield piece
                        finally:
                            await pieces.aclose()
                except Exhausted as busy:
                    outcome = _busy(busy)
                except (asyncio.CancelledError, GeneratorExit):
                    left = _CANCELLED if is_asked else _LEFT
                    self._record(course, permit, limit, left)
                    course.note(begun, left)
                    raise
                assert outcome is not None  # noqa: S101  # the port's promise
                self._record(course, permit, limit, _failed(outcome))
            course.note(begun, outcome)
            if isinstance(outcome, ProviderAnswer):
                run.answer, run.output_violations = outcome, _violations(job, outcome)
                await self._pay(course, outcome)
                return
            if run.time_to_first_token_us is not None:
                if course.remaining_seconds <= domain.DEADLINE_TOLERANCE_SECONDS:
                    raise domain.deadline_passed(run.attempts)
                raise domain.broken_stream(outcome, run.attempts)
            await course.go_on(outcome)

    async def _attempt(self, course: Course, corrected: Sequence[Message] | None) -> ProviderAnswer | ProviderFailure:
        """One whole answer; to other messages than the place's, if there are some."""
        begun = self.clock.now()
        limit = course.attempt_seconds(begun)
        permit = self._admit(course, begun, limit)
        if isinstance(permit, ProviderFailure):
            course.note(begun, permit)
            return permit
        request = course.place.request
        if corrected is not None:
            request = replace(request, messages=corrected)
        outcome: ProviderAnswer | ProviderFailure = _LATE
        is_asked = False
        try:
            async with self._slot(request.provider, limit) as has_waited:
                if has_waited:
                    # It was not the provider's, so the variant's time-out does not hold it.
                    limit = course.limit_seconds(self.clock.now())
                if is_asked := not (has_waited and course.is_late):
                    outcome = await self.providers[request.provider.kind].complete(request, limit)
        except Exhausted as busy:
            outcome = _busy(busy)
        except asyncio.CancelledError:
            left = _CANCELLED if is_asked else _LEFT
            self._record(course, permit, limit, left)
            course.note(begun, left)
            raise
        self._record(course, permit, limit, _failed(outcome))
        course.note(begun, outcome)
        return outcome

    def _pieces(
        self, course: Course, now: float, limit: float
    ) -> AsyncGenerator[Started | Delta | ProviderAnswer | ProviderFailure, None]:
        """What a provider says, once it may be asked."""
        request, completion = course.place.request, course.job.completion
        remaining = course.run.call.deadline - now
        first = completion.first_token_timeout_seconds
        idle = completion.idle_timeout_seconds or course.place.attempt_timeout_seconds
        return self.providers[request.provider.kind].stream(
            request,
            total_seconds=max(remaining, _SHORTEST_SECONDS),
            first_seconds=max(limit if first is None else min(first, limit), _SHORTEST_SECONDS),
            idle_seconds=max(remaining if idle is None else min(idle, remaining), _SHORTEST_SECONDS),
        )

    async def _pay(self, course: Course, answer: ProviderAnswer) -> None:
        """Add what an answer cost; what one cost is not known of the whole if it is not known of it."""
        run, request = course.run, course.place.request
        cost = await self.prices.cost_usd_micros(request.provider, request.model, answer.usage)
        known = cost is not None and course.costs_are_known
        course.costs_are_known = known
        run.cost_usd_micros = (run.cost_usd_micros or 0) + cost if known and cost is not None else None

    def _slot(self, provider: view.Provider, patience_seconds: float) -> AbstractAsyncContextManager[bool]:
        limit = provider.max_concurrent_calls or self.max_concurrent_calls
        return self.limits.slot(provider.uid, name=provider.slug, limit=limit, patience_seconds=patience_seconds)

    def _admit(self, course: Course, now: float, limit: float) -> Permit | ProviderFailure:
        """Leave to ask; or why a provider is not asked, without asking it."""
        place = course.place
        if place.problem is not None:
            return place.problem
        admitted = self.breakers.admit(place.target, now, limit)
        if isinstance(admitted, Permit):
            return admitted
        # Who seems too small is nobody to go to.
        course.look_ahead()
        return ProviderFailure(
            Reason.CIRCUIT_OPEN,
            "it failed too often lately and is not asked for a while",
            0,
            # Where nobody else can be asked, a variant that retries waits for its turn.
            is_retryable=not course.has_fallback,
            retry_after_seconds=admitted.retry_after_seconds,
        )

    def _record(self, course: Course, permit: Permit, limit: float, failure: ProviderFailure | None) -> None:
        told, retry_after = Outcome.SUCCESS, None
        if failure is not None:
            told = outcome_of(
                failure.reason,
                given_seconds=limit,
                attempt_timeout_seconds=course.place.attempt_timeout_seconds,
            )
            retry_after = failure.retry_after_seconds
        transition = self.breakers.record(permit, told, self.clock.now(), retry_after)
        if transition is not None:
            log.warning(
                "a model of a provider is %s",
                transition,
                extra={"provider": course.run.provider, "model": course.run.model},
            )


async def _alone(failure: ProviderFailure) -> AsyncGenerator[Started | Delta | ProviderAnswer | ProviderFailure, None]:
    yield failure


def _failed(outcome: ProviderAnswer | ProviderFailure) -> ProviderFailure | None:
    return outcome if isinstance(outcome, ProviderFailure) else None


def _busy(error: Exhausted) -> ProviderFailure:
    return ProviderFailure(
        Reason.BUSY, error.message, 0, is_retryable=False, retry_after_seconds=error.retry_after_seconds
    )


def _violations(job: Job, answer: ProviderAnswer) -> tuple[str, ...] | None:
    """None where the answer has nothing to keep to: without a schema, and where it calls tools or was withheld."""
    output = job.prepared.output
    if output is None or answer.message.tool_calls or answer.finish_reason is FinishReason.CONTENT_FILTER:
        return None
    return output.violations(answer.message.text)


def _corrected(job: Job, answer: ProviderAnswer, violations: tuple[str, ...]) -> tuple[Message, ...]:
    said = Message(Role.ASSISTANT, answer.message.text)
    return (*job.messages, said, Message(Role.USER, feedback(violations)))


def _added(one: Usage, other: Usage) -> Usage:
    """What both cost together; what one of them did not tell is not known of the whole."""

    def total(name: str) -> int | None:
        counts = getattr(one, name), getattr(other, name)
        return None if None in counts else sum(counts)

    return Usage(*map(total, Usage.__struct_fields__))
