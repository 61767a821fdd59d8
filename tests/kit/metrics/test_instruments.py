from __future__ import annotations

import pytest

from kit.metrics import OTHER, Metrics


def test_a_value_falls_into_the_first_bucket_that_is_not_below_it() -> None:
    series = Metrics().histogram("h_seconds", "H.", bounds=(0.1, 1.0)).series()

    for value in (0.0, 0.1, 0.10001, 1.0, 1.5):
        series.observe(value)

    assert series.counts == [2, 2, 1]
    assert series.total == pytest.approx(2.70001)


def test_the_same_labels_are_the_same_series() -> None:
    counter = Metrics().counter("c", "C.", ("name",))
    counter.series("a").value += 2
    counter.series("a").value += 1
    counter.series("b").value += 1

    assert {values: series.value for values, series in counter.all()} == {("a",): 3, ("b",): 1}


def test_what_comes_after_the_bound_shares_one_series_and_nothing_is_left_out() -> None:
    counter = Metrics().counter("c", "C.", ("one", "two"), limit=3)

    for number in range(10):
        counter.series("x", str(number)).value += 1

    assert {values: series.value for values, series in counter.all()} == {
        ("x", "0"): 1,
        ("x", "1"): 1,
        ("x", "2"): 1,
        (OTHER, OTHER): 7,
    }


def test_a_forgotten_label_is_refused() -> None:
    with pytest.raises(ValueError, match="one, two"):
        Metrics().counter("c", "C.", ("one", "two")).series("x")
