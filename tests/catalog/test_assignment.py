from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog import assignment
from kit.errors import Invalid

KEYS = [f"user-{number}" for number in range(20_000)]
WEIGHTS = st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 100), min_size=1, max_size=6)
MANY_SALTS = [f"salt-{number}" for number in range(6)]
CHI_SQUARE = {5: 25.74, 8: 31.83}
"""What one exceeds once in 10,000 times, by degrees of freedom; the keys are the same every time."""


def _shares(weights: dict[str, float], salt: str = "salt") -> dict[str, int]:
    counts = dict.fromkeys(weights, 0)
    for key in KEYS:
        winner = assignment.assign(salt, key, weights.items())
        assert winner is not None
        counts[winner] += 1
    return counts


def _assert_within_four_sigma(seen: int, count: int, share: float) -> None:
    assert abs(seen - count * share) < 4 * math.sqrt(count * share * (1 - share))


@pytest.mark.parametrize(
    "weights",
    [
        {"a": 30, "b": 70},
        {"a": 3, "b": 7},
        {"a": 100, "b": 5},
        {"a": 1, "b": 1, "c": 1},
        {"a": 33.3, "b": 0.25, "c": 12.75, "d": 0.001},
        {f"v{number:03}": 0.1 + number / 7 for number in range(40)},
    ],
    ids=["30/70", "3/7", "100/5", "thirds", "decimals", "forty"],
)
def test_shares_follow_the_weights_within_four_sigma(weights: dict[str, float]) -> None:
    total = sum(weights.values())

    for bucket, seen in _shares(weights).items():
        # Where fewer than one is expected, four sigma are less than one.
        _assert_within_four_sigma(seen, len(KEYS), max(weights[bucket] / total, 1 / len(KEYS)))


@pytest.mark.thorough
def test_shares_of_a_million_keys_are_within_four_sigma() -> None:
    weights = {"a": 33.3, "b": 0.5, "c": 66.2}
    candidates = list(weights.items())

    seen = Counter(assignment.assign("salt", f"unit-{number}", candidates) for number in range(1_000_000))

    assert seen.keys() == weights.keys()
    for bucket, weight in candidates:
        _assert_within_four_sigma(seen[bucket], 1_000_000, weight / sum(weights.values()))


@pytest.mark.thorough
def test_the_covered_of_a_million_keys_are_within_four_sigma() -> None:
    draws = [assignment.uniform("salt", "admit", "dep_1", f"unit-{number}") for number in range(1_000_000)]

    for coverage in (0.001, 0.05, 0.5, 0.999):
        _assert_within_four_sigma(sum(draw < coverage for draw in draws), len(draws), coverage)


def test_only_the_ratio_of_weights_counts() -> None:
    for key in KEYS[:2000]:
        assert assignment.assign("s", key, [("a", 30), ("b", 70)]) == assignment.assign("s", key, [("a", 3), ("b", 7)])


@settings(max_examples=30)
@given(WEIGHTS, st.sampled_from("abcdef"), st.floats(0.5, 100))
def test_raising_one_weight_moves_keys_only_to_that_bucket(weights: dict[str, float], raised: str, more: float) -> None:
    after = {**weights, raised: weights.get(raised, 0) + more}

    for key in KEYS[:300]:
        old, new = assignment.assign("s", key, weights.items()), assignment.assign("s", key, after.items())
        assert old == new or new == raised


def test_raising_one_weight_moves_as_many_as_it_must() -> None:
    before, after = {"a": 30.0, "b": 30.0, "c": 40.0}, {"a": 30.0, "b": 30.0, "c": 90.0}
    count = len(KEYS)

    moved = sum(
        assignment.assign("s", key, before.items()) != assignment.assign("s", key, after.items()) for key in KEYS
    )

    _assert_within_four_sigma(moved, count, 0.6 - 0.4)


@settings(max_examples=30)
@given(WEIGHTS, st.data())
def test_removing_a_bucket_moves_only_its_keys(weights: dict[str, float], data: st.DataObject) -> None:
    removed = data.draw(st.sampled_from(sorted(weights)))
    after = {bucket: weight for bucket, weight in weights.items() if bucket != removed}

    for key in KEYS[:300]:
        old, new = assignment.assign("s", key, weights.items()), assignment.assign("s", key, after.items())
        assert old in (new, removed)


def test_the_keys_of_a_removed_bucket_are_shared_out_by_the_others_weights() -> None:
    before, after = {"a": 10.0, "b": 30.0, "c": 60.0}, {"a": 10.0, "b": 30.0}
    orphans = [key for key in KEYS if assignment.assign("s", key, before.items()) == "c"]

    found = Counter(assignment.assign("s", key, after.items()) for key in orphans)

    _assert_within_four_sigma(found["a"], len(orphans), 0.25)


@settings(max_examples=50)
@given(WEIGHTS, st.text(max_size=20))
def test_the_order_of_candidates_never_matters(weights: dict[str, float], key: str) -> None:
    key = key.encode("utf-8", "replace").decode()
    winners = {
        assignment.assign("s", key, order) for order in itertools.islice(itertools.permutations(weights.items()), 24)
    }

    assert len(winners) == 1


def test_nothing_with_weight_means_nobody() -> None:
    assert assignment.assign("s", "k", []) is None
    assert assignment.assign("s", "k", [("a", 0), ("b", -1)]) is None


def test_the_smallest_weight_there_is_wins_against_nobody() -> None:
    for key in KEYS[:100]:
        assert assignment.assign("s", key, [("a", 5e-324), ("b", 0)]) == "a"


@given(st.text(max_size=50), st.text(max_size=50))
def test_uniform_is_strictly_between_0_and_1(salt: str, key: str) -> None:
    try:
        assert 0 < assignment.uniform(salt, "assign", "v", key) < 1
    except Invalid as error:
        assert error.reason == "ROUTING_KEY_NOT_TEXT"  # noqa: PT017  # either outcome is right


@pytest.mark.parametrize(
    ("digest", "expected"), [(b"\x00" * 64, 2.0**-53), (b"\xff" * 64, 1 - 2.0**-53)], ids=["all 0", "all 1"]
)
def test_the_extremes_of_the_hash_stay_inside(monkeypatch: pytest.MonkeyPatch, digest: bytes, expected: float) -> None:
    class Extreme:
        def __init__(self, text: bytes) -> None:
            self.text = text

        def digest(self) -> bytes:
            return digest

    monkeypatch.setattr(assignment, "blake2b", Extreme)

    found = assignment.uniform("s", "assign", "v", "k")

    assert found == expected
    assert 0 < found < 1
    assert 0 < assignment.score(0.001, found) < assignment.score(100, found) < math.inf
    assert not assignment.is_covered("s", "d", "k", 0)
    assert assignment.is_covered("s", "d", "k", 0.9999) == (expected < 0.5)
    assert assignment.is_covered("s", "d", "k", 1)
    assert assignment.assign("s", "k", [("a", 100), ("b", 0.001)]) == "a"


def test_of_equal_scores_the_smaller_uid_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assignment, "blake2b", lambda text: blake2b(b"the same for all"))

    for order in itertools.permutations([("a", 10.0), ("b", 10.0), ("c", 10.0)]):
        assert assignment.assign("s", "k", order) == "a"


@pytest.mark.parametrize(("one", "other"), list(itertools.pairwise(MANY_SALTS)))
def test_salts_are_independent_of_each_other(one: str, other: str) -> None:
    weights = {"a": 20.0, "b": 30.0, "c": 50.0}

    together = Counter(
        (assignment.assign(one, key, weights.items()), assignment.assign(other, key, weights.items())) for key in KEYS
    )

    expected = {(a, b): len(KEYS) * weights[a] * weights[b] / 100**2 for a in weights for b in weights}
    assert _chi_square(together, expected) < CHI_SQUARE[8]


def test_who_is_covered_is_independent_of_who_is_assigned_what() -> None:
    weights = {"a": 20.0, "b": 30.0, "c": 50.0}

    together = Counter(
        (assignment.is_covered("s", "dep_1", key, 0.4), assignment.assign("s", key, weights.items())) for key in KEYS
    )

    expected = {
        (covered, bucket): len(KEYS) * share * weights[bucket] / 100
        for covered, share in ((True, 0.4), (False, 0.6))
        for bucket in weights
    }
    assert _chi_square(together, expected) < CHI_SQUARE[5]


def test_the_chi_square_notices_what_is_not_independent() -> None:
    weights = {"a": 20.0, "b": 30.0, "c": 50.0}
    alone = Counter((winner, winner) for key in KEYS if (winner := assignment.assign("s", key, weights.items())))

    expected = {(a, b): len(KEYS) * weights[a] * weights[b] / 100**2 for a in weights for b in weights}
    assert _chi_square(alone, expected) > 1000


def _chi_square(seen: Mapping[Any, int], expected: Mapping[Any, float]) -> float:
    assert seen.keys() <= expected.keys()
    return sum((seen.get(cell, 0) - count) ** 2 / count for cell, count in expected.items())


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), st.floats(0, 1), st.floats(0, 1))
def test_enlarging_coverage_admits_exactly_those_between(key: str, one: float, other: float) -> None:
    less, more = sorted((one, other))
    draw = assignment.uniform("s", "admit", "dep_1", key)

    before, after = (assignment.is_covered("s", "dep_1", key, coverage) for coverage in (less, more))

    assert not before or after
    assert (after and not before) == (less <= draw < more)
