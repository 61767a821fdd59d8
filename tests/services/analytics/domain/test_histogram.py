from __future__ import annotations

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.analytics.domain.histogram import ZERO_BUCKET, bucket_of, latency_of, quantiles

latencies = st.one_of(st.integers(0, 1000), st.integers(0, 10**9), st.integers(0, 1 << 50))
SHARES = (0.5, 0.95, 0.99, 1.0)


def exact(values: list[int], share: float) -> int:
    return sorted(values)[max(1, math.ceil(share * len(values))) - 1]


@given(latencies)
def test_a_bucket_stands_for_its_values_within_one_percent(value: int) -> None:
    assert abs(latency_of(bucket_of(value)) - value) <= 0.01 * value + 0.5


@given(latencies, latencies)
def test_buckets_are_ordered_as_their_values(one: int, other: int) -> None:
    if one <= other:
        assert bucket_of(one) <= bucket_of(other)


@given(st.lists(latencies, min_size=1, max_size=300))
def test_quantiles_are_within_one_percent_of_the_exact_ones(values: list[int]) -> None:
    found = quantiles(Counter(map(bucket_of, values)), SHARES)

    assert found is not None
    for share, estimate in zip(SHARES, found, strict=True):
        truth = exact(values, share)
        assert abs(estimate - truth) <= 0.01 * truth + 0.5


@given(st.lists(latencies, max_size=100), st.lists(latencies, max_size=100))
def test_adding_histograms_is_counting_all_values_at_once(one: list[int], other: list[int]) -> None:
    both = Counter(map(bucket_of, one)) + Counter(map(bucket_of, other))

    assert quantiles(both, SHARES) == quantiles(Counter(map(bucket_of, one + other)), SHARES)


def test_without_values_there_are_no_quantiles() -> None:
    assert quantiles({}, SHARES) is None


def test_a_latency_of_zero_has_a_bucket_of_its_own() -> None:
    assert bucket_of(0) == ZERO_BUCKET
    assert quantiles({ZERO_BUCKET: 3}, (0.5,)) == [0]
