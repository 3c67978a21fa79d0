"""Hamming distances and exact nearest codes, by one of several back ends that give the same answer byte for byte.

    search, range_search ─► checks ─► selective masks may become gathered rows ─► back end: native | faiss | numpy

The back end is chosen by the argument ``backend``, or else by the environment variable HASHRET_BACKEND, or else
("auto") is the first of native, faiss, numpy that can run here. A further one is a module with the functions of
``contract.Backend`` and one line in ``BACKENDS``. Must not know of files, ids or models.
"""

from __future__ import annotations

import importlib
import os
from functools import cache
from typing import Any

import numpy as np

from hashret.codes import Codes, check_codes, one_row
from hashret.errors import CodeError, ConfigError, InputError
from hashret.kernels.contract import (
    Backend,
    Distances,
    Hits,
    Mask,
    RangeHits,
    Rows,
    check_k,
    check_mask,
    check_padding,
    check_queries,
    check_radius,
    check_threads,
)
from hashret.registry import Registry

__all__ = [
    "BACKENDS",
    "Hits",
    "RangeHits",
    "available_backends",
    "choose_backend",
    "get_num_threads",
    "hamming",
    "range_search",
    "search",
    "set_num_threads",
]

BACKENDS = Registry(
    "back end",
    {"native": "hashret.kernels:native", "faiss": "hashret.kernels:_faiss", "numpy": "hashret.kernels:_numpy"},
)
"""Name -> module; ``auto`` tries native, faiss, numpy in this order."""

_ORDER = ("native", "faiss", "numpy")
_MODULES = ("native", "_faiss", "_numpy")
_FEW_OF = 64  # gathering a row costs as much as a search of 64 rows with a mask by FAISS or numpy,
_FEW_OF_BATCH, _BATCH = 8, 16  # but fewer than N / 8 rows always pay where a batch of queries shares that cost
_SAMPLE = 997  # of a long mask every 997th entry tells roughly how many it selects; counting takes half a scan
_SPARSE = 32  # with fewer than N / 32 rows selected, most words of 8 rows are empty

_threads: int | None = None


def __getattr__(name: str) -> Any:
    if name in _MODULES:  # the back ends themselves, imported on use
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def set_num_threads(n: int | None) -> None:
    """Let every back end use ``n`` threads, *native* up to 64; None gives back the default, all cores of this process.

    Raises:
        InputError: ``n`` is no whole number of at least 1.
    """
    global _threads
    _threads = None if n is None else check_threads(n)


def get_num_threads() -> int:
    """How many threads a search may use."""
    if _threads is not None:
        return _threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_backends() -> tuple[str, ...]:
    """The back ends that can run here, the preferred one first."""
    names = sorted(BACKENDS.names(), key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))
    return tuple(name for name in names if BACKENDS.load(name).available())


def choose_backend(backend: str = "auto") -> tuple[str, Backend]:
    """The name and the module of the back end that runs.

    Args:
        backend: a name, or "auto" for HASHRET_BACKEND or else the fastest that can run here.

    Raises:
        InputError: it cannot run here.
        ConfigError: there is no back end of this name.
    """
    named = os.environ.get("HASHRET_BACKEND", "") if backend == "auto" else ""
    name = named or backend
    if name == "auto":
        name = _fastest()
    try:
        module: Backend = BACKENDS.load(name)
    except ConfigError as error:
        raise ConfigError(f"HASHRET_BACKEND: {error}" if named else str(error)) from None
    if not module.available():
        raise InputError(
            f"the back end {name!r} cannot run here (not built, or its package is not installed); "
            f"choose one of {', '.join(available_backends())}, or 'auto'"
        )
    return name, module


def hamming(a: Codes, b: Codes) -> Distances:
    """The distances of all pairs.

    Args:
        a: (A, n_bytes) uint8 codes; a single code (n_bytes,) gives one row.
        b: (B, n_bytes) uint8 codes of the same width.

    Returns:
        (A, B) int32, number of differing bits.

    Raises:
        CodeError: not packed codes of one width.
    """
    from hashret.kernels import _numpy

    left, right = one_row(a), one_row(b)
    n_bits = 8 * left.shape[1] if isinstance(left, np.ndarray) and left.ndim == 2 and left.shape[1] else 8
    left = check_codes(left, n_bits=n_bits, what="the first codes")
    if isinstance(right, np.ndarray) and right.ndim == 2 and right.shape[1] != left.shape[1]:
        raise CodeError(
            f"distances need codes of one width, and these are {left.shape[1]} and {right.shape[1]} bytes wide"
        )
    right = check_codes(right, n_bits=n_bits, what="the second codes")
    return _numpy.distances(left, right)


def search(
    codes: Codes,
    queries: Codes,
    k: int,
    *,
    n_bits: int,
    mask: Mask | None = None,
    radius: int | None = None,
    backend: str = "auto",
) -> Hits:
    """The ``k`` nearest codes of each query, exactly, ordered by (distance, row).

    Args:
        codes: (N, n_bytes) uint8; may be read-only and memory-mapped.
        queries: (Q, n_bytes) uint8; a single query (n_bytes,) gives a one-row result.
        k: hits of a query, at least 1; may exceed N, up to 2^24 empty places in all.
        n_bits: width.
        mask: (N,) bool or bitarray, True = may be found.
        radius: largest distance that counts, inclusive.
        backend: "auto", "native", "faiss" or "numpy".

    Returns:
        Distances (Q, k) int32 and rows (Q, k) int64; short rows are padded with -1.

    Raises:
        CodeError: codes or queries do not fit ``n_bits``.
        InputError: ``k``, ``radius``, ``mask`` or ``backend`` cannot be used.
    """
    checked = check_codes(codes, n_bits=n_bits)
    return search_checked(checked, queries, k, n_bits=n_bits, mask=mask, radius=radius, backend=backend)


def search_checked(
    codes: Codes,
    queries: Codes,
    k: int,
    *,
    n_bits: int,
    mask: Mask | None = None,
    radius: int | None = None,
    backend: str = "auto",
) -> Hits:
    """``search`` over codes that went through ``check_codes`` before, as those of an index have."""
    queries = check_queries(queries, n_bits=n_bits)
    k = check_k(k)
    radius = None if radius is None else check_radius(radius, n_bits=n_bits)
    check_padding(len(queries), k, len(codes))
    name, module = choose_backend(backend)
    chosen = None
    if mask is not None:
        codes, mask, chosen = _gather(codes, check_mask(mask, len(codes)), len(queries), name)
    if not len(codes) or not len(queries):
        return _padded(len(queries), k)
    distances, rows = module.search(
        codes,
        queries,
        min(k, len(codes)),
        n_bits=n_bits,
        rows_mask=mask,
        radius=radius,
        threads=get_num_threads(),
    )
    if chosen is not None:
        rows = np.where(rows < 0, rows, chosen[rows])
    if k > distances.shape[1]:
        hits = _padded(len(queries), k)
        hits.distances[:, : distances.shape[1]] = distances
        hits.rows[:, : rows.shape[1]] = rows
        return hits
    return Hits(distances, rows)


def range_search(
    codes: Codes,
    queries: Codes,
    radius: int,
    *,
    n_bits: int,
    mask: Mask | None = None,
    backend: str = "auto",
) -> RangeHits:
    """All codes within ``radius`` (inclusive) of each query, those of one query ordered by (distance, row).

    Args and Raises: as in ``search``.
    """
    checked = check_codes(codes, n_bits=n_bits)
    return range_search_checked(checked, queries, radius, n_bits=n_bits, mask=mask, backend=backend)


def range_search_checked(
    codes: Codes,
    queries: Codes,
    radius: int,
    *,
    n_bits: int,
    mask: Mask | None = None,
    backend: str = "auto",
) -> RangeHits:
    """``range_search`` over codes that went through ``check_codes`` before."""
    queries = check_queries(queries, n_bits=n_bits)
    radius = check_radius(radius, n_bits=n_bits)
    name, module = choose_backend(backend)
    chosen = None
    if mask is not None:
        codes, mask, chosen = _gather(codes, check_mask(mask, len(codes)), len(queries), name)
    if not len(codes) or not len(queries):
        return RangeHits(np.zeros(len(queries) + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int64))
    hits = module.range_search(codes, queries, radius, n_bits=n_bits, rows_mask=mask, threads=get_num_threads())
    return hits if chosen is None else hits._replace(rows=chosen[hits.rows])


@cache
def _fastest() -> str:
    """What "auto" is: looked up once, for a missing extension is looked for on disk every time."""
    return available_backends()[0]


def _gather(codes: Codes, mask: Mask, queries: int, backend: str) -> tuple[Codes, Mask | None, Any]:
    """What to search: all codes with the mask, or, where it selects few, those few and their rows."""
    if backend == "native" and queries < _BATCH:
        return codes, mask, None  # it looks at single rows where few are selected
    share = _FEW_OF_BATCH if queries >= _BATCH else _FEW_OF
    some = mask if len(mask) < _SAMPLE << 7 else mask[::_SAMPLE]
    selected = int(np.count_nonzero(some)) * len(mask) // max(1, len(some))
    if selected * share >= len(mask):
        return codes, None if selected == len(mask) and some is mask else mask, None
    chosen = _true_rows(mask, selected)  # ascending, so ties stay in row order
    return np.take(codes, chosen, axis=0), None, chosen


def _true_rows(mask: Mask, selected: int) -> Rows:
    """The rows that a mask selects; of few, by looking at words of 8 rows first, in half the time."""
    if selected * _SPARSE >= len(mask):
        return np.flatnonzero(mask)
    whole = len(mask) // 8 * 8
    words = np.flatnonzero(mask[:whole].view(np.uint64) != 0)
    at = np.flatnonzero(np.take(mask[:whole].reshape(-1, 8), words, axis=0))
    return np.concatenate([8 * words[at >> 3] + (at & 7), whole + np.flatnonzero(mask[whole:])])


def _padded(queries: int, k: int) -> Hits:
    return Hits(np.full((queries, k), -1, np.int32), np.full((queries, k), -1, np.int64))
