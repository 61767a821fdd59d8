"""How well a model tells what users do next: measured on what each did last, which it was not shown."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recommenders.interactions import Interactions
from recommenders.model import Int32s, TrainedModel
from recommenders.scoring import Query, Scorer
from recommenders.tables import Progress

Float64s: TypeAlias = NDArray[np.float64]

CUTOFF: Final = 10
"""How many recommendations are looked at."""
MAX_USERS: Final = 20_000
"""More users than that say no more, but take longer: of more, a seeded sample is evaluated."""
_Z: Final = 1.959964
"""Standard normal quantile of a two-sided 95 % interval."""
_AT_A_TIME: Final = 256


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Interactions in two: what a model is shown, and what it is asked for."""

    kept: Interactions
    users: Int32s
    """Who is evaluated, ascending."""
    held_out: list[Int32s]
    """Their held out items."""
    is_by_time: bool
    """Whether what is held out came last; else it was drawn."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A mean over users and its 95 % interval; one without an interval is not a mean."""

    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """One model's numbers, by evaluated user."""

    ndcg: Float64s
    recall: Float64s
    hits: Float64s
    coverage: float


@dataclass(frozen=True, slots=True)
class Row:
    """One measure of a model and of popularity, and by how much the model is better for the same users."""

    name: str
    model: Metric
    popularity: Metric
    difference: Metric


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured."""

    user_count: int
    is_by_time: bool
    rows: tuple[Row, ...]

    @classmethod
    def of(cls, model: Measured, popularity: Measured, *, is_by_time: bool) -> Evaluation:
        """Put a model's numbers beside those of recommending the most popular items to everybody."""
        rows = [
            Row(f"{name}@{CUTOFF}", interval(ours), interval(theirs), interval(ours - theirs))
            for name, ours, theirs in (
                ("ndcg", model.ndcg, popularity.ndcg),
                ("recall", model.recall, popularity.recall),
                ("hit_rate", model.hits, popularity.hits),
            )
        ]
        covered, by_popularity = model.coverage, popularity.coverage
        rows.append(Row(f"coverage@{CUTOFF}", Metric(covered), Metric(by_popularity), Metric(covered - by_popularity)))
        return cls(len(model.ndcg), is_by_time, tuple(rows))

    def numbers(self) -> dict[str, float]:
        """For an artifact's manifest: `ndcg@10`, its interval `ndcg@10.low` and `.high`, and `ndcg@10.popularity`."""
        numbers: dict[str, float] = {"evaluated_users": float(self.user_count)}
        for row in self.rows:
            numbers[row.name] = row.model.mean
            if row.model.low is not None and row.model.high is not None:
                numbers |= {f"{row.name}.low": row.model.low, f"{row.name}.high": row.model.high}
            numbers[f"{row.name}.popularity"] = row.popularity.mean
        return numbers


def split(interactions: Interactions, *, seed: int) -> Split | None:
    """Hold out the last fifth of each user's interactions, at least 1 and at most 10.

    The last ones by time, or drawn if there are no times; equal times in drawn order. Users with one interaction keep
    it and are not evaluated.

    :return: None if nobody has two
    """
    random = np.random.default_rng(seed)
    counts = np.bincount(interactions.users, minlength=len(interactions.user_ids))
    eligible = np.flatnonzero(counts >= 2)
    if not len(eligible):
        return None
    if len(eligible) > MAX_USERS:
        eligible = np.sort(random.choice(eligible, MAX_USERS, replace=False))
    sizes = np.zeros(len(counts), dtype=np.int64)
    sizes[eligible] = np.clip(counts[eligible] // 5, 1, 10)
    drawn = random.random(len(interactions))
    keys = (
        (drawn, interactions.users) if interactions.times is None else (drawn, interactions.times, interactions.users)
    )
    order = np.lexsort(keys)
    ends = np.cumsum(counts)
    # Places from the end of the user's own, 1 for the last.
    users = interactions.users[order]
    is_held_out = np.empty(len(order), dtype=bool)
    is_held_out[order] = ends[users] - np.arange(len(order)) <= sizes[users]
    held_out = interactions.items[is_held_out]
    bounds = np.cumsum(sizes[eligible])
    return Split(
        _part(interactions, ~is_held_out),
        eligible.astype(np.int32),
        np.split(held_out, bounds[:-1]),
        interactions.times is not None,
    )


def measure(model: TrainedModel, parts: Split, progress: Progress) -> Measured:
    """Recommend ten unseen items to each evaluated user and compare them with what was held out.

    With the held out items R of a user and the recommendations i_1 … i_10, each by definition in [0, 1]:

    * nDCG = Σ_j [i_j ∈ R] / log2(j + 1), divided by that of a perfect list, Σ_{j ≤ min(|R|, 10)} 1 / log2(j + 1).
      Source: K. Järvelin, J. Kekäläinen (2002), ACM TOIS 20, 422-446, with binary gains.
    * recall = |R ∩ {i_1 … i_10}| / |R|
    * hit = 1 if any of R is recommended, else 0
    * coverage = share of all items that were recommended to anybody; of all users together
    """
    scorer = Scorer(model.algorithm, dict(model.arrays()))
    discounts = 1 / np.log2(np.arange(CUTOFF) + 2)
    ideals = np.cumsum(discounts)
    ndcg, recall, hits = (np.zeros(len(parts.users)) for _ in range(3))
    covered = np.zeros(len(model.item_ids), dtype=bool)
    for number, recommended in _recommendations(scorer, parts.users, progress):
        relevant = parts.held_out[number]
        found = np.isin(recommended, relevant)
        ndcg[number] = discounts[: len(found)][found].sum() / ideals[min(len(relevant), CUTOFF) - 1]
        recall[number] = found.sum() / len(relevant)
        hits[number] = found.any()
        covered[recommended] = True
    return Measured(ndcg, recall, hits, float(covered.mean()))


def interval(numbers: Float64s) -> Metric:
    """Mean over users with its 95 % interval, mean ± 1.96 s / √n, s being the sample's standard deviation.

    The users are the sample; what they do is taken as independent. Of one user, the interval is the number itself.

    Source: the central limit theorem; for example L. Wasserman (2004), All of Statistics, section 6.3.2.
    """
    mean = float(numbers.mean())
    half = _Z * float(numbers.std(ddof=1)) / math.sqrt(len(numbers)) if len(numbers) > 1 else 0.0
    return Metric(mean, mean - half, mean + half)


def _recommendations(scorer: Scorer, users: Int32s, progress: Progress) -> Iterator[tuple[int, Int32s]]:
    query = Query("", CUTOFF)
    for start in range(0, len(users), _AT_A_TIME):
        batch = users[start : start + _AT_A_TIME].tolist()
        for number, best in enumerate(scorer.best([(row, query) for row in batch]), start):
            yield number, best.rows
        progress((start + len(batch)) / len(users))


def _part(interactions: Interactions, chosen: NDArray[np.bool_]) -> Interactions:
    return replace(
        interactions,
        users=interactions.users[chosen],
        items=interactions.items[chosen],
        values=interactions.values[chosen],
        times=None if interactions.times is None else interactions.times[chosen],
    )
