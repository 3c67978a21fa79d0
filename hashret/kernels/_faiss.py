"""The back end on FAISS: its Hamming scans over the codes where they lie, without a copy.

FAISS leaves the order of equal distances open, and which of them are found at rank k. So a few more hits than k are
asked for: once the last of them is farther than the k-th, everything that ties with the k-th is at hand and is
sorted by row. Where the ties go on beyond that (duplicates, narrow codes), the query is answered by the counting scan
of the numpy back end, which is exact for any data, and so are all where FAISS itself miscounts (``counts_right``).

Threads are our own and FAISS gets one in each: it does not divide a single query, and the OpenMP threads that it would
start wait by spinning, which on a busy machine makes a scan of 2 ms one of 130 ms. Must not know of indexes or files.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from hashret._lazy import available as importable
from hashret.codes import Codes
from hashret.errors import MissingExtraError
from hashret.kernels import _numpy
from hashret.kernels.contract import Distances, Mask, RangeHits, Rows
from hashret.kernels.parallel import in_threads, pieces

_SLACK = 64  # more hits than k, and twice k: of 10^6 codes of 64 to 256 bits about k tie at rank k
_MANY = 4096  # from this k on, or an eighth of the codes, counting beats the heap that FAISS keeps
_CHUNK = 1 << 20  # codes gathered by a mask at a time
_WORTH = 1 << 16  # pairs (code, query); fewer are done sooner than a thread is started


def available() -> bool:
    """Whether faiss is installed."""
    return importable("faiss")


def load_faiss() -> Any:
    """The module faiss.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module("faiss")
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "this needs the package 'faiss', which is not installed: pip install faiss-cpu"
        ) from error


@cache
def counts_right(n_bytes: int) -> bool:
    """Whether FAISS tells a code of ``n_bytes`` from its complement.

    On ARM its counters have eight bits (1.15): where all 256 bits of 32 bytes in a row differ, it sees no difference.
    """
    zeros, ones = np.zeros((1, n_bytes), np.uint8), np.full((1, n_bytes), 255, np.uint8)
    with faiss_threads(1) as faiss:
        near, _ = faiss.knn_hamming(zeros, ones, 1)
    return int(near[0, 0]) == 8 * n_bytes


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
    count = len(codes) if rows_mask is None else int(np.count_nonzero(rows_mask))
    if k >= _MANY or 8 * k > count or not counts_right(codes.shape[1]):
        return _numpy.search(codes, queries, k, n_bits=n_bits, rows_mask=rows_mask, radius=radius, threads=threads)
    wanted = min(3 * k + _SLACK, count)
    near, rows = _nearest(codes, queries, wanted, rows_mask, threads)
    if wanted < count:
        open_ties = np.flatnonzero(near[:, -1] == near[:, k - 1])
        if len(open_ties):
            near[open_ties, :k], rows[open_ties, :k] = _numpy.search(
                codes, queries[open_ties], k, n_bits=n_bits, rows_mask=rows_mask, radius=None, threads=threads
            )
    near, rows = np.ascontiguousarray(near[:, :k]), np.ascontiguousarray(rows[:, :k])
    if radius is not None:
        far = near > radius
        near[far], rows[far] = -1, -1
    return near, rows


def range_search(
    codes: Codes, queries: Codes, radius: int, *, n_bits: int, rows_mask: Mask | None, threads: int
) -> RangeHits:
    """See ``contract.Backend.range_search``."""
    faiss = load_faiss()
    if not counts_right(codes.shape[1]):
        return _numpy.range_search(codes, queries, radius, n_bits=n_bits, rows_mask=rows_mask, threads=threads)

    def scan(start: int, end: int) -> tuple[Rows, Distances, Rows]:
        result = faiss.RangeSearchResult(len(queries))
        part = codes[start:end]
        with faiss_threads(1):
            faiss.hamming_range_search(
                faiss.swig_ptr(queries),
                faiss.swig_ptr(part),
                len(queries),
                len(part),
                radius + 1,  # FAISS counts what is below
                codes.shape[1],
                result,
            )
        limits = faiss.rev_swig_ptr(result.lims, len(queries) + 1).astype(np.int64)
        total = int(limits[-1])
        if not total:
            return np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int64)
        near = faiss.rev_swig_ptr(result.distances, total).astype(np.int32)
        rows = faiss.rev_swig_ptr(result.labels, total).astype(np.int64) + start
        owner = np.repeat(np.arange(len(queries)), np.diff(limits))
        if rows_mask is not None:
            kept = rows_mask[rows]
            owner, near, rows = owner[kept], near[kept], rows[kept]
        return owner, near, rows

    found = in_threads(scan, _parts(len(codes), len(codes) * len(queries), threads))
    owner, near, rows = (np.concatenate(parts) for parts in zip(*found))
    order = np.lexsort((rows, near, owner))
    limits = np.searchsorted(owner[order], np.arange(len(queries) + 1)).astype(np.int64)
    return RangeHits(limits, near[order], rows[order])


def _nearest(codes: Codes, queries: Codes, wanted: int, rows_mask: Mask | None, threads: int) -> tuple[Distances, Rows]:
    """Some ``wanted`` nearest codes of each query, ordered by (distance, row); ties at the last rank are any."""
    if rows_mask is None:
        return _scan(codes, queries, wanted, threads)
    near, rows = np.empty((len(queries), 0), np.int32), np.empty((len(queries), 0), np.int64)
    for start in range(0, len(codes), _CHUNK):
        chosen = np.flatnonzero(rows_mask[start : start + _CHUNK])
        if len(chosen):
            gathered = np.take(codes[start : start + _CHUNK], chosen, axis=0)
            more = _scan(gathered, queries, min(wanted, len(chosen)), threads)
            near, rows = _merge([(near, rows), (more[0], chosen[more[1]] + start)], wanted)
    return near, rows


def _scan(codes: Codes, queries: Codes, wanted: int, threads: int) -> tuple[Distances, Rows]:
    """FAISS's scan, divided by queries where there are enough, and else by rows."""
    faiss = load_faiss()

    def scan(part: Codes, some: Codes) -> tuple[Distances, Rows]:
        with faiss_threads(1):
            near, rows = faiss.knn_hamming(some, part, min(wanted, len(part)))
        return near, rows

    if len(queries) >= threads:
        parts = _parts(len(queries), len(codes) * len(queries), threads)
        found = in_threads(lambda start, end: _merge([scan(codes, queries[start:end])], wanted), parts)
        return np.concatenate([near for near, _ in found]), np.concatenate([rows for _, rows in found])

    def rows_of(start: int, end: int) -> tuple[Distances, Rows]:
        near, rows = scan(codes[start:end], queries)
        return near, rows + start

    return _merge(in_threads(rows_of, _parts(len(codes), len(codes) * len(queries), threads)), wanted)


def _merge(found: list[tuple[Distances, Rows]], wanted: int) -> tuple[Distances, Rows]:
    """The ``wanted`` nearest of several scans, ordered by (distance, row)."""
    near = np.concatenate([near for near, _ in found], axis=1)
    rows = np.concatenate([rows for _, rows in found], axis=1)
    order = np.lexsort((rows, near), axis=1)[:, :wanted]
    return np.take_along_axis(near, order, axis=1), np.take_along_axis(rows, order, axis=1)


def _parts(count: int, pairs: int, threads: int) -> list[tuple[int, int]]:
    return pieces(count, min(threads, 1 + pairs // _WORTH))


@contextmanager
def faiss_threads(threads: int) -> Iterator[Any]:
    """The module faiss, with ``threads`` threads for the caller, and back to what its other users had set."""
    faiss = load_faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        yield faiss
    finally:
        faiss.omp_set_num_threads(before)
