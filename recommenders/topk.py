"""The best items, exactly, without sorting all of them."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recommenders.model import Array, Float32s

_SCORES: Final = 1 << 20
"""Scores in memory at a time: 4 MiB stays in a processor's cache between the product and the search."""
_QUERIES: Final = 256
_CACHE_BYTES: Final = 64 << 20
_GROUP: Final = 64
_LOWEST: Final = np.finfo(np.float32).min


class Best(NamedTuple):
    """One answer: rows and their scores, best first; equal scores by row."""

    rows: Array
    scores: Float32s


class Hidden(NamedTuple):
    """Pairs of an item's row and a query's number that no answer may have, by row ascending."""

    rows: Array
    queries: Array


def best_products(items: Float32s, queries: Float32s, limit: int, hidden: Hidden) -> list[Best]:
    """The items with the largest inner products.

    Items are gone through in blocks. A block's scores are searched by their maximum in groups of rows: the limit-th
    largest maximum is a lower bound of the limit-th best score, so only groups that reach it are looked into, and later
    blocks have to beat what earlier ones gave. The answer is exact, whatever the order of the items.

    :param items: items × factors
    :param queries: queries × factors
    :param limit: at least 1
    """
    if len(queries) > _QUERIES:
        answers: list[Best] = []
        for start in range(0, len(queries), _QUERIES):
            chosen = (hidden.queries >= start) & (hidden.queries < start + _QUERIES)
            part = Hidden(hidden.rows[chosen], hidden.queries[chosen] - start)
            answers += best_products(items, queries[start : start + _QUERIES], limit, part)
        return answers
    count, width = len(items), len(queries)
    limit = min(limit, count)
    height = min(count, max(_SCORES // width, 1))
    group = max(1, min(_GROUP, height // (4 * limit)))
    groups = -(-height // group)
    scores = np.full((groups * group, width), -np.inf, dtype=np.float32)
    # A group's rows lie `groups` apart, so that a maximum of all groups is one of whole vectors.
    grouped = scores.reshape(group, groups, width)
    multiply = _multiply_one if width == 1 else _multiply
    found = _Found(width, limit)
    hidden_ends = np.searchsorted(hidden.rows, range(0, count + height, height))
    for number, start in enumerate(range(0, count, height)):
        rows = min(height, count - start)
        multiply(items[start : start + rows], queries, scores[:rows])
        scores[rows:] = -np.inf
        mine = slice(hidden_ends[number], hidden_ends[number + 1])
        scores[hidden.rows[mine] - start, hidden.queries[mine]] = -np.inf
        maxima = grouped.max(axis=0)
        if start == 0:
            found.at_least(_kth_largest(maxima, limit))
        reached, query = np.nonzero(maxima >= found.least)
        members = grouped[:, reached, query]
        member, place = np.nonzero(members >= found.least[query])
        found.add(start + member * groups + reached[place], query[place], members[member, place])
    return found.answers()


def best_of(rows: Array, scores: Float32s, limit: int) -> Best:
    """The best of a few scores."""
    if len(scores) > 4 * limit:
        least = np.partition(scores, len(scores) - limit)[len(scores) - limit]
        kept = scores >= least
        rows, scores = rows[kept], scores[kept]
    order = np.lexsort((rows, -scores))[:limit]
    return Best(rows[order], scores[order])


class _Found:
    """Candidates of all queries, cut down to the best whenever they have become many."""

    def __init__(self, width: int, limit: int) -> None:
        self._width, self._limit = width, limit
        self._most = 4 * width * limit + 4096
        self.least: Float32s = np.full(width, _LOWEST, dtype=np.float32)
        """What a score must reach, by query."""
        self._pieces: list[tuple[Array, Array, Float32s]] = []
        self._size = 0

    def at_least(self, bound: Float32s) -> None:
        self.least = np.maximum(self.least, bound)

    def add(self, rows: Array, queries: Array, scores: Float32s) -> None:
        if not len(rows):
            return
        self._pieces.append((rows, queries, scores))
        self._size += len(rows)
        if self._size > self._most:
            self._cut()

    def answers(self) -> list[Best]:
        if not self._pieces:
            return [Best(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))] * self._width
        self._cut()
        [(rows, queries, scores)] = self._pieces
        ends = np.searchsorted(queries, range(self._width + 1))
        return [Best(rows[ends[q] : ends[q + 1]], scores[ends[q] : ends[q + 1]]) for q in range(self._width)]

    def _cut(self) -> None:
        rows, queries, scores = (np.concatenate(arrays) for arrays in zip(*self._pieces, strict=True))
        order = np.lexsort((rows, -scores, queries))
        rows, queries, scores = rows[order], queries[order], scores[order]
        rank = np.arange(len(order)) - np.searchsorted(queries, queries)
        # Rows only grow, and of equal scores the smaller row wins: what comes must be better than a full answer's last.
        last = rank == self._limit - 1
        self.least[queries[last]] = np.nextafter(scores[last], np.float32(np.inf))
        kept = rank < self._limit
        self._pieces, self._size = [(rows[kept], queries[kept], scores[kept])], int(kept.sum())


def _multiply(items: Float32s, queries: Float32s, scores: Float32s) -> None:
    np.dot(items, queries.T, out=scores)


def _multiply_one(items: Float32s, queries: Float32s, scores: Float32s) -> None:
    """The same with one query, which BLAS has another routine for: it is the faster one as long as the items are in the
    processor's cache. Long rows from memory come faster with numpy's own loop (1M x 64: 10.4 against 11.6 ms, 1M x 128:
    21.9 against 27.9, where summing the same numbers takes 10.0 and 23.2)."""
    if items.nbytes > _CACHE_BYTES and items.shape[1] >= 64:
        np.einsum("ij,j->i", items, queries[0], out=scores[:, 0])
    else:
        np.dot(items, queries[0], out=scores[:, 0])


def _kth_largest(maxima: NDArray[np.float32], limit: int) -> Float32s:
    """Of each column; what no score is below if there are fewer."""
    groups = len(maxima)
    if groups < limit:
        return np.full(maxima.shape[1], _LOWEST, dtype=np.float32)
    columns = np.ascontiguousarray(maxima.T)
    found: Float32s = np.partition(columns, groups - limit, axis=1)[:, groups - limit]
    return found
