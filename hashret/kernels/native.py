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
    extension().search(codes, queries, k, rows_mask, n_bits, within, threads, distances, rows)
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
    limits, distances, rows = extension().range_search(codes, queries, radius, rows_mask, n_bits, threads)
    return RangeHits(np.frombuffer(limits, np.int64), np.frombuffer(distances, np.int32), np.frombuffer(rows, np.int64))


def _set_level(module: Any, name: str) -> None:
    if name not in module.levels():
        raise InputError(
            f"there is no SIMD level {name!r} on this machine (HASHRET_SIMD); it has {', '.join(module.levels())}"
        )
    module.set_level(name)
