"""A trained model, as training leaves it and the artifact keeps it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kit.json import Json
from recommenders.texts import Texts

Array: TypeAlias = NDArray[Any]  # of one of the dtypes in LAYOUT; each array's own is named there
Float32s: TypeAlias = NDArray[np.float32]
Int32s: TypeAlias = NDArray[np.int32]
Int64s: TypeAlias = NDArray[np.int64]


class Algorithm(StrEnum):
    """How a model scores items."""

    ALS = "als"
    """Product of a user's and an item's factors, which alternating least squares finds."""
    BM25 = "bm25"
    """Sum of the similarities to the user's items, weighted by what the user gave them."""
    POPULARITY = "popularity"
    """How many users an item has."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A sparse matrix by rows: row r has `values` (or ones) at the columns `indices[indptr[r]:indptr[r + 1]]`."""

    indptr: Int64s
    indices: Int32s
    values: Float32s | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TrainedModel:
    """Users and items are rows in ascending order of their ids' UTF-8 bytes."""

    algorithm: Algorithm
    user_ids: Texts
    item_ids: Texts
    item_titles: Texts
    """One an item; empty where there is none."""
    seen: Rows
    """Which items each user has interacted with, columns ascending; for BM25 with the values trained with."""
    popularity: Int64s
    """How many different users each item has."""
    user_factors: Float32s | None = None
    """For ALS: users × factors."""
    item_factors: Float32s | None = None
    """For ALS: items × factors."""
    similarity: Rows | None = None
    """For BM25: items × items, columns ascending."""
    parameters: Mapping[str, Json] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    def arrays(self) -> Iterator[tuple[str, Array]]:
        """What the artifact keeps, in the order of :data:`LAYOUT`, by the names there."""
        similarity = self.similarity
        found: dict[str, Array | None] = {
            "user_ids": self.user_ids.blob,
            "user_ids_offsets": self.user_ids.offsets,
            "item_ids": self.item_ids.blob,
            "item_ids_offsets": self.item_ids.offsets,
            "item_titles": self.item_titles.blob,
            "item_titles_offsets": self.item_titles.offsets,
            "popularity": self.popularity,
            "seen_indptr": self.seen.indptr,
            "seen_indices": self.seen.indices,
            "seen_data": self.seen.values,
            "user_factors": self.user_factors,
            "item_factors": self.item_factors,
            "similarity_indptr": None if similarity is None else similarity.indptr,
            "similarity_indices": None if similarity is None else similarity.indices,
            "similarity_data": None if similarity is None else similarity.values,
        }
        for name, dtype in LAYOUT[self.algorithm].items():
            array = found[name]
            if array is None:
                raise ValueError(f"a model of {self.algorithm} needs {name}")
            yield name, np.ascontiguousarray(array, dtype=dtype)


_COMMON: Final = {
    "user_ids": "|u1",
    "user_ids_offsets": "<i8",
    "item_ids": "|u1",
    "item_ids_offsets": "<i8",
    "item_titles": "|u1",
    "item_titles_offsets": "<i8",
    "popularity": "<i8",
    "seen_indptr": "<i8",
    "seen_indices": "<i4",
}
LAYOUT: Final[Mapping[Algorithm, Mapping[str, str]]] = {
    Algorithm.ALS: _COMMON | {"user_factors": "<f4", "item_factors": "<f4"},
    Algorithm.BM25: _COMMON
    | {"seen_data": "<f4", "similarity_indptr": "<i8", "similarity_indices": "<i4", "similarity_data": "<f4"},
    Algorithm.POPULARITY: _COMMON,
}
"""The arrays of an artifact and their dtypes, by algorithm."""
