"""What the tests of the kernels share: the back ends that can run here, and the plain truth to compare them with."""

from __future__ import annotations

import numpy as np
import pytest

from hashret.kernels import _numpy, available_backends, native

SMALL, SLICES = "numpy in small blocks", "native in slices of queries"
BACKENDS = available_backends()


@pytest.fixture(params=[*BACKENDS, SMALL, *([SLICES] if "native" in BACKENDS else [])])
def backend(request, monkeypatch):
    """Every back end that can run here, one after the other; also with so few rows or queries a piece as tests have."""
    if request.param == SLICES:
        monkeypatch.setattr(native, "_SLICE_BYTES", 1)
        monkeypatch.setattr(native, "_SLICE", 3)
        return "native"
    if request.param != SMALL:
        return request.param
    for name, value in (("_CALL", 256), ("_ALONE", 64), ("_BLOCK", 1024), ("_HELD", 32)):
        monkeypatch.setattr(_numpy, name, value)
    return "numpy"


@pytest.fixture(scope="session")
def truth():
    """Exact hits by looking up the ones of every byte and sorting everything by (distance, row)."""

    def hits(codes, queries, k, *, mask=None, radius=None):
        found = np.full((len(queries), k), -1, np.int32)
        rows = np.full((len(queries), k), -1, np.int64)
        for i, parts in enumerate(within(codes, queries, radius, mask)):
            near, at = parts[0][:k], parts[1][:k]
            found[i, : len(at)], rows[i, : len(at)] = near, at
        return found, rows

    def within(codes, queries, radius, mask):
        ones = np.array([bin(byte).count("1") for byte in range(256)])
        for query in queries:
            near = ones[codes ^ query].sum(axis=1)
            allowed = np.ones(len(codes), bool) if mask is None else mask
            at = np.flatnonzero(allowed if radius is None else allowed & (near <= radius))
            at = at[np.argsort(near[at], kind="stable")]
            yield near[at].astype(np.int32), at

    def ranged(codes, queries, radius, *, mask=None):
        parts = list(within(codes, queries, radius, mask))
        limits = np.cumsum([0, *(len(at) for _, at in parts)])
        return (
            limits,
            np.concatenate([np.zeros(0, np.int32), *(near for near, _ in parts)]),
            np.concatenate([np.zeros(0, np.int64), *(at for _, at in parts)]),
        )

    hits.ranged = ranged
    return hits


@pytest.fixture(scope="session")
def make_codes():
    """Codes of a kind: random, few distinct ones, all equal, near one another, or all zeros and ones."""

    def make(rng, count, n_bits, kind="random"):
        bits = rng.random((count, n_bits)) < 0.5
        if kind == "duplicates" and count:
            bits = bits[rng.integers(0, min(3, count), count)]
        elif kind == "equal" and count:
            bits = np.repeat(bits[:1], count, axis=0)
        elif kind == "near" and count:
            bits = bits[0] ^ (rng.random((count, n_bits)) < 0.02)
        elif kind == "extreme":
            bits = np.repeat(rng.random((count, 1)) < 0.5, n_bits, axis=1)
        return np.packbits(bits, axis=1) if count else np.zeros((0, (n_bits + 7) // 8), np.uint8)

    return make
