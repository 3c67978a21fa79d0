"""The back end that needs numpy only: exact, and within a small factor of the compiled ones.

Codes are read in blocks as columns of 64-bit words; a block's distances are the sums of ``bitwise_count`` of the
columns. Blocks are large, and calls of numpy long: a query pays for each block, and between calls a thread waits for
the interpreter's lock. Selection counts instead of sorting: distances are small whole numbers, so a histogram of the
candidates gives the running k-th distance T, and of the next block only what is below T is looked at. Rows are scanned
in order, so a later row with distance T cannot displace an earlier one, and ties come out by row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from hashret.codes import Codes
from hashret.kernels.contract import Distances, Mask, RangeHits, Rows
from hashret.kernels.parallel import in_threads, pieces

_CALL = 131_072  # words that a call works on, about a tenth of a millisecond
_ALONE = 32_768  # the same of one query or two, mostly without another thread: they stay in the second-level cache
_BLOCK = 4 * _CALL  # words of a block at most; nor has it more rows than a call takes words
_HELD = 32_768  # candidates of a query, beside some for each hit, until those that are too far by now are dropped


def available() -> bool:
    """Always: numpy is what codes are made of."""
    return True


def distances(a: Codes, b: Codes) -> Distances:
    """All (A, B) distances as int32."""
    result = np.empty((len(a), len(b)), np.int32)
    scratch = _Scratch(a.shape[1], _CALL)
    for start, end in _blocks(len(b), scratch.rows, first=0):
        block = _planes(b[start:end])
        for i, query in enumerate(_words(a)):
            result[i, start:end] = scratch.distances(block, query)
    return result


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
    found = np.full((len(queries), k), -1, np.int32)
    rows = np.full((len(queries), k), -1, np.int64)
    limit = n_bits if radius is None else radius

    def part(start: int, end: int) -> None:
        states = [_Nearest(k, limit) for _ in range(start, end)]
        _scan(codes, queries[start:end], states, rows_mask, k=k)
        for i, state in enumerate(states, start):
            near, at = state.result()
            found[i, : len(at)] = near
            rows[i, : len(at)] = at

    in_threads(part, pieces(len(queries), threads))
    return found, rows


def range_search(
    codes: Codes, queries: Codes, radius: int, *, n_bits: int, rows_mask: Mask | None, threads: int
) -> RangeHits:
    """See ``contract.Backend.range_search``."""
    states = [_Within(radius) for _ in range(len(queries))]

    def part(start: int, end: int) -> None:
        _scan(codes, queries[start:end], states[start:end], rows_mask, k=0)

    in_threads(part, pieces(len(queries), threads))
    parts = [state.result() for state in states]
    limits = np.cumsum([0, *(len(at) for _, at in parts)], dtype=np.int64)
    return RangeHits(
        limits,
        np.concatenate([near for near, _ in parts]).astype(np.int32),
        np.concatenate([at for _, at in parts]),
    )


class _Within:
    """Collects what lies below ``bound`` (exclusive)."""

    def __init__(self, radius: int) -> None:
        self.bound = radius + 1
        self._near: list[npt.NDArray[np.uint16]] = []
        self._rows: list[Rows] = []

    def take(self, near: npt.NDArray[np.uint16], rows: Rows) -> None:
        """Candidates of the next block, all below ``bound``, in row order."""
        self._near.append(near)
        self._rows.append(rows)

    def result(self) -> tuple[npt.NDArray[np.uint16], Rows]:
        """What was collected, by (distance, row)."""
        near = np.concatenate(self._near) if self._near else np.zeros(0, np.uint16)
        rows = np.concatenate(self._rows) if self._rows else np.zeros(0, np.int64)
        order = np.argsort(near, kind="stable")  # a radix sort on 16 bits
        return near[order], rows[order]


class _Nearest(_Within):
    """Collects the ``k`` nearest; ``bound`` falls to the running k-th distance."""

    def __init__(self, k: int, radius: int) -> None:
        super().__init__(radius)
        self._k = k
        self._counts = np.zeros(radius + 1, np.int64)
        self._held = 0

    def take(self, near: npt.NDArray[np.uint16], rows: Rows) -> None:
        super().take(near, rows)
        self._counts += np.bincount(near, minlength=len(self._counts))
        self._held += len(rows)
        kth = int(np.searchsorted(np.cumsum(self._counts), self._k))
        if kth < self.bound:
            self.bound = kth
        if self._held > 4 * self._k + _HELD:  # falling distances: drop what can no longer be among the k
            near, rows = self.result()
            self._near, self._rows, self._held = [near], [rows], len(rows)
            self._counts = np.bincount(near, minlength=len(self._counts))

    def result(self) -> tuple[npt.NDArray[np.uint16], Rows]:
        near, rows = super().result()
        return near[: self._k], rows[: self._k]


def _scan(codes: Codes, queries: Codes, states: Sequence[_Within], rows_mask: Mask | None, *, k: int) -> None:
    """Show every query's state the rows below its bound, block by block in row order.

    Args:
        k: hits that a query looks for, which bring its bound down; 0: all within the bound.
    """
    words = _words(queries)
    many = len(states) > 2
    scratch = _Scratch(codes.shape[1], _CALL if many else _ALONE)
    # all rows of a first block are candidates, and of each later one k for every ``first`` rows: least when balanced
    first = min(scratch.rows, math.isqrt(k * min(len(codes), scratch.rows)))
    for start, end in _blocks(len(codes), scratch.rows, first=first):
        part = codes[start:end]
        block = _planes(part) if many else _words(part).T  # a copy pays from the third query on
        mask = None if rows_mask is None else rows_mask[start:end]
        for query, state in zip(words, states):
            if not state.bound:
                continue
            near = scratch.distances(block, query)
            below = near < state.bound
            if mask is not None:
                below &= mask
            rows = np.flatnonzero(below)
            if len(rows):
                state.take(near[rows].astype(np.uint16, copy=False), rows + start)


def _blocks(count: int, rows: int, *, first: int) -> Iterator[tuple[int, int]]:
    """The rows 0 to ``count`` as (start, end) of ``rows`` each, the ``first`` ones by themselves."""
    return pairwise(sorted({0, *range(min(first, count), count, rows), count}))


class _Scratch:
    """Buffers for the distances of one query to a block, ``call`` words at a time.

    Attributes:
        rows: of a block at most.
    """

    def __init__(self, n_bytes: int, call: int) -> None:
        words = -(-n_bytes // 8)
        self.rows = min(_CALL, _BLOCK // words)
        self._words = np.empty(call, np.uint64)
        self._counts = np.empty(call, np.uint8)
        self._sum = np.empty(self.rows, np.uint8 if 8 * n_bytes < 256 else np.uint16)

    def distances(self, block: npt.NDArray[np.uint64], query: npt.NDArray[np.uint64]) -> npt.NDArray[Any]:
        """(rows,) distances of the columns ``block`` (words, rows) to ``query`` (words,); valid until the next call."""
        n_words, n_rows = block.shape
        total = self._sum[:n_rows]
        step = len(self._words) // n_words
        for start in range(0, n_rows, step):
            part = block[:, start : start + step]
            words, counts = (each[: part.size].reshape(part.shape) for each in (self._words, self._counts))
            np.bitwise_xor(part, query[:, None], out=words)
            np.bitwise_count(words, out=counts)
            np.add.reduce(counts, axis=0, dtype=total.dtype, out=total[start : start + part.shape[1]])
        return total


def _words(codes: Codes) -> npt.NDArray[np.uint64]:
    """Codes as (N, words) of 64 bits, without a copy where width and address allow it."""
    count, n_bytes = codes.shape
    if n_bytes % 8 == 0 and codes.ctypes.data % 8 == 0:
        return codes.view(np.uint64)
    padded = np.zeros((count, -(-n_bytes // 8) * 8), np.uint8)
    padded[:, :n_bytes] = codes
    return padded.view(np.uint64)


def _planes(codes: Codes) -> npt.NDArray[np.uint64]:
    """Codes as (words, N): each column of words in one piece."""
    return np.ascontiguousarray(_words(codes).T)
