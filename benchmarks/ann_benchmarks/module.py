"""hashret's indexes as an algorithm of ann-benchmarks (https://github.com/erikbern/ann-benchmarks), for Hamming data.

Copy this folder into a checkout of ann-benchmarks as ``ann_benchmarks/algorithms/hashret``, put the hashret to be
measured beside it, then:

    cp -r HASHRET ann_benchmarks/algorithms/hashret/source
    python install.py --algorithm hashret
    python run.py --algorithm hashret --dataset sift-256-hamming

Needs nothing of ann-benchmarks to be imported; there it derives from its base class. The exact indexes, flat and
mih, have no parameter at query time; ivf has ``probes``, hnsw ``ef_search``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import hashret
from hashret.index import INDEXES

try:
    from ..base.module import BaseANN
except ImportError:  # not in a checkout of ann-benchmarks
    BaseANN = object

QUERY_OPTIONS = {"ivf": "probes", "hnsw": "ef_search"}


class Hashret(BaseANN):
    """One index.

    Args:
        metric: "hamming".
        kind: of index: flat, mih, ivf or hnsw.
        options: of its constructor, such as ``{"links": 32}``.
    """

    def __init__(self, metric: str, kind: str = "flat", options: dict[str, Any] | None = None) -> None:
        if metric != "hamming":
            raise NotImplementedError(f"hashret searches by Hamming distance, and not by {metric!r}")
        self.kind = kind
        self.options = options or {}
        self.asked: tuple[int, ...] = ()
        self.results: list[np.ndarray] = []

    @property
    def name(self) -> str:
        """How plots call it."""
        options = [f"{name}={value}" for name, value in self.options.items()]
        options += [f"{QUERY_OPTIONS[self.kind]}={value}" for value in self.asked]
        return f"hashret-{self.kind}({', '.join(options)})"

    def fit(self, X: np.ndarray) -> None:
        """Build the index from (N, n_bits) bool."""
        hashret.set_num_threads(None)
        self.index = INDEXES.load(self.kind)(X.shape[1], **self.options)
        self.index.add(hashret.pack(X.astype(bool)))
        self.query(X[0], 1)  # what is built at the first search belongs to building
        hashret.set_num_threads(1)  # single queries are measured on one core

    def set_query_arguments(self, value: int) -> None:
        """``probes`` of ivf, ``ef_search`` of hnsw."""
        if self.kind not in QUERY_OPTIONS:
            raise ValueError(f"the index {self.kind!r} is exact and takes no argument at query time")
        setattr(self.index, QUERY_OPTIONS[self.kind], int(value))
        self.asked = (int(value),)

    def query(self, q: np.ndarray, n: int) -> np.ndarray:
        """Rows of the n nearest of one (n_bits,) bool query."""
        rows = self.index.search(hashret.pack(np.asarray(q, bool)), k=n).rows[0]
        return rows[rows >= 0]

    def batch_query(self, X: np.ndarray, n: int) -> None:
        """Search all at once, on all cores; ``get_batch_results`` has the rows."""
        hashret.set_num_threads(None)
        self.results = [rows[rows >= 0] for rows in self.index.search(hashret.pack(X.astype(bool)), k=n).rows]
        hashret.set_num_threads(1)

    def get_batch_results(self) -> list[np.ndarray]:
        """Rows of the latest ``batch_query``, a query each."""
        return self.results

    def get_additional(self) -> dict[str, Any]:
        """What is stored with a result."""
        return {}

    def done(self) -> None:
        """Let go of the index."""
        self.index = None

    def __str__(self) -> str:
        return self.name
