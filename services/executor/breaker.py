"""Circuit breakers: who is not asked for a while, because it would not answer. Pure; one process's own view.

**What counts.** Attempts, not calls: a call that succeeds with its third attempt tells of two failures. A failure is
what says that this provider does not serve this model now: time-outs, broken connections, its own errors, answers that
make no sense, and 429. Everything else is left out, of the failures and of the attempts:

* the call's fault (`PROVIDER_REJECTED_REQUEST`, `PROVIDER_CONTEXT_LENGTH_EXCEEDED`, content policies, a time-out of
  an attempt that got little time): the next call may be a good one, and one caller must not eject a model for all;
* the operator's (`PROVIDER_CREDENTIAL_REFUSED`, `PROVIDER_MODEL_NOT_FOUND`, `PROVIDER_REDIRECTED`,
  `PROVIDER_ADDRESS_REFUSED`): these fail at once, cost nobody time, and are mended by a change of the catalog, which
  must help with the next call and not when an ejection ends; to be told of an ejection instead would hide what to mend;
* nobody's (`CANCELLED`).

Failures are quick and answers take their time: of a burst, all that has ended soon may have failed. So the share is of
what began, where that is more than what has ended.

**429 counts**, because a model that refuses most of what it is sent is of no use now, whoever exhausted its quota, and
calls that have a fallback should take it at once. It takes the same share of refused attempts as for other failures:
one 429 is answered by that call's own back-off. A `Retry-After`, of a 429 or a 503, is honoured: if the target is
ejected, then at least until the time that the provider named last, but never longer than the longest ejection.

Source of the growing ejection: Envoy's outlier detection (base time, multiplied with each ejection, up to a maximum).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final, NamedTuple

from services.executor.domain import Reason

_BUCKETS: Final = 10
_SPREAD: Final = 0.2
"""By how much of itself an ejection may be shorter, so that processes that ejected together do not probe together."""
_PATIENCE_SECONDS: Final = 30.0
"""After which a time-out tells of its target whatever the variant says, and a probe keeps nobody out any more: a target
that hangs may be well again long before the attempt that hangs with it is given up."""
_PROBE_SECONDS: Final = 1.0
"""When to come back while somebody else's probe is under way: it mostly ends by then."""
_COUNTED: Final = frozenset(
    reason.value for reason in (Reason.UNREACHABLE, Reason.ERROR, Reason.RATE_LIMITED, Reason.MALFORMED_RESPONSE)
)


class Target(NamedTuple):
    """What is ejected: a model of a provider."""

    provider: str
    """uid."""
    model: str


class Outcome(Enum):
    """What an attempt says of its target."""

    SUCCESS = "success"
    FAILURE = "failure"
    NOTHING = "nothing"


def outcome_of(
    reason: str, *, given_seconds: float = math.inf, attempt_timeout_seconds: float | None = None
) -> Outcome:
    """What the end of an attempt says of its target; the module says why.

    :param reason: an `Attempt.reason`: empty for success
    :param given_seconds: the time that the attempt had
    :param attempt_timeout_seconds: the time that the variant gives one. A time-out counts after that, or after 30 s
    """
    if not reason:
        return Outcome.SUCCESS
    if reason == Reason.TIMEOUT.value:
        expected = _PATIENCE_SECONDS if attempt_timeout_seconds is None else attempt_timeout_seconds
        return Outcome.FAILURE if given_seconds >= min(expected, _PATIENCE_SECONDS) else Outcome.NOTHING
    return Outcome.FAILURE if reason in _COUNTED else Outcome.NOTHING


class Transition(StrEnum):
    """What a record changed, in words for an operator's log."""

    EJECTED = "ejected"
    EJECTED_AGAIN = "ejected again"
    """A probe failed."""
    RESTORED = "restored"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a target is ejected, and for how long. Zero `min_failures` turns breakers off."""

    window_seconds: float = 30.0
    """Attempts that ended within this time count; forgotten in steps of a tenth of it."""
    min_failures: int = 5
    min_failed_share: float = 0.5
    """Of the attempts that count, or of those that began within the window if these are more, in (0, 1]. Both must be
    reached."""
    ejection_seconds: float = 5.0
    """The first ejection. Each further one takes twice as long."""
    max_ejection_seconds: float = 300.0
    """The longest ejection; and how long a target must serve for its next ejection to be a first one again."""


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one attempt. To be given back by `Breakers.record`, once; if it never is, nothing is blocked. That
    of a stream's probe is given back with its first piece, and again at its end, which then changes nothing."""

    target: Target
    epoch: int
    """Of its target: results of before an ejection say nothing about what came after."""
    bucket: int
    """The tenth of the window in which the attempt begins."""
    probe: int = 0
    """0 unless the attempt probes an ejected target; else its number."""


@dataclass(frozen=True, slots=True)
class Ejected:
    """No leave."""

    retry_after_seconds: float
    """When the next probe may be made, above 0; another may get there first."""


class _State:
    """One target. Counts are kept per tenth of the window."""

    __slots__ = (
        "attempts",
        "attempts_by_bucket",
        "begun",
        "begun_by_bucket",
        "bucket",
        "ejected_until",
        "ejections",
        "failures",
        "failures_by_bucket",
        "permit",
        "probe",
        "probe_until",
        "restored",
        "told_until",
    )

    def __init__(self, target: Target) -> None:
        self.permit = Permit(target, 0, 0)
        """What everybody gets while it serves, until the next tenth of the window."""
        self.bucket = 0
        self.attempts_by_bucket = [0] * _BUCKETS
        self.failures_by_bucket = [0] * _BUCKETS
        self.attempts = self.failures = self.begun = 0
        self.begun_by_bucket = [0] * _BUCKETS
        self.ejected_until: float | None = None
        """None while it serves."""
        self.ejections = 0
        self.restored = 0.0
        self.told_until = 0.0
        """Until when the provider asked not to be asked; 0 once it has answered since."""
        self.probe = 0
        """The last one's number."""
        self.probe_until: float | None = None
        """When the one under way counts as lost; None if there is none."""


class Breakers:
    """The breakers of one process.

    :param uniform: gives random numbers in [0, 1)
    :param max_targets: how many are kept; of the least recently used all is forgotten
    """

    def __init__(self, policy: BreakerPolicy, uniform: Callable[[], float], *, max_targets: int = 4096) -> None:
        self._policy = policy
        self._uniform = uniform
        self._max_targets = max_targets
        self._bucket_seconds = policy.window_seconds / _BUCKETS
        self._states: OrderedDict[Target, _State] = OrderedDict()

    def __len__(self) -> int:
        return len(self._states)

    def admit(self, target: Target, now: float, attempt_seconds: float) -> Permit | Ejected:
        """Whether an attempt may be made now.

        Of an ejected target, one at a time when its time is over: a probe. Whoever gets one and is never heard of again
        keeps others out for `attempt_seconds` only, and at most for 30 s.

        :param now: seconds on the clock of deadlines
        :param attempt_seconds: after which the attempt is surely over
        """
        state = self._states.get(target)
        if state is None:
            state = self._states[target] = _State(target)
            if len(self._states) > self._max_targets:
                self._states.popitem(last=False)
            return self._begun(state, now)
        self._states.move_to_end(target)
        until = state.ejected_until
        if until is None:
            return self._begun(state, now)
        if now < until:
            return Ejected(until - now)
        if state.probe_until is not None and now < state.probe_until:
            return Ejected(_PROBE_SECONDS)
        state.probe += 1
        state.probe_until = now + min(attempt_seconds, _PATIENCE_SECONDS)
        return Permit(target, state.permit.epoch, state.bucket, state.probe)

    def record(
        self, permit: Permit, outcome: Outcome, now: float, retry_after_seconds: float | None = None
    ) -> Transition | None:
        """What became of an attempt.

        A probe's success restores the target, also if the probe had been given up for lost: that a model is slow is no
        reason to keep it away for ever. Its failure ejects the target for longer, also then, unless nobody was let in
        since the last time: where every attempt hangs, each probe is given up before it fails. If the last one says
        nothing, the next attempt is a probe.

        :param retry_after_seconds: what the provider asked for
        """
        state = self._states.get(permit.target)
        if state is None or state.permit.epoch != permit.epoch:
            return None
        if state.ejected_until is not None:
            return self._probed(state, permit, outcome, now, retry_after_seconds)
        self._advance(state, int(now / self._bucket_seconds))
        if outcome is Outcome.SUCCESS:
            state.attempts += 1
            state.attempts_by_bucket[state.bucket % _BUCKETS] += 1
            state.told_until = 0.0
            return None
        if outcome is Outcome.NOTHING:
            # What began before the window has left the counts with its tenth of it.
            if permit.bucket > state.bucket - _BUCKETS:
                state.begun -= 1
                state.begun_by_bucket[permit.bucket % _BUCKETS] -= 1
            return None
        state.attempts += 1
        state.attempts_by_bucket[state.bucket % _BUCKETS] += 1
        state.failures += 1
        state.failures_by_bucket[state.bucket % _BUCKETS] += 1
        self._heed(state, now, retry_after_seconds)
        policy = self._policy
        if not 0 < policy.min_failures <= state.failures:
            return None
        # Failures are quick and answers take their time: what is still under way may be an answer.
        if state.failures < policy.min_failed_share * max(state.attempts, state.begun):
            return None
        if now - state.restored >= policy.max_ejection_seconds:
            state.ejections = 0
        self._eject(state, now)
        self._begin(state)
        return Transition.EJECTED

    def _begun(self, state: _State, now: float) -> Permit:
        self._advance(state, int(now / self._bucket_seconds))
        state.begun += 1
        state.begun_by_bucket[state.bucket % _BUCKETS] += 1
        return state.permit

    def _probed(
        self, state: _State, permit: Permit, outcome: Outcome, now: float, retry_after_seconds: float | None
    ) -> Transition | None:
        if not permit.probe:
            return None
        if outcome is Outcome.SUCCESS:
            self._restore(state, now)
            return Transition.RESTORED
        if state.probe_until is None:
            return None
        if outcome is Outcome.NOTHING:
            if permit.probe == state.probe:
                state.probe_until = None
            return None
        self._heed(state, now, retry_after_seconds)
        self._eject(state, now)
        return Transition.EJECTED_AGAIN

    def _heed(self, state: _State, now: float, retry_after_seconds: float | None) -> None:
        if retry_after_seconds is not None:
            state.told_until = now + min(retry_after_seconds, self._policy.max_ejection_seconds)

    def _eject(self, state: _State, now: float) -> None:
        policy = self._policy
        # A power of two past the longest ejection would overflow in the end.
        grown = policy.ejection_seconds * 2.0 ** min(state.ejections, 32)
        seconds = min(policy.max_ejection_seconds, grown) * (1 - _SPREAD * self._uniform())
        state.ejections += 1
        state.ejected_until = max(now + seconds, state.told_until)
        state.probe_until = None

    def _restore(self, state: _State, now: float) -> None:
        state.ejected_until = state.probe_until = None
        state.restored, state.told_until = now, 0.0
        self._begin(state)

    def _begin(self, state: _State) -> None:
        """From here on, nothing counts of what was before, or ends later but began before."""
        state.permit = Permit(state.permit.target, state.permit.epoch + 1, state.bucket)
        self._forget(state)

    def _advance(self, state: _State, bucket: int) -> None:
        passed = bucket - state.bucket
        if passed <= 0:
            return
        if passed >= _BUCKETS:
            self._forget(state)
        else:
            for one in range(state.bucket + 1, bucket + 1):
                state.attempts -= state.attempts_by_bucket[one % _BUCKETS]
                state.failures -= state.failures_by_bucket[one % _BUCKETS]
                state.attempts_by_bucket[one % _BUCKETS] = state.failures_by_bucket[one % _BUCKETS] = 0
                state.begun -= state.begun_by_bucket[one % _BUCKETS]
                state.begun_by_bucket[one % _BUCKETS] = 0
        state.bucket = bucket
        state.permit = Permit(state.permit.target, state.permit.epoch, bucket)

    def _forget(self, state: _State) -> None:
        state.attempts = state.failures = state.begun = 0
        state.attempts_by_bucket = [0] * _BUCKETS
        state.begun_by_bucket = [0] * _BUCKETS
        state.failures_by_bucket = [0] * _BUCKETS
