"""Rankings as buckets: how many items of each relevance level lie at each distance.

    codes ─► distances, block by block ─► histogram (queries, levels, distances) ─► measures

A Hamming ranking has at most ``n_bits + 1`` different distances, so a histogram says everything that a measure needs,
in O(queries x bits) memory and without sorting. A bucket holds the items at one distance, in no order. Orders of ties
are chosen by splitting buckets: into pure ones, relevant first (optimistic) or last (pessimistic), or into single
items by row (stable), or by row with the last first (reversed); one set of formulas then serves all. Knows nothing of
measures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hashret.codes import Codes
from hashret.evaluation.instance import FLOAT_TOLERANCE, Ties
from hashret.evaluation.relevance import Relevance
from hashret.kernels import hamming

Counts = NDArray[np.int64]
TieOrder = Literal[Ties, "reversed"]

CELLS = 1 << 18  # pairs of a block: 1 MiB of distances and 2 MiB of keys stay in the cache
HISTOGRAM_CELLS = 1 << 13  # counters of a block: filling them must cost more than clearing them


@dataclass(frozen=True)
class Buckets:
    """Rankings of a block of queries.

    Attributes:
        counts: (q, n_levels, n_buckets) int64, items of each level in each bucket, nearest bucket first.
    """

    counts: Counts

    @cached_property
    def items(self) -> Counts:
        """(q, n_buckets), items in each bucket."""
        total: Counts = self.counts.sum(axis=1)
        return total

    @cached_property
    def relevant(self) -> Counts:
        """(q, n_buckets), items above level 0."""
        total: Counts = self.counts[:, 1:].sum(axis=1)
        return total

    @cached_property
    def items_before(self) -> Counts:
        """(q, n_buckets), items in nearer buckets."""
        return np.cumsum(self.items, axis=1) - self.items

    @cached_property
    def relevant_before(self) -> Counts:
        """(q, n_buckets), relevant items in nearer buckets."""
        return np.cumsum(self.relevant, axis=1) - self.relevant

    @cached_property
    def n_relevant(self) -> Counts:
        """(q,), relevant items in the whole database."""
        total: Counts = self.relevant.sum(axis=1)
        return total

    def pure(self, *, best_first: bool) -> Buckets:
        """Each bucket split into one a level, the highest level first or last."""
        q, n_levels, n_buckets = self.counts.shape
        split = np.zeros((q, n_levels, n_buckets, n_levels), dtype=np.int64)
        for level in range(n_levels):
            split[:, level, :, n_levels - 1 - level if best_first else level] = self.counts[:, level]
        return Buckets(split.reshape(q, n_levels, n_buckets * n_levels))


class Ranked(NamedTuple):
    """The rankings of some queries.

    Attributes:
        queries: which.
        by_rank: buckets after the choice of a tie order, for measures of ranks.
        by_distance: one bucket a distance 0 … n_bits, for measures of radii; None for float scores.
    """

    queries: slice
    by_rank: Buckets
    by_distance: Buckets | None


def rank_codes(
    query_codes: Codes, item_codes: Codes, relevance: Relevance, *, n_bits: int, ties: TieOrder
) -> Iterator[Ranked]:
    """Rankings by Hamming distance, a block of queries at a time.

    Args:
        query_codes: (Q, n_bytes) uint8, checked.
        item_codes: (N, n_bytes) uint8, checked.
        relevance: of Q queries and N items.
        n_bits: length of the codes.
        ties: the tie order of ``by_rank``.
    """
    by_row = ties in ("stable", "reversed")
    per_query = relevance.n_levels * (n_bits + 1) * (relevance.n_levels if ties in ("optimistic", "pessimistic") else 1)
    step = max(1, min(HISTOGRAM_CELLS // per_query, CELLS // max(1, len(item_codes) if by_row else 1)))
    for start in range(0, len(query_codes), step):
        queries = slice(start, min(start + step, len(query_codes)))
        if by_row:
            distances = hamming(query_codes[queries], item_codes)
            levels = relevance.block(queries, slice(0, len(item_codes)))
            buckets = _histogram(distances, levels, relevance.n_levels, n_bits + 1)
            way = slice(None, None, 1 if ties == "stable" else -1)
            yield Ranked(queries, _one_by_one(distances[:, way], levels[:, way], relevance.n_levels), Buckets(buckets))
            continue
        counts = np.zeros((queries.stop - start, relevance.n_levels, n_bits + 1), dtype=np.int64)
        wide = max(1, CELLS // (queries.stop - start))
        for left in range(0, len(item_codes), wide):
            items = slice(left, min(left + wide, len(item_codes)))
            distances = hamming(query_codes[queries], item_codes[items])
            counts += _histogram(distances, relevance.block(queries, items), relevance.n_levels, n_bits + 1)
        whole = Buckets(counts)
        yield Ranked(queries, whole if ties == "expected" else whole.pure(best_first=ties == "optimistic"), whole)


def rank_scores(
    distances: Callable[[slice], NDArray[np.float32]], relevance: Relevance, *, ties: TieOrder
) -> Iterator[Ranked]:
    """Rankings by float distances (smaller is nearer); those within 2e-6 of each other tie.

    Where many lie so close that one tie would pass into the next, a tie is cut each 2e-6.

    Args:
        distances: gives (q, N) for a block of queries.
        relevance: of Q queries and N items.
        ties: the tie order.
    """
    step = max(1, CELLS // max(1, relevance.n_items * relevance.n_levels))
    for start in range(0, relevance.n_queries, step):
        queries = slice(start, min(start + step, relevance.n_queries))
        block = distances(queries)
        levels = relevance.block(queries, slice(0, relevance.n_items))
        order = np.argsort(block, axis=1, kind="stable")
        near = np.take_along_axis(block, order, axis=1)
        place = _tied(near)
        if ties in ("stable", "reversed"):  # within a tie by row, which the noise of floats must not decide
            rows = order if ties == "stable" else -order
            order = np.take_along_axis(order, np.argsort(place * block.shape[1] + rows, axis=1), axis=1)
            place[:] = np.arange(block.shape[1])
        ranked = np.take_along_axis(levels, order, axis=1)
        buckets = Buckets(_histogram(place, ranked, relevance.n_levels, int(place.max(initial=0)) + 1))
        pure = ties in ("optimistic", "pessimistic")
        yield Ranked(queries, buckets.pure(best_first=ties == "optimistic") if pure else buckets, None)


def _tied(near: NDArray[np.float32]) -> Counts:
    """(q, n) which tie each of (q, n) ascending distances belongs to, counted from 0."""
    place = np.zeros(near.shape, dtype=np.int64)
    if near.shape[1] < 2:
        return place
    apart = np.diff(near, axis=1) > FLOAT_TOLERANCE
    columns = np.arange(1, near.shape[1])
    first = np.maximum.accumulate(np.where(apart, columns, 0), axis=1)  # of the chain of neighbours that each is in
    beyond = near[:, 1:].astype(np.float64) - np.take_along_axis(near, first, axis=1)
    steps = np.floor_divide(beyond, FLOAT_TOLERANCE).astype(np.int64)
    cut = np.diff(steps, axis=1, prepend=0) > 0  # where a new chain begins, its step is 0
    np.cumsum(apart | cut, axis=1, out=place[:, 1:])
    return place


def _one_by_one(distances: NDArray[Any], levels: NDArray[Any], n_levels: int) -> Buckets:
    """Each item its own bucket, by (distance, row)."""
    order = np.argsort(distances, axis=1, kind="stable")
    ranked = np.take_along_axis(levels, order, axis=1)
    return Buckets(np.stack([ranked == level for level in range(n_levels)], axis=1).astype(np.int64))


def _histogram(places: NDArray[Any], levels: NDArray[Any], n_levels: int, n_buckets: int) -> Counts:
    """(q, n_levels, n_buckets) counts of (q, n) places and levels."""
    q = len(places)
    first = np.arange(q, dtype=np.int64)[:, None] * (n_levels * n_buckets)
    keys = np.multiply(levels, n_buckets, dtype=np.int64)
    keys += places
    keys += first
    return np.bincount(keys.ravel(), minlength=q * n_levels * n_buckets).reshape(q, n_levels, n_buckets)
