"""Answers from a trained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from scipy.sparse import csr_array  # type: ignore[import-untyped]  # scipy has no annotations
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # nor has threadpoolctl

from kit.errors import Unavailable
from recommenders.manifest import Manifest
from recommenders.model import Algorithm, Array
from recommenders.texts import Texts
from recommenders.topk import Best, Hidden, best_of, best_products

_PAGE_BYTES: Final = 4096
_SIMILAR_AT_A_TIME: Final = 1 << 22


@dataclass(frozen=True, slots=True)
class Query:
    """Whom to recommend for."""

    user_id: str
    limit: int
    """How many items at most; at least 1."""
    include_seen: bool = False
    """Whether items that the user has interacted with may be answered too."""


@dataclass(frozen=True, slots=True)
class Item:
    """A recommendation."""

    item_id: str
    score: float
    """The model's own measure, comparable within one answer: an inner product, a sum of similarities, or users."""
    title: str
    """Empty if there is none."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is recommended to one user, best first; fewer than asked for if the model has no more."""

    items: tuple[Item, ...]
    cold_start: bool
    """The model does not know the user, so these are the most popular items."""


class Recommender:
    """A model that answers, from mapped arrays. Any number of threads may call it at once.

    Making one limits the process' BLAS to one thread a call: concurrent calls would fight for cores.
    """

    def __init__(self, manifest: Manifest, arrays: Mapping[str, Array]) -> None:
        threadpool_limits(1, user_api="blas")
        self.manifest = manifest
        self._scorer: Scorer | None = Scorer(Algorithm(manifest.algorithm), arrays)

    def knows(self, user_id: str) -> bool:
        """Whether the training data had this user."""
        return self._open().user_ids.find(user_id) is not None

    def recommend(self, queries: Sequence[Query]) -> list[Answer]:
        """One answer a query, in their order. Unknown users get the most popular items.

        All queries for known users are scored by one product of matrices, in blocks of items: time grows slower than
        the number of queries, and memory for scores stays below 16 MB whatever their number.

        :raises Unavailable: `MODEL_CLOSED`
        """
        scorer = self._open()
        answers = []
        rows = [scorer.user_ids.find(query.user_id) for query in queries]
        known = [(row, query) for row, query in zip(rows, queries, strict=True) if row is not None]
        scored = iter(scorer.best(known))
        for row, query in zip(rows, queries, strict=True):
            best = scorer.popular(query.limit) if row is None else next(scored)
            answers.append(scorer.answer(best, cold_start=row is None))
        return answers

    def warm(self) -> None:
        """Read every page from disk and answer once, so that the first caller does not wait for it."""
        scorer = self._open()
        scorer.touch()
        self.recommend([Query(scorer.user_ids[0], 10)])

    def close(self) -> None:
        """Let go of the files; calls that run finish, later ones fail."""
        self._scorer = None

    def _open(self) -> Scorer:
        if (scorer := self._scorer) is None:
            raise Unavailable("this model has been closed; ask again", reason="MODEL_CLOSED")
        return scorer


class Scorer:
    """The arrays of a model, and what is derived from them. Speaks of users and items by their rows."""

    def __init__(self, algorithm: Algorithm, arrays: Mapping[str, Array]) -> None:
        self._algorithm = algorithm
        self._arrays = arrays
        self.user_ids = Texts(arrays["user_ids"], arrays["user_ids_offsets"])
        self._item_ids = Texts(arrays["item_ids"], arrays["item_ids_offsets"])
        self._item_titles = Texts(arrays["item_titles"], arrays["item_titles_offsets"])
        popularity = arrays["popularity"]
        self._by_popularity = np.argsort(-popularity, kind="stable").astype(np.int32)
        if self._algorithm is Algorithm.BM25:
            # scipy copies the indices if the two differ in type, so the shorter one is made to fit.
            indices = arrays["similarity_indices"]
            starts = arrays["similarity_indptr"].astype(np.int32 if len(indices) < 1 << 31 else np.int64)
            size = len(popularity)
            self._similarity = csr_array((arrays["similarity_data"], indices, starts), shape=(size, size))

    def popular(self, limit: int) -> Best:
        """The most popular items."""
        rows = self._by_popularity[:limit]
        return Best(rows, self._arrays["popularity"][rows])

    def best(self, known: Sequence[tuple[int, Query]]) -> list[Best]:
        """Answers for users of these rows."""
        if not known:
            return []
        match self._algorithm:
            case Algorithm.ALS:
                found = self._by_factors(known)
            case Algorithm.BM25:
                found = self._by_similarity(known)
            case Algorithm.POPULARITY:
                return [self._unseen_popular(row, query) for row, query in known]
        return [
            Best(best.rows[: query.limit], best.scores[: query.limit])
            for best, (_, query) in zip(found, known, strict=True)
        ]

    def answer(self, best: Best, *, cold_start: bool) -> Answer:
        """Rows as ids and titles."""
        ids, titles = self._item_ids, self._item_titles
        rows, scores = best.rows.tolist(), best.scores.tolist()
        return Answer(tuple(Item(ids[r], float(s), titles[r]) for r, s in zip(rows, scores, strict=True)), cold_start)

    def touch(self) -> None:
        """Read a byte of every page."""
        for array in self._arrays.values():
            array.reshape(-1).view(np.uint8)[::_PAGE_BYTES].sum()

    def _by_factors(self, known: Sequence[tuple[int, Query]]) -> list[Best]:
        limit = max(query.limit for _, query in known)
        users = np.array([row for row, _ in known])
        hidden = [self._seen(row) if not query.include_seen else _NOTHING for row, query in known]
        rows = np.concatenate(hidden)
        queries = np.repeat(np.arange(len(known)), [len(each) for each in hidden])
        if len(known) > 1:
            order = np.argsort(rows, kind="stable")
            rows, queries = rows[order], queries[order]
        return best_products(
            self._arrays["item_factors"], self._arrays["user_factors"][users], limit, Hidden(rows, queries)
        )

    def _by_similarity(self, known: Sequence[tuple[int, Query]]) -> list[Best]:
        """In parts, so that users with much and items alike to many do not take all memory."""
        starts, ends = self._similarity.indptr[:-1], self._similarity.indptr[1:]
        sizes = [int((ends[seen] - starts[seen]).sum()) for seen in (self._seen(row) for row, _ in known)]
        parts = np.cumsum(sizes) // _SIMILAR_AT_A_TIME
        bounds = [0, *(np.flatnonzero(np.diff(parts)) + 1).tolist(), len(known)]
        return [best for part in pairwise(bounds) for best in self._similar_to(known[slice(*part)])]

    def _similar_to(self, known: Sequence[tuple[int, Query]]) -> list[Best]:
        starts = self._arrays["seen_indptr"]
        spans = [slice(int(starts[row]), int(starts[row + 1])) for row, _ in known]
        indptr = np.concatenate(([0], np.cumsum([span.stop - span.start for span in spans]))).astype(np.int32)
        indices = np.concatenate([self._arrays["seen_indices"][span] for span in spans])
        weights = np.concatenate([self._arrays["seen_data"][span] for span in spans])
        product = csr_array((weights, indices, indptr), shape=(len(known), len(self._item_ids))) @ self._similarity
        found = []
        for number, (row, query) in enumerate(known):
            span = slice(product.indptr[number], product.indptr[number + 1])
            rows, scores = product.indices[span], product.data[span]
            if not query.include_seen:
                unseen = ~np.isin(rows, self._seen(row))
                rows, scores = rows[unseen], scores[unseen]
            found.append(best_of(rows, scores, query.limit))
        return found

    def _unseen_popular(self, row: int, query: Query) -> Best:
        if query.include_seen:
            return self.popular(query.limit)
        seen = self._seen(row)
        best = self.popular(query.limit + len(seen))
        unseen = np.flatnonzero(~np.isin(best.rows, seen))[: query.limit]
        return Best(best.rows[unseen], best.scores[unseen])

    def _seen(self, row: int) -> Array:
        starts = self._arrays["seen_indptr"]
        return self._arrays["seen_indices"][starts[row] : starts[row + 1]]


_NOTHING = np.empty(0, dtype=np.int32)
