"""What re-ranking is worth: the first k of every query in a new order, and the figures of the lists after it.

Takes lists of rows and scores; knows nothing of what scored them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hashret.errors import DataError, InputError
from hashret.evaluation.retrieval import CUTS, Direction, Retrieval

Rows = NDArray[np.int64]


def reorder(rows: ArrayLike, scores: ArrayLike) -> Rows:
    """Each query's candidates by score, the best first; equal scores keep the order in which they came.

    Args:
        rows: (Q, k) int, candidates as the first stage ordered them; -1 where there is none.
        scores: (Q, k) float, larger is better; what stands at a -1 is not read.

    Returns:
        (Q, k) int64, the same rows in the new order, -1 last.

    Raises:
        DataError: shapes that differ, or a score that is NaN.
    """
    candidates, values = np.asarray(rows, dtype=np.int64), np.asarray(scores, dtype=np.float64)
    if candidates.ndim != 2 or candidates.shape != values.shape:
        raise DataError(
            f"candidates and scores must both have the shape (queries, k), not {candidates.shape} and {values.shape}"
        )
    missing = candidates < 0
    if np.isnan(values[~missing]).any():
        raise DataError("a score is NaN: no order follows from it; look for a diverged re-ranker")
    order = np.lexsort((np.where(missing, np.inf, -values), missing), axis=1)
    return np.take_along_axis(candidates, order, axis=1)


def evaluate_reranked(before: Retrieval, *, captions: ArrayLike, pictures: ArrayLike, owner: ArrayLike) -> Retrieval:
    """The figures of ``before`` after each query's first candidates were put into another order.

    A query with a correct item among its candidates has the rank of the best of them; any other keeps its rank.

    Args:
        before: of the first stage, with ``ties="stable"``: each item then has one place, and the figures compare.
        captions: (I, k) int, rows of captions for each picture: the first k of ``before`` in their new order, -1 where
            there are fewer.
        pictures: (M, k') int, rows of pictures for each caption.
        owner: (M,) int, the row of each caption's picture.

    Raises:
        InputError: ``before`` has another order of ties.
        DataError: lists for another number of queries.
    """
    if before.ties != "stable":
        raise InputError(f'candidates come in one order, so give figures with ties="stable", not {before.ties!r}')
    owners = np.asarray(owner, dtype=np.int64)
    of_pictures, of_captions = _lists(captions, before.i2t, "pictures"), _lists(pictures, before.t2i, "captions")
    found = owners[np.maximum(of_pictures, 0)] == np.arange(len(of_pictures))[:, None]
    return Retrieval(
        i2t=_after(before.i2t, found & (of_pictures >= 0)),
        t2i=_after(before.t2i, of_captions == owners[:, None]),
        chance=before.chance,
        ties=before.ties,
        n_bits=before.n_bits,
    )


def _after(before: Direction, correct: NDArray[np.bool_]) -> Direction:
    """The direction after re-ranking, from (Q, k) marks of the correct candidates in their new order."""
    ranks = np.where(correct.any(axis=1), correct.argmax(axis=1) + 1.0, before.per_query["rank"])
    hits = {k: (ranks <= k).astype(np.float64) for k in CUTS}  # NaN, a query with nothing to find, is a miss
    return Direction.of(hits, ranks, n_items=before.n_items)


def _lists(rows: ArrayLike, direction: Direction, queries: str) -> Rows:
    lists = np.asarray(rows, dtype=np.int64)
    if lists.ndim != 2 or len(lists) != direction.n_queries or lists.shape[1] < 1:
        raise DataError(f"{direction.n_queries} {queries} need a list of candidates each, not {lists.shape}")
    return lists
