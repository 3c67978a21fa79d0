"""The back end in C: an optional extension that the build makes where there is a compiler.

A few queries are answered by a scan of the codes, many by a bit-sliced kernel that turns blocks of rows into bit planes
as it goes, so no second copy of the codes is kept. The instructions (scalar, SSE2, AVX2, AVX-512, VPOPCNTDQ, NEON) are
chosen when the extension is loaded; the environment variable HASHRET_SIMD or ``use_level`` forces others. The method
is described in ``csrc/level.inc``. Must not know of indexes or files.

*Source:* multi-query bit-slicing with carry-save adders after Harley and Seal, in Warren, Hacker's Delight, 2nd ed.,
section 5-1; selection by a histogram of distances.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import numpy as np

from hashret.codes import Codes
from hashret.errors import InputError, MissingExtraError
from hashret.kernels.contract import Distances, Mask, RangeHits, Rows

_NAME = "hashret.kernels._native"
_SLICE_BYTES = 1 << 37  # codes looked at (bytes x queries) in a call, about a second: Ctrl-C comes through between two
_SLICE = 256  # queries of a call at least: fewer would not share what a batch shares
_KINDS = (np.int64, np.int32, np.int64)  # of limits, distances and rows
_loaded: Any = None


def available() -> bool:
    """Whether the extension was built and loads."""
    try:
        importlib.import_module(_NAME)
    except ImportError:
        return False
    return True


def extension() -> Any:
    """The compiled module, at the SIMD level that HASHRET_SIMD names, or else the best of this machine.

    Raises:
        MissingExtraError: it was not built, or was built for another Python.
        InputError: HASHRET_SIMD names a level that this machine or build does not have.
    """
    global _loaded
    if _loaded is None:
        try:
            module = importlib.import_module(_NAME)
        except ImportError as error:
            raise MissingExtraError(
                "the C extension of hashret was not built, or not for this Python; "
                "with a C compiler at hand, build it with: pip install --force-reinstall --no-deps hashret"
            ) from error
        wanted = os.environ.get("HASHRET_SIMD")
        if wanted:
            _set_level(module, wanted)
        _loaded = module
    return _loaded


def levels() -> tuple[str, ...]:
    """The SIMD levels that this machine and build have, the best one last."""
    names: tuple[str, ...] = extension().levels()
    return names


def level() -> str:
    """The SIMD level in use."""
    name: str = extension().level()
    return name


def use_level(name: str) -> None:
    """Use another SIMD level from now on, in all threads; not to be called while a search runs.

    Raises:
        InputError: this machine or build does not have it.
    """
    _set_level(extension(), name)


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
    """The ``k`` nearest codes of each query; see ``contract.Backend``."""
    distances = np.empty((len(queries), k), np.int32)
    rows = np.empty((len(queries), k), np.int64)
    within = -1 if radius is None else radius
    for some in _slices(codes, queries):
        extension().search(codes, queries[some], k, rows_mask, n_bits, within, threads, distances[some], rows[some])
    return distances, rows


def range_search(
    codes: Codes,
    queries: Codes,
    radius: int,
    *,
    n_bits: int,
    rows_mask: Mask | None,
    threads: int,
) -> RangeHits:
    """All codes within ``radius``; see ``contract.Backend``."""
    found = []
    for some in _slices(codes, queries):
        parts = extension().range_search(codes, queries[some], radius, rows_mask, n_bits, threads)
        found.append(RangeHits(*(np.frombuffer(part, kind) for part, kind in zip(parts, _KINDS))))
    return found[0] if len(found) == 1 else _joined(found)


def _slices(codes: Codes, queries: Codes) -> list[slice]:
    step = max(_SLICE, _SLICE_BYTES // codes.nbytes)
    return [slice(first, first + step) for first in range(0, len(queries), step)]


def _joined(found: list[RangeHits]) -> RangeHits:
    """The hits of all queries, of those of some each."""
    counts = np.concatenate([np.diff(hits.limits) for hits in found])
    limits = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    return RangeHits(limits, *(np.concatenate([hits[part] for hits in found]) for part in (1, 2)))


def _set_level(module: Any, name: str) -> None:
    if name not in module.levels():
        raise InputError(
            f"there is no SIMD level {name!r} on this machine (HASHRET_SIMD); it has {', '.join(module.levels())}"
        )
    module.set_level(name)
