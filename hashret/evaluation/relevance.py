"""Which item is relevant to which query, read block by block so that no (queries x items) matrix exists.

A level is a small whole number: 0 not relevant, 1 relevant, and with ``graded`` the number of shared labels.
Knows labels only, not codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hashret.arrays import kind_of, labels_of
from hashret.errors import DataError


class Relevance(Protocol):
    """Levels of relevance of all (query, item) pairs, by block."""

    @property
    def n_queries(self) -> int:
        """Number of queries."""

    @property
    def n_items(self) -> int:
        """Number of items."""

    @property
    def n_levels(self) -> int:
        """Levels are 0 … n_levels - 1."""

    def block(self, queries: slice, items: slice) -> NDArray[Any]:
        """(q, n) integers or bools."""


@dataclass(frozen=True)
class SameLabel:
    """Relevant = the same single label (or the same instance)."""

    query_labels: NDArray[Any]
    item_labels: NDArray[Any]
    n_levels: int = 2

    @property
    def n_queries(self) -> int:
        """Number of queries."""
        return len(self.query_labels)

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.item_labels)

    def block(self, queries: slice, items: slice) -> NDArray[Any]:
        """(q, n) bool."""
        same: NDArray[np.bool_] = np.equal(self.query_labels[queries, None], self.item_labels[items])
        return same


@dataclass(frozen=True)
class SharedLabels:
    """Relevant = at least one shared label; graded = how many are shared."""

    query_labels: NDArray[np.float32]
    item_labels: NDArray[np.float32]
    n_levels: int
    graded: bool

    @property
    def n_queries(self) -> int:
        """Number of queries."""
        return len(self.query_labels)

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.item_labels)

    def block(self, queries: slice, items: slice) -> NDArray[Any]:
        """(q, n) int32 numbers of shared labels, or bool."""
        shared = self.query_labels[queries] @ self.item_labels[items].T  # counts of at most C: exact in float32
        return np.rint(shared).astype(np.int32) if self.graded else shared > 0.5


def relevance(query_labels: ArrayLike, item_labels: ArrayLike, *, graded: bool = False) -> Relevance:
    """The relevance that labels give.

    Args:
        query_labels: (Q,) one label a query (whole numbers or strings), or (Q, C) of zeros and ones.
        item_labels: (N,) or (N, C), of the same kind.
        graded: count the shared labels, as NDCG wants, where any shared label would do.

    Raises:
        DataError: labels of different kinds or widths, or a matrix of other values than 0 and 1.
    """
    queries, items = labels_of(query_labels, "query labels"), labels_of(item_labels, "item labels")
    if queries.ndim != items.ndim:
        raise DataError(
            "labels are either one per item, (N,), or a matrix of zeros and ones, (N, C), and of the same kind for "
            f"queries and items; these have the shapes {queries.shape} and {items.shape}"
        )
    if queries.ndim == 1:
        if queries.size and items.size and kind_of(queries) != kind_of(items):
            raise DataError(
                f"labels of queries are {kind_of(queries)} and those of items {kind_of(items)}; use one kind"
            )
        return SameLabel(queries, items)
    if queries.shape[1] != items.shape[1]:
        raise DataError(f"queries have {queries.shape[1]} label columns and items {items.shape[1]}")
    most = min((int(labels.sum(axis=1).max(initial=0)) for labels in (queries, items)), default=0)
    return SharedLabels(
        queries.astype(np.float32), items.astype(np.float32), n_levels=max(most, 1) + 1 if graded else 2, graded=graded
    )
