"""Small trained models for tests: sound artifacts, made in milliseconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recommenders.artifact import Manifest, write_artifact
from recommenders.model import Algorithm, Rows, TrainedModel
from recommenders.texts import Texts


def trained(seed: int = 0, *, users: int = 20, items: int = 50, factors: int = 8, seen_each: int = 3) -> TrainedModel:
    """An ALS model of random factors. User `u00003` has seen three items; items are called `i00000` and have titles.

    Models of different seeds recommend different items with different scores.
    """
    random = np.random.default_rng(seed)
    seen = np.sort(random.random((users, items)).argsort(axis=1)[:, :seen_each], axis=1).astype(np.int32)
    return TrainedModel(
        algorithm=Algorithm.ALS,
        user_ids=Texts.of([f"u{row:05}" for row in range(users)]),
        item_ids=Texts.of([f"i{row:05}" for row in range(items)]),
        item_titles=Texts.of([f"Item {row}" for row in range(items)]),
        seen=Rows(np.arange(users + 1, dtype=np.int64) * seen_each, seen.reshape(-1)),
        popularity=np.bincount(seen.reshape(-1), minlength=items).astype(np.int64),
        user_factors=random.standard_normal((users, factors), dtype=np.float32),
        item_factors=random.standard_normal((items, factors), dtype=np.float32),
        parameters={"factors": factors, "seed": seed},
        metrics={"ndcg@10": 0.25},
    )


def write(folder: Path, seed: int = 0, *, users: int = 20, items: int = 50, factors: int = 8) -> Manifest:
    """One as an artifact, in a new folder."""
    return write_artifact(folder, trained(seed, users=users, items=items, factors=factors))
