"""The way that one call takes through its places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kit.errors import AppError
from kit.values import replace
from services.executor import domain
from services.executor.domain import Attempt, ProviderAnswer, ProviderFailure, Reason, Run, Step
from services.executor.job import Job, Place
from services.executor.ports import Clock, Windows


@dataclass(slots=True)
class Course:
    """Where a call is tried, how often, and for how long.

    First where its prompt fits by estimate, then where it does not: the estimate never says too little, so the provider
    may know better.
    """

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
    _ahead: Sequence[Place] = field(init=False)
    """Places in order; those from `_next` on are untried, and nothing is estimated for them yet but for the first."""
    _next: int = field(init=False, default=0)
    _is_next_known: bool = field(init=False, default=False)
    """Whether that at `_next` was found to take the call."""
    _passed: tuple[Place, ...] = field(init=False, default=())
    """Untried, because they are too small by estimate: the last hope, for which no time is kept once that is known."""
    _is_last_hope: bool = field(init=False, default=False)
    """Whether this place is one of those."""
    _elsewhere: tuple[ProviderFailure, Attempt] | None = field(init=False, default=None)
    """How the last place before this one failed that the call was one for."""

    def __post_init__(self) -> None:
        self._ahead = places = self.job.places
        if len(places) == 1:
            # Wherever it fits, there is no other.
            self._next = 1
            self._go_to(places[0])
        else:
            self._go_to(self._following() or self._last_hope() or places[0])

    @property
    def remaining_seconds(self) -> float:
        """Until the deadline."""
        return self.run.call.deadline - self.clock.now()

    @property
    def is_late(self) -> bool:
        """Whether there is no time left in which anybody could answer."""
        return self.remaining_seconds <= domain.DEADLINE_TOLERANCE_SECONDS

    @property
    def has_fallback(self) -> bool:
        """Whether there is another place that may take the call."""
        return self._next < len(self._ahead)

    def attempt_seconds(self, now: float) -> float:
        """How long an attempt that begins now may take.

        :raises Deadline: if there is no time left in which anybody could answer
        """
        remaining = self.run.call.deadline - now
        if remaining <= domain.DEADLINE_TOLERANCE_SECONDS:
            raise domain.deadline_passed(self.run.attempts)
        return domain.attempt_timeout_seconds(self.place.attempt_timeout_seconds, remaining, self._reserve_seconds())

    def limit_seconds(self, now: float) -> float:
        """The same of an attempt that goes out now, whether or not there is time left."""
        remaining = self.run.call.deadline - now
        return domain.attempt_timeout_seconds(self.place.attempt_timeout_seconds, remaining, self._reserve_seconds())

    def note(self, begun: float, outcome: ProviderAnswer | ProviderFailure) -> None:
        """Keep an attempt."""
        run = self.run
        reason, message = (outcome.reason, outcome.message) if isinstance(outcome, ProviderFailure) else ("", "")
        run.attempts.append(
            Attempt(
                provider=run.provider,
                model=run.model,
                http_status=outcome.http_status,
                reason=reason,
                message=message,
                start_offset_us=domain.microseconds(begun - run.started),
                latency_us=domain.microseconds(self.clock.now() - begun),
                fallback_index=run.fallback_index,
            )
        )

    def refuse(self, failure: ProviderFailure) -> None:
        """Keep why the answer of the last attempt was not taken."""
        attempts = self.run.attempts
        attempts[-1] = replace(attempts[-1], reason=failure.reason, message=failure.message)

    async def go_on(self, failure: ProviderFailure) -> None:
        """Wait for another attempt, here or elsewhere.

        :raises AppError: when none can be expected to succeed: what the caller is told
        """
        if failure.reason is Reason.CONTEXT_LENGTH_EXCEEDED:
            self._rule_out()
        if failure.is_retryable:
            # Whether a wait is given up must not depend on what is too small anyway.
            self.look_ahead()
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
            return
        is_late = self.remaining_seconds <= domain.DEADLINE_TOLERANCE_SECONDS
        following = self._following() if step is Step.FALL_BACK else None
        if following is None and not is_late and not domain.is_wrong_everywhere(failure):
            following = self._last_hope()
        if following is not None:
            if not domain.says_nothing_of_others(failure):
                self._elsewhere = failure, self.run.attempts[-1]
            self._go_to(following)
        elif is_late:
            raise domain.deadline_passed(self.run.attempts)
        else:
            raise self._failure_of(failure)

    def _failure_of(self, last: ProviderFailure) -> AppError:
        failure, attempt = last, self.run.attempts[-1]
        is_out_of_place = domain.says_nothing_of_others(last) or (
            # Not every server has a word for a prompt that is too long, which this one seemed to be.
            self._is_last_hope and domain.is_wrong_everywhere(last)
        )
        if is_out_of_place and self._elsewhere is not None:
            failure, attempt = self._elsewhere
        return domain.failure_of(failure, self.run.attempts, attempt)

    def _following(self) -> Place | None:
        """The next place that may take the call by estimate."""
        self.look_ahead()
        if not self.has_fallback:
            return None
        place = self._ahead[self._next]
        self._next, self._is_next_known = self._next + 1, False
        return place

    def look_ahead(self) -> None:
        """Pass over what seems too small."""
        while self.has_fallback and not self._is_next_known:
            place = self._ahead[self._next]
            # A place that cannot be asked at all says so at once.
            if place.problem is not None or self._fits(place):
                self._is_next_known = True
            else:
                self._next += 1
                self._passed = (*self._passed, place)

    def _last_hope(self) -> Place | None:
        """The next of those that were passed over."""
        if not self._passed:
            return None
        self._is_last_hope = True
        place, *rest = self._passed
        self._passed = tuple(rest)
        return place

    def _rule_out(self) -> None:
        """Told by its provider that the prompt does not fit here: only what is known to be larger, or not known at all,
        is worth a try."""
        here = self._window(self.place)
        if here:
            self._ahead = [place for place in self._ahead[self._next :] if self._is_larger(place, here)]
            self._next, self._is_next_known = 0, False
            self._passed = tuple(place for place in self._passed if self._is_larger(place, here))

    def _is_larger(self, place: Place, tokens: int) -> bool:
        return (self._window(place) or tokens + 1) > tokens

    def _fits(self, place: Place) -> bool:
        request, job = place.request, self.job
        return self.windows.fits(
            request.provider,
            request.model,
            job.messages,
            tools_text=job.prepared.tools_text,
            answer_tokens=place.answer_tokens,
        )

    def _window(self, place: Place) -> int | None:
        return self.windows.context_window_tokens(place.request.provider, place.request.model)

    def _reserve_seconds(self) -> float:
        if not self.has_fallback:
            return 0.0
        return domain.reserve_seconds(self.run.call.deadline - self.run.started, has_fallback=True)

    def _go_to(self, place: Place) -> None:
        self.place, self._retry = place, 0
        self.retries_left = self.waits_left = place.max_retries
        run, request = self.run, place.request
        run.provider, run.model, run.fallback_index = request.provider.slug, request.model, place.index
