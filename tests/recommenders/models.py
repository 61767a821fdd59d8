"""Small models for tests."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array  # type: ignore[import-untyped]  # scipy has no annotations

from recommenders.model import Algorithm, Rows, TrainedModel
from recommenders.texts import Texts


def small_model(
    algorithm: Algorithm, *, users: int = 20, items: int = 50, factors: int = 8, seed: int = 0
) -> TrainedModel:
    """A model of random numbers; ids `u00` … and `i000` …, every third item without a title."""
    random = np.random.default_rng(seed)
    seen = csr_array(random.random((users, items)) < 0.2, dtype=np.float32)
    seen.data[:] = random.integers(1, 6, len(seen.data))
    indptr, indices = seen.indptr.astype(np.int64), seen.indices.astype(np.int32)
    similarity = csr_array((random.random((items, items)) < 0.3) | np.eye(items, dtype=bool), dtype=np.float32)
    similarity.data[:] = random.random(len(similarity.data)) + 0.1
    return TrainedModel(
        algorithm,
        user_ids=Texts.of(f"u{number:02}" for number in range(users)),
        item_ids=Texts.of(f"i{number:03}" for number in range(items)),
        item_titles=Texts.of(f"Title {number}" if number % 3 else "" for number in range(items)),
        seen=Rows(indptr, indices, seen.data),
        popularity=np.bincount(indices, minlength=items),
        user_factors=random.standard_normal((users, factors), dtype=np.float32),
        item_factors=random.standard_normal((items, factors), dtype=np.float32),
        similarity=Rows(similarity.indptr.astype(np.int64), similarity.indices.astype(np.int32), similarity.data),
        parameters={"factors": factors},
        metrics={"ndcg@10": 0.25},
    )
