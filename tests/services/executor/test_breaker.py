"""Breakers, by values and against a model that keeps every attempt."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from services.executor.breaker import (
    BreakerPolicy,
    Breakers,
    Ejected,
    Outcome,
    Permit,
    Target,
    Transition,
    outcome_of,
)
from services.executor.domain import Reason

TARGET = Target("prv_1", "gpt-4o")
POLICY = BreakerPolicy(
    window_seconds=10, min_failures=3, min_failed_share=0.5, ejection_seconds=4, max_ejection_seconds=20
)
SUCCESS, FAILURE, NOTHING = Outcome.SUCCESS, Outcome.FAILURE, Outcome.NOTHING


def breakers(policy: BreakerPolicy = POLICY, **options: int) -> Breakers:
    return Breakers(policy, lambda: 0.0, **options)


def permit(of: Breakers, now: float, target: Target = TARGET, attempt_seconds: float = 60.0) -> Permit:
    given = of.admit(target, now, attempt_seconds)
    assert isinstance(given, Permit)
    return given


def tell(of: Breakers, outcome: Outcome, now: float, times: int = 1, **more: float) -> list[Transition | None]:
    return [of.record(permit(of, now), outcome, now, **more) for _ in range(times)]


def refused(of: Breakers, now: float) -> float:
    given = of.admit(TARGET, now, 60.0)
    assert isinstance(given, Ejected)
    return given.retry_after_seconds


def test_enough_failures_eject_and_one_less_does_not() -> None:
    tested = breakers()
    assert tell(tested, FAILURE, 1.0, 2) == [None, None]
    assert tell(tested, FAILURE, 1.0) == [Transition.EJECTED]
    assert refused(tested, 2.0) == 3.0


def test_many_failures_among_more_successes_do_not_eject() -> None:
    tested = breakers()
    tell(tested, SUCCESS, 1.0, 20)
    assert tell(tested, FAILURE, 1.0, 19) == [None] * 19
    assert tell(tested, FAILURE, 1.0) == [Transition.EJECTED]


def test_failures_are_forgotten_with_the_window() -> None:
    tested = breakers()
    tell(tested, FAILURE, 1.0, 2)
    assert tell(tested, FAILURE, 11.0, 2) == [None, None]
    assert tell(tested, FAILURE, 20.0) == [Transition.EJECTED]


def test_successes_are_forgotten_with_the_window_too() -> None:
    tested = breakers()
    tell(tested, SUCCESS, 1.0, 100)
    tell(tested, SUCCESS, 8.0)
    assert tell(tested, FAILURE, 12.0, 3) == [None, None, Transition.EJECTED]


def test_what_says_nothing_of_the_target_counts_neither_as_failure_nor_as_attempt() -> None:
    tested = breakers()
    assert tell(tested, NOTHING, 1.0, 100) == [None] * 100
    assert tell(tested, FAILURE, 1.0, 3)[-1] is Transition.EJECTED


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_judged(reason: Reason) -> None:
    counted = {
        Reason.TIMEOUT,
        Reason.UNREACHABLE,
        Reason.ERROR,
        Reason.RATE_LIMITED,
        Reason.MALFORMED_RESPONSE,
    }
    assert outcome_of(reason) is (FAILURE if reason in counted else NOTHING)


def test_no_reason_is_a_success_and_an_unknown_one_says_nothing() -> None:
    assert outcome_of("") is SUCCESS
    assert outcome_of("OF_A_LATER_RELEASE") is NOTHING


@pytest.mark.parametrize(
    ("given", "of_variant", "outcome"),
    [
        (0.5, None, NOTHING),
        (29.9, None, NOTHING),
        (30.0, None, FAILURE),
        (0.5, 0.5, FAILURE),
        (0.4, 0.5, NOTHING),
        (30.0, 600.0, FAILURE),
    ],
)
def test_a_caller_in_a_hurry_ejects_nobody(given: float, of_variant: float | None, outcome: Outcome) -> None:
    assert outcome_of(Reason.TIMEOUT, given_seconds=given, attempt_timeout_seconds=of_variant) is outcome


def test_one_probe_is_made_at_a_time() -> None:
    tested = breakers()
    tell(tested, FAILURE, 1.0, 3)
    probe = permit(tested, 5.0)
    assert probe.probe
    assert tested.record(probe, SUCCESS, 6.0) is Transition.RESTORED
    assert not permit(tested, 6.0).probe


def test_who_finds_a_probe_under_way_is_told_to_come_back_in_a_while() -> None:
    tested = breakers()
    tell(tested, FAILURE, 1.0, 3)
    permit(tested, 5.0)
    assert [refused(tested, now) for now in (5.0, 20.0, 34.9)] == [1.0, 1.0, 1.0]


def test_each_ejection_takes_twice_as_long_up_to_the_longest() -> None:
    tested, now = breakers(), 1.0
    tell(tested, FAILURE, now, 3)
    lasted = []
    for _ in range(5):
        pause = refused(tested, now)
        lasted.append(pause)
        now += pause
        assert tested.record(permit(tested, now), FAILURE, now) is Transition.EJECTED_AGAIN
    assert lasted == [4, 8, 16, 20, 20]


def test_a_target_that_fails_again_soon_is_ejected_for_longer_and_later_for_as_long_as_at_first() -> None:
    tested = breakers()
    tell(tested, FAILURE, 100.0, 3)
    tested.record(permit(tested, 104.0), SUCCESS, 104.0)
    tell(tested, FAILURE, 105.0, 3)
    assert refused(tested, 105.0) == 8
    tested.record(permit(tested, 113.0), SUCCESS, 113.0)
    tell(tested, FAILURE, 133.0, 3)
    assert refused(tested, 133.0) == 4


def test_chance_shortens_an_ejection_by_up_to_a_fifth() -> None:
    tested = Breakers(POLICY, lambda: 0.5)
    tell(tested, FAILURE, 1.0, 3)
    assert refused(tested, 1.0) == pytest.approx(3.6)


def test_a_probe_that_is_never_heard_of_again_blocks_no_longer_than_an_attempt_takes() -> None:
    tested = breakers()
    tell(tested, FAILURE, 1.0, 3)
    lost = permit(tested, 5.0, attempt_seconds=30.0)
    assert refused(tested, 34.9) == 1.0
    second = permit(tested, 35.0)
    assert tested.record(lost, NOTHING, 36.0) is None
    assert refused(tested, 36.0) == 1.0
    assert tested.record(second, SUCCESS, 37.0) is Transition.RESTORED


def test_a_probe_that_hangs_keeps_nobody_out_for_longer_than_patience_lasts() -> None:
    tested = breakers()
    tell(tested, FAILURE, 1.0, 3)
    hung = permit(tested, 5.0, attempt_seconds=600.0)
    assert refused(tested, 34.9) == 1.0
    assert tested.record(permit(tested, 35.0), SUCCESS, 36.0) is Transition.RESTORED
    assert tested.record(hung, FAILURE, 605.0) is None


def test_a_target_where_every_attempt_hangs_is_ejected_for_longer_each_time() -> None:
    tested = breakers()
    tell(tested, FAILURE, 1.0, 3)
    first, second = permit(tested, 5.0, attempt_seconds=60.0), permit(tested, 35.0, attempt_seconds=60.0)
    assert tested.record(first, FAILURE, 65.0) is Transition.EJECTED_AGAIN
    assert refused(tested, 65.0) == 8.0
    # Nobody has been let in since.
    assert tested.record(second, FAILURE, 66.0) is None
    third, fourth = permit(tested, 73.0, attempt_seconds=60.0), permit(tested, 103.0, attempt_seconds=60.0)
    assert tested.record(third, FAILURE, 133.0) is Transition.EJECTED_AGAIN
    assert refused(tested, 133.0) == 16.0
    assert tested.record(fourth, SUCCESS, 134.0) is Transition.RESTORED


def test_a_probe_given_up_for_lost_restores_when_it_succeeds_after_all() -> None:
    tested = breakers()
    tell(tested, FAILURE, 1.0, 3)
    slow = permit(tested, 5.0, attempt_seconds=1.0)
    second = permit(tested, 7.0)
    assert tested.record(slow, SUCCESS, 8.0) is Transition.RESTORED
    assert tested.record(second, FAILURE, 9.0) is None


def test_a_probe_that_says_nothing_leaves_its_place_to_the_next() -> None:
    tested = breakers()
    tell(tested, FAILURE, 1.0, 3)
    assert tested.record(permit(tested, 5.0), NOTHING, 5.0) is None
    assert permit(tested, 5.0).probe


def test_what_began_before_an_ejection_says_nothing_after_it() -> None:
    tested = breakers()
    early = [permit(tested, 1.0) for _ in range(10)]
    assert tell(tested, FAILURE, 1.0, 10)[-1] is Transition.EJECTED
    assert [tested.record(one, outcome, 2.0) for one in early for outcome in (SUCCESS, FAILURE)] == [None] * 20
    probe = permit(tested, 5.0)
    tested.record(probe, SUCCESS, 5.0)
    assert [tested.record(one, FAILURE, 6.0) for one in early] == [None] * 10
    assert isinstance(tested.admit(TARGET, 6.0, 60.0), Permit)


def test_what_is_under_way_may_be_an_answer() -> None:
    tested = breakers()
    burst = [permit(tested, 1.0) for _ in range(10)]
    # Failures are quick and answers take their time.
    assert [tested.record(one, FAILURE, 1.1) for one in burst[:4]] == [None] * 4
    assert [tested.record(one, SUCCESS, 4.0) for one in burst[4:]] == [None] * 6
    # If no answers come, it was an outage.
    tested = breakers()
    outage = [permit(tested, 1.0) for _ in range(10)]
    assert Transition.EJECTED in [tested.record(one, FAILURE, 30.0) for one in outage]


@pytest.mark.parametrize("lasted", [0.5, 1.0, 5.0, 9.0, 9.9, 10.0, 13.0, 19.9, 40.0])
def test_callers_who_left_hide_nothing_of_a_later_burst_however_long_they_stayed(lasted: float) -> None:
    tested = breakers()
    left = [permit(tested, 1.0) for _ in range(100)]
    assert [tested.record(one, NOTHING, 1.0 + lasted) for one in left] == [None] * 100
    burst = [permit(tested, 1.0 + lasted) for _ in range(100)]
    assert [tested.record(one, FAILURE, 1.1 + lasted) for one in burst[:49]] == [None] * 49
    assert tested.record(burst[49], FAILURE, 1.1 + lasted) is Transition.EJECTED


def test_what_the_provider_asks_is_honoured_by_an_ejection_but_ejects_nobody_alone() -> None:
    tested = breakers()
    assert tell(tested, FAILURE, 1.0, retry_after_seconds=15.0) == [None]
    assert isinstance(tested.admit(TARGET, 1.0, 60.0), Permit)
    assert tell(tested, FAILURE, 2.0, 2)[-1] is Transition.EJECTED
    assert refused(tested, 2.0) == 14.0


def test_a_provider_that_answers_has_taken_back_its_asking() -> None:
    tested = breakers()
    tell(tested, FAILURE, 1.0, retry_after_seconds=15.0)
    tell(tested, SUCCESS, 1.0)
    tell(tested, FAILURE, 1.0, 2)
    assert refused(tested, 1.0) == 4.0


def test_nobody_can_ask_for_more_than_the_longest_ejection() -> None:
    tested = breakers()
    tell(tested, FAILURE, 1.0, 3, retry_after_seconds=1e12)
    assert refused(tested, 1.0) == 20.0


def test_targets_are_apart() -> None:
    tested, other = breakers(), Target("prv_1", "gpt-4o-mini")
    tell(tested, FAILURE, 1.0, 3)
    assert isinstance(tested.admit(other, 1.0, 60.0), Permit)


def test_no_more_targets_are_kept_than_allowed() -> None:
    tested = breakers(max_targets=3)
    tell(tested, FAILURE, 1.0, 3)
    for number in range(10):
        permit(tested, 1.0, Target("prv_1", str(number)))
        refused(tested, 1.0)  # in use, so it stays
    assert len(tested) == 3
    gone = permit(tested, 1.0, Target("prv_2", "gone"))
    for number in range(3):
        permit(tested, 1.0, Target("prv_1", str(number)))
    assert tested.record(gone, FAILURE, 1.0) is None
    assert len(tested) == 3


def test_no_minimum_turns_breakers_off() -> None:
    tested = breakers(BreakerPolicy(min_failures=0))
    assert tell(tested, FAILURE, 1.0, 1000) == [None] * 1000


@dataclass
class _Model:
    """A breaker that remembers everything, and is told what the tested one did with each permit."""

    attempts: list[tuple[int, bool]] = field(default_factory=list)
    """Since the last ejection: the tenth of the window in which each ended, and whether it failed."""
    begun: list[int] = field(default_factory=list)
    """Likewise, the tenth in which each began, but for those that said nothing."""
    ejected_until: float | None = None
    ejections: int = 0
    restored: float = 0.0


class BreakerMachine(RuleBasedStateMachine):
    """Attempts begin, end in any order or never, while time passes."""

    @initialize(seed=st.integers(0, 2**32 - 1))
    def start(self, seed: int) -> None:
        chance = random.Random(seed)
        self.tested = Breakers(POLICY, chance.random)
        self.model = _Model()
        self.now = 1000.0
        self.under_way: list[tuple[Permit, int, int]] = []
        """With the number of ejections and restorations before each, and the tenth of the window in which it began."""
        self.changes = 0
        self.probe: Permit | None = None
        self.probe_until = 0.0

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.9, 1.0, 3.3, 4.0, 11.0, 25.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(attempt_seconds=st.sampled_from([0.5, 2.0, 60.0]))
    def begin(self, attempt_seconds: float) -> None:
        given = self.tested.admit(TARGET, self.now, attempt_seconds)
        until = self.model.ejected_until
        probe_runs = self.probe is not None and self.now < self.probe_until
        if until is None:
            assert isinstance(given, Permit)
            assert given.probe == 0
            self.model.begun.append(int(self.now))
        elif self.now < until or probe_runs:
            assert isinstance(given, Ejected)
            assert given.retry_after_seconds == pytest.approx(until - self.now if self.now < until else 1.0)
            return
        else:
            assert isinstance(given, Permit)
            assert given.probe
            self.probe, self.probe_until = given, self.now + min(attempt_seconds, 30.0)
        self.under_way.append((given, self.changes, int(self.now)))

    @rule(outcome=st.sampled_from([SUCCESS, FAILURE, FAILURE, NOTHING]), which=st.integers(0, 10**6))
    def end(self, outcome: Outcome, which: int) -> None:
        if not self.under_way:
            return
        permit, begun_at, began = self.under_way.pop(which % len(self.under_way))
        changed = self.tested.record(permit, outcome, self.now)
        model, is_of_now = self.model, begun_at == self.changes
        if model.ejected_until is None:
            assert not permit.probe or not is_of_now
            bucket = int(self.now)
            if not is_of_now or outcome is NOTHING:
                assert changed is None
                if is_of_now:
                    model.begun.remove(began)
                return
            model.attempts.append((bucket, outcome is FAILURE))
            recent = [failed for ended, failed in model.attempts if ended > bucket - 10]
            begun = sum(each > bucket - 10 for each in model.begun)
            must_eject = outcome is FAILURE and sum(recent) >= 3 and sum(recent) >= 0.5 * max(len(recent), begun)
            assert changed is (Transition.EJECTED if must_eject else None)
            if must_eject:
                if self.now - model.restored >= POLICY.max_ejection_seconds:
                    model.ejections = 0
                self._was_ejected()
        elif not permit.probe or not is_of_now:
            assert changed is None
        elif outcome is SUCCESS:
            assert changed is Transition.RESTORED
            model.ejected_until, model.restored, model.attempts, model.begun = None, self.now, [], []
            self.probe = None
            self.changes += 1
        elif self.probe is None:
            assert changed is None
        elif outcome is FAILURE:
            assert changed is Transition.EJECTED_AGAIN
            self._was_ejected(again=True)
        else:
            assert changed is None
            if permit is self.probe:
                self.probe = None

    def _was_ejected(self, *, again: bool = False) -> None:
        model = self.model
        given = self.tested.admit(TARGET, self.now, 60.0)
        assert isinstance(given, Ejected)
        lasts = given.retry_after_seconds
        longest = min(POLICY.max_ejection_seconds, POLICY.ejection_seconds * 2**model.ejections)
        assert 0.8 * longest - 1e-6 <= lasts <= longest + 1e-6
        model.ejected_until, model.attempts = self.now + lasts, []
        model.ejections += 1
        self.probe = None
        if not again:
            self.changes += 1

    def teardown(self) -> None:
        """From wherever it is, waiting and one success of a probe lead back."""
        if not hasattr(self, "tested"):
            return
        later = self.now + POLICY.max_ejection_seconds + 60.0
        given = self.tested.admit(TARGET, later, 60.0)
        assert isinstance(given, Permit)
        self.tested.record(given, SUCCESS, later)
        served = self.tested.admit(TARGET, later, 60.0)
        assert isinstance(served, Permit)
        assert served.probe == 0


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
