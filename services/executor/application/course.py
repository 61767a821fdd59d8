"""The way that one call takes through its places."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.executor import domain
from services.executor.domain import Attempt, ProviderAnswer, ProviderFailure, Reason, Run, Step
from services.executor.job import Job, Place
from services.executor.ports import Clock, Windows


@dataclass(slots=True)
class Course:
    """Where a call is tried, how often, and for how long."""

    run: Run
    job: Job
    clock: Clock
    windows: Windows
    place: Place = field(init=False)
    retries_left: int = field(init=False)
    waits_left: int = field(init=False)
    """For a provider that is not asked for a while."""
    costs_are_known: bool = True
    """Whether the price of every answer so far is."""
    _retry: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._go_to(self.job.places[0])
        if len(self.job.places) > 1 and not self._fits(self.place):
            # If it fits nowhere, the provider may know better than an estimate that never says too little.
            self._go_to(next(filter(self._fits, self.job.places[1:]), self.place))

    @property
    def remaining_seconds(self) -> float:
        """Until the deadline."""
        return self.run.call.deadline - self.clock.now()

    @property
    def has_fallback(self) -> bool:
        """Whether there are places behind this one."""
        return self.place.index < self.job.places[-1].index

    def attempt_seconds(self) -> float:
        """How long an attempt that begins now may take.

        :raises Deadline: if there is no time left in which anybody could answer
        """
        remaining = self.remaining_seconds
        if remaining <= domain.DEADLINE_TOLERANCE_SECONDS:
            raise domain.deadline_passed(self.run.attempts)
        return domain.attempt_timeout_seconds(self.place.attempt_timeout_seconds, remaining, self._reserve_seconds())

    def note(self, begun: float, outcome: ProviderAnswer | ProviderFailure) -> None:
        """Keep an attempt."""
        failed = outcome if isinstance(outcome, ProviderFailure) else None
        self.run.attempts.append(
            Attempt(
                provider=self.run.provider,
                model=self.run.model,
                http_status=outcome.http_status,
                reason=failed.reason if failed else "",
                message=failed.message if failed else "",
                start_offset_us=domain.microseconds(begun - self.run.started),
                latency_us=domain.microseconds(self.clock.now() - begun),
                fallback_index=self.place.index,
            )
        )

    async def go_on(self, failure: ProviderFailure) -> None:
        """Wait for another attempt, here or elsewhere.

        :raises AppError: when none can be expected to succeed: what the caller is told
        """
        # Whoever waited for a provider that was not asked has not tried.
        has_tried = failure.reason is not Reason.CIRCUIT_OPEN
        pause = domain.backoff_seconds(self._retry, self.clock.uniform(), failure.retry_after_seconds)
        step = domain.step_after(
            failure,
            retries_left=self.retries_left if has_tried else self.waits_left,
            pause_seconds=pause,
            remaining_seconds=self.remaining_seconds,
            reserve_seconds=self._reserve_seconds(),
            has_fallback=self.has_fallback,
        )
        if step is Step.RETRY:
            if has_tried:
                self.retries_left -= 1
                self._retry += 1
            else:
                self.waits_left -= 1
            await self.clock.sleep(pause)
        elif step is Step.FALL_BACK and (following := self._following(failure)) is not None:
            self._go_to(following)
        elif self.remaining_seconds <= domain.DEADLINE_TOLERANCE_SECONDS:
            raise domain.deadline_passed(self.run.attempts)
        else:
            raise domain.failure_of(failure, self.run.attempts)

    def _following(self, failure: ProviderFailure) -> Place | None:
        """The next place that may take the call."""
        later = [place for place in self.job.places if place.index > self.place.index]
        if failure.reason is not Reason.CONTEXT_LENGTH_EXCEEDED:
            return next(filter(self._fits, later), None)
        # Told by the provider: only what is known to be larger, or not known at all, is worth a try.
        here = self._window(self.place)
        larger = (place for place in later if not here or (self._window(place) or here + 1) > here)
        return next(larger, None)

    def _fits(self, place: Place) -> bool:
        request, job = place.request, self.job
        return self.windows.fits(
            request.provider,
            request.model,
            job.messages,
            tools_text=job.tools_text,
            answer_tokens=place.answer_tokens,
        )

    def _window(self, place: Place) -> int | None:
        return self.windows.context_window_tokens(place.request.provider, place.request.model)

    def _reserve_seconds(self) -> float:
        total = self.run.call.deadline - self.run.started
        return domain.reserve_seconds(total, has_fallback=self.has_fallback)

    def _go_to(self, place: Place) -> None:
        self.place, self._retry = place, 0
        self.retries_left = self.waits_left = place.max_retries
        run = self.run
        run.provider, run.model, run.fallback_index = place.request.provider.slug, place.request.model, place.index
