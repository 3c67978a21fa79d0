"""scikit-learn's nearest neighbours over codes: exact, by differing bits, in hashret's kernels.

Distances are numbers of differing bits, as float64 like scikit-learn's; ties come in order of (distance, row).
"""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np

from hashret._lazy import require
from hashret.codes import check_codes
from hashret.errors import InputError
from hashret.index import FlatIndex

base = require("sklearn.base", extra="sklearn")
validation = require("sklearn.utils.validation", extra="sklearn")


class HammingNeighbors(base.TransformerMixin, base.BaseEstimator):  # type: ignore[misc, name-defined]
    """The verbs of ``sklearn.neighbors.NearestNeighbors`` for packed codes.

    ``transform`` gives the graph that estimators with ``metric="precomputed"`` take, so that a pipeline of this and a
    ``KNeighborsClassifier`` or ``DBSCAN`` works on codes.

    Args:
        n_neighbors: neighbours of a query unless it says otherwise.
        radius: largest distance, inclusive, of ``radius_neighbors`` unless it says otherwise; bits.
        n_bits: width of the codes; None: all bits of their bytes.
    """

    def __init__(self, n_neighbors: int = 5, radius: float = 1.0, n_bits: int | None = None) -> None:
        self.n_neighbors = n_neighbors
        self.radius = radius
        self.n_bits = n_bits

    def fit(self, X: Any, y: Any = None) -> Self:
        """Take (N, n_bytes) uint8 codes; ``y`` is ignored.

        Raises:
            CodeError: these are no codes of this width.
        """
        codes = np.ascontiguousarray(X)
        n_bits = 8 * (codes.shape[1] if codes.ndim == 2 else 1) if self.n_bits is None else self.n_bits
        codes = check_codes(codes, n_bits=n_bits)
        self.index_ = FlatIndex(n_bits=n_bits)
        self.index_.add(codes)
        self.n_features_in_, self.n_samples_fit_ = codes.shape[1], len(codes)
        return self

    def kneighbors(self, X: Any = None, n_neighbors: int | None = None, return_distance: bool = True) -> Any:
        """The nearest rows of each query; of the fitted codes themselves, without itself, where ``X`` is None.

        Returns:
            (distances (Q, k) float64, rows (Q, k) int64), or the rows alone.

        Raises:
            InputError: more neighbours than there are codes.
        """
        validation.check_is_fitted(self, "index_")
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        own = X is None
        if not 1 <= k <= self.n_samples_fit_ - own:
            raise InputError(f"n_neighbors must lie between 1 and {self.n_samples_fit_ - own}, and is {k}")
        hits = self.index_.search(self._queries(X), k + own)
        distances, rows = _without_self(hits.distances, hits.rows) if own else hits
        return (distances.astype(np.float64), rows) if return_distance else rows

    def radius_neighbors(
        self, X: Any = None, radius: float | None = None, return_distance: bool = True, sort_results: bool = True
    ) -> Any:
        """All rows within ``radius`` of each query, nearest first.

        Returns:
            (distances, rows): object arrays of Q arrays each; or the rows alone. They are sorted in any case.

        Raises:
            InputError: the radius is no number of bits.
        """
        validation.check_is_fitted(self, "index_")
        radius = self.radius if radius is None else radius
        if not math.isfinite(radius):
            raise InputError(f"radius is a number of bits, 0 or more, and not {radius}")
        found = self.index_.range_search(self._queries(X), math.floor(radius))
        distances: Any = np.empty(len(found.limits) - 1, object)
        rows: Any = np.empty(len(found.limits) - 1, object)
        for query, (first, last) in enumerate(zip(found.limits[:-1], found.limits[1:])):
            near, far = found.rows[first:last], found.distances[first:last].astype(np.float64)
            others = near != query if X is None else slice(None)
            distances[query], rows[query] = far[others], near[others]
        return (distances, rows) if return_distance else rows

    def kneighbors_graph(self, X: Any = None, n_neighbors: int | None = None, mode: str = "connectivity") -> Any:
        """A (Q, N) CSR matrix of the nearest: ones, or distances with ``mode="distance"``."""
        distances, rows = self.kneighbors(X, n_neighbors)
        return self._graph(distances, rows, mode)

    def transform(self, X: Any) -> Any:
        """The distances to the nearest ``n_neighbors + 1`` as a sparse graph: one more than asked for, because a code
        that was fitted finds itself; as scikit-learn's ``KNeighborsTransformer`` does."""
        distances, rows = self.kneighbors(X, min(self.n_neighbors + 1, self.n_samples_fit_))
        return self._graph(distances, rows, "distance")

    def fit_transform(self, X: Any, y: Any = None, **options: Any) -> Any:
        """``fit``, then the graph of the fitted codes."""
        return self.fit(X).transform(X)

    def __getstate__(self) -> dict[str, Any]:
        """The index as its width and its codes: itself it holds a lock, which cannot be copied."""
        state = dict(super().__getstate__())
        if "index_" in state:
            state["index_"] = state["index_"].n_bits, state["index_"].codes
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "index_" in state:
            n_bits, codes = state["index_"]
            self.index_ = FlatIndex(n_bits=n_bits)
            self.index_.add(codes)

    def _queries(self, X: Any) -> np.ndarray:
        return self.index_.codes if X is None else np.ascontiguousarray(X)

    def _graph(self, distances: np.ndarray, rows: np.ndarray, mode: str) -> Any:
        if mode not in ("connectivity", "distance"):
            raise InputError(f'mode is "connectivity" or "distance", and not {mode!r}')
        sparse = require("scipy.sparse", extra="sklearn")
        values = np.ones(rows.size) if mode == "connectivity" else distances.ravel()
        starts = np.arange(0, rows.size + 1, rows.shape[1])
        return sparse.csr_matrix((values, rows.ravel(), starts), shape=(len(rows), self.n_samples_fit_))


def _without_self(distances: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One hit fewer a row: itself, or, where enough equal codes come before it, the last."""
    drop = rows == np.arange(len(rows))[:, None]
    drop[~drop.any(axis=1), -1] = True
    shape = (len(rows), rows.shape[1] - 1)
    return distances[~drop].reshape(shape), rows[~drop].reshape(shape)
