"""What is measured, by values that can be counted by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from recommenders.evaluation import Evaluation, interval, measure, split
from recommenders.interactions import Interactions, read_interactions
from recommenders.model import Algorithm
from recommenders.training import train


def read(folder: Path, rows: str) -> Interactions:
    (folder / "data.csv").write_text(rows)
    return read_interactions(folder / "data.csv")


def test_what_came_last_is_held_out(tmp_path: Path) -> None:
    rows = [f"a,i{n:02},{100 - n}" for n in range(11)] + ["b,i00,1", "c,i00,5", "c,i01,9"]
    data = read(tmp_path, "user,item,time\n" + "\n".join(rows) + "\n")

    parts = split(data, seed=0)

    assert parts is not None
    assert parts.is_by_time
    assert parts.users.tolist() == [0, 2]
    # Two of eleven, the latest; of one nothing; of two one.
    assert [items.tolist() for items in parts.held_out] == [[0, 1], [1]]
    assert len(parts.kept) == len(data) - 3
    assert parts.kept.times is not None
    assert parts.kept.times[parts.kept.users == 0].max() == 98


def test_without_times_what_is_held_out_is_drawn_the_same_each_time(tmp_path: Path) -> None:
    rows = "".join(f"u{n % 40},i{n % 77}\n" for n in range(2000))
    data = read(tmp_path, "user,item\n" + rows)

    first, second, other = split(data, seed=0), split(data, seed=0), split(data, seed=1)

    assert first is not None
    assert second is not None
    assert other is not None
    assert not first.is_by_time
    assert [items.tolist() for items in first.held_out] == [items.tolist() for items in second.held_out]
    assert [items.tolist() for items in first.held_out] != [items.tolist() for items in other.held_out]
    kept = set(zip(first.kept.users.tolist(), first.kept.items.tolist(), strict=True))
    held_out = {(user, i) for user, items in zip(first.users.tolist(), first.held_out, strict=True) for i in items}
    assert kept.isdisjoint(held_out)
    assert len(kept) + len(held_out) == len(data)


def test_nobody_with_two_interactions_is_nobody_to_evaluate(tmp_path: Path) -> None:
    assert split(read(tmp_path, "user,item\na,x\nb,x\n"), seed=0) is None


def test_measures_are_those_of_their_definitions(tmp_path: Path) -> None:
    # Popularity among what is kept: x of 3, y of 2, z of 1. Users a, b and c lose their last item.
    rows = ["a,x,1", "a,y,2", "b,x,1", "b,w,2", "c,x,1", "c,z,2", "d,y,1", "e,y,1", "f,z,1"]
    data = read(tmp_path, "user,item,time\n" + "\n".join(rows) + "\n")
    parts = split(data, seed=0)
    assert parts is not None

    measured = measure(train(parts.kept, Algorithm.POPULARITY, {}), parts, lambda _: None)

    # Each gets y, z, w: what they have not seen, by popularity.
    assert measured.ndcg.tolist() == pytest.approx([1, 1 / math.log2(4), 1 / math.log2(3)])
    assert measured.recall.tolist() == [1, 1, 1]
    assert measured.hits.tolist() == [1, 1, 1]
    assert measured.coverage == 0.75


def test_intervals_are_those_of_a_mean() -> None:
    numbers = np.array([0.0, 1.0] * 50)

    metric = interval(numbers)

    assert metric.mean == 0.5
    assert metric.low == pytest.approx(0.5 - 1.959964 * math.sqrt(0.25 * 100 / 99) / 10)
    assert metric.high == pytest.approx(0.5 + 1.959964 * math.sqrt(0.25 * 100 / 99) / 10)
    assert interval(np.array([0.3])).low == 0.3


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)

    held = 0
    for _ in range(1000):
        metric = interval((random.random(200) < 0.3).astype(np.float64))
        assert metric.low is not None
        assert metric.high is not None
        held += metric.low <= 0.3 <= metric.high

    assert 925 <= held <= 970


def test_a_model_is_as_good_as_itself(movielens: Interactions) -> None:
    parts = split(movielens, seed=0)
    assert parts is not None
    measured = measure(train(parts.kept, Algorithm.POPULARITY, {}), parts, lambda _: None)

    evaluation = Evaluation.of(measured, measured, is_by_time=True)

    assert all(row.difference.mean == 0 for row in evaluation.rows)
    numbers = evaluation.numbers()
    assert numbers["ndcg@10"] == numbers["ndcg@10.popularity"]
    assert numbers["ndcg@10.low"] < numbers["ndcg@10"] < numbers["ndcg@10.high"]
