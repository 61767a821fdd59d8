from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog import assignment
from kit.errors import Invalid

KEYS = [f"user-{number}" for number in range(20_000)]
WEIGHTS = st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 100), min_size=1, max_size=6)


def _shares(weights: dict[str, float], salt: str = "salt") -> dict[str, int]:
    counts = dict.fromkeys(weights, 0)
    for key in KEYS:
        winner = assignment.assign(salt, key, weights.items())
        assert winner is not None
        counts[winner] += 1
    return counts


@pytest.mark.parametrize(
    "weights", [{"a": 30, "b": 70}, {"a": 3, "b": 7}, {"a": 100, "b": 5}, {"a": 1, "b": 1, "c": 1}]
)
def test_shares_follow_the_weights_within_four_sigma(weights: dict[str, float]) -> None:
    total, count = sum(weights.values()), len(KEYS)

    for bucket, seen in _shares(weights).items():
        share = weights[bucket] / total
        assert abs(seen - count * share) < 4 * math.sqrt(count * share * (1 - share))


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


@settings(max_examples=30)
@given(WEIGHTS, st.data())
def test_removing_a_bucket_moves_only_its_keys(weights: dict[str, float], data: st.DataObject) -> None:
    removed = data.draw(st.sampled_from(sorted(weights)))
    after = {bucket: weight for bucket, weight in weights.items() if bucket != removed}

    for key in KEYS[:300]:
        old, new = assignment.assign("s", key, weights.items()), assignment.assign("s", key, after.items())
        assert old in (new, removed)


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


@given(st.text(max_size=50), st.text(max_size=50))
def test_uniform_is_strictly_between_0_and_1(salt: str, key: str) -> None:
    try:
        assert 0 < assignment.uniform(salt, "assign", "v", key) < 1
    except Invalid as error:
        assert error.reason == "ROUTING_KEY_NOT_TEXT"  # noqa: PT017  # either outcome is right


def test_the_extremes_of_the_hash_stay_inside() -> None:
    assert 0 < 0.5 * 2.0**-52
    assert (((2**64 - 1) >> 12) + 0.5) * 2.0**-52 < 1


# The vectors of docs/routing.md: other languages are checked against the same numbers.
@pytest.mark.parametrize(
    ("salt", "purpose", "subject", "key", "expected"),
    [
        ("dep_1", "assign", "var_a", "user-1", 0.732776183551101),
        ("dep_1", "assign", "var_b", "user-1", 0.7202508498118995),
        ("Ünïcode", "admit", "dep_1", "日本", 0.28473562706266387),
    ],
)
def test_published_vectors(salt: str, purpose: str, subject: str, key: str, expected: float) -> None:
    assert assignment.uniform(salt, purpose, subject, key) == expected
