"""The back end on FAISS: its Hamming scans over the codes where they lie, without a copy.

FAISS leaves the order of equal distances open, also which of them are found at rank k. So a few more hits than k are
asked for: once the last of them is farther than the k-th, everything that ties with the k-th is at hand and is
sorted by row. Where ties go on beyond that (duplicates, narrow codes), the query is answered by the counting scan of
the numpy back end, which is exact for any data. Must not know of indexes or files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from hashret._lazy import available as importable
from hashret._lazy import require
from hashret.codes import Codes
from hashret.kernels import _numpy
from hashret.kernels.contract import Distances, Mask, RangeHits, Rows

_SLACK = 64  # more hits than k: at 10^6 codes of 128 bits the ties at rank 10 are about 10


def available() -> bool:
    """Whether faiss is installed."""
    return importable("faiss")


def search(
    codes: Codes,
    queries: Codes,
    k: int,
    *,
    n_bits: int,
    rows_mask: Mask | None,
    radius: int | None,
    threads: int,
) -> tuple[Distances, Rows]:
    """See ``contract.Backend.search``."""
    if rows_mask is not None:
        chosen = np.flatnonzero(rows_mask)
        codes = codes[chosen]
    wanted = min(k + _SLACK, len(codes))
    faiss = require("faiss", extra="search")
    near, rows = np.empty((0, 0), np.int32), np.empty((0, 0), np.int64)
    with _threads(faiss, threads):
        near, rows = faiss.knn_hamming(queries, codes, wanted)
    order = np.lexsort((rows, near), axis=1)
    near, rows = np.take_along_axis(near, order, axis=1), np.take_along_axis(rows, order, axis=1)
    if wanted < len(codes):
        open_ties = np.flatnonzero(near[:, -1] == near[:, min(k, wanted) - 1])
        if len(open_ties):
            near[open_ties, :k], rows[open_ties, :k] = _numpy.search(
                codes, queries[open_ties], k, n_bits=n_bits, rows_mask=None, radius=None, threads=threads
            )
    near, rows = near[:, :k], rows[:, :k]
    if radius is not None:
        rows = np.where(near > radius, -1, rows)
        near = np.where(near > radius, np.int32(-1), near)
    if rows_mask is not None:
        rows = np.where(rows < 0, rows, chosen[rows])
    return near, rows


def range_search(
    codes: Codes, queries: Codes, radius: int, *, n_bits: int, rows_mask: Mask | None, threads: int
) -> RangeHits:
    """See ``contract.Backend.range_search``."""
    return _numpy.range_search(codes, queries, radius, n_bits=n_bits, rows_mask=rows_mask, threads=threads)


@contextmanager
def _threads(faiss: Any, threads: int) -> Iterator[None]:
    """FAISS at ``threads`` threads, and back to what its own users had set."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
