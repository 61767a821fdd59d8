"""The search for the best is exact: it equals sorting everything."""

from __future__ import annotations

import numpy as np
import pytest

from recommenders import topk
from recommenders.topk import Best, Hidden, best_of, best_products

NOTHING = Hidden(np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int64))


def sorted_best(scores: np.ndarray[tuple[int], np.dtype[np.float32]], limit: int) -> list[int]:
    order = np.lexsort((np.arange(len(scores)), -scores))[:limit]
    return [int(row) for row in order if scores[row] > -np.inf]


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small blocks and parts, as large data have."""
    monkeypatch.setattr(topk, "_SCORES", 1 << 9)
    monkeypatch.setattr(topk, "_QUERIES", 4)
    monkeypatch.setattr(topk, "_GROUP", 8)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("queries", [1, 2, 4, 9])
@pytest.mark.parametrize("limit", [1, 10, 700, 5000])
@pytest.mark.parametrize("kind", ["random", "ascending", "descending", "ties", "equal"])
def test_the_best_are_those_that_sorting_finds(queries: int, limit: int, kind: str) -> None:
    random = np.random.default_rng(0)
    # Small whole numbers: their products are exact in whatever order they are summed.
    items = random.integers(-9, 9, (1003, 3)).astype(np.float32)
    users = random.integers(-9, 9, (queries, 3)).astype(np.float32)
    if kind == "ties":
        items = np.sign(items)
    elif kind == "equal":
        items[:] = 1
    elif kind != "random":
        items = items[np.argsort(items @ users[0])]
        items = items if kind == "ascending" else items[::-1].copy()
    mask = random.random((1003, queries)) < 0.3
    mask[:, 0] = False
    mask[:, -1] = queries > 1
    rows, numbers = np.nonzero(mask)

    found = best_products(items, users, limit, Hidden(rows, numbers))

    scores = np.where(mask, -np.inf, items @ users.T).astype(np.float32)
    for number, best in enumerate(found):
        assert best.rows.tolist() == sorted_best(scores[:, number], limit)
        assert np.array_equal(best.scores, scores[best.rows, number])


def test_memory_does_not_grow_with_what_is_equal() -> None:
    items, users = np.zeros((200_000, 2), dtype=np.float32), np.ones((64, 2), dtype=np.float32)

    found = best_products(items, users, 10, NOTHING)

    assert all(best.rows.tolist() == list(range(10)) for best in found)


@pytest.mark.parametrize("limit", [1, 5, 100])
def test_few_scores_are_searched_as_well(limit: int) -> None:
    random = np.random.default_rng(0)
    rows, scores = random.permutation(60).astype(np.int32), random.integers(0, 5, 60).astype(np.float32)

    best: Best = best_of(rows, scores, limit)

    expected = sorted(zip(-scores, rows, strict=True))[:limit]
    assert best.rows.tolist() == [int(row) for _, row in expected]
    assert best.scores.tolist() == [-float(score) for score, _ in expected]
