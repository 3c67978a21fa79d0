"""What a back end of the Hamming kernels is, and the checks that all of them share.

A back end is a module (or any object) with the functions of ``Backend``. It gets arguments that were checked here
and may trust them: C-contiguous codes and queries of one width with zero padding bits, ``k`` from 1 to N, at least one
code and one query. Whatever is easier done once for all (bad input, no codes, padding, what a selective mask
leaves of many) is done in ``hashret.kernels`` around it. Must not know how distances are computed.
"""

from __future__ import annotations

import operator
import sys
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from hashret.codes import Codes, check_codes, one_row
from hashret.errors import InputError

Distances = npt.NDArray[np.int32]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_PADDING = 1 << 24  # places of a result that can only be empty: 0.2 GB, and 0.5 GB with ids and metadata


class Hits(NamedTuple):
    """The nearest codes of each query, ordered by (distance, row); short rows are padded with -1.

    Attributes:
        distances: (Q, k) int32, number of differing bits.
        rows: (Q, k) int64, position in the codes.
    """

    distances: Distances
    rows: Rows


class RangeHits(NamedTuple):
    """All codes within a radius; those of query i are the entries ``limits[i]:limits[i + 1]``, by (distance, row).

    Attributes:
        limits: (Q + 1,) int64.
        distances: (T,) int32.
        rows: (T,) int64.
    """

    limits: npt.NDArray[np.int64]
    distances: Distances
    rows: Rows


class Backend(Protocol):
    """The functions of a back end."""

    def available(self) -> bool:
        """Whether it can run here; cheap, and never an exception."""
        ...

    def search(
        self,
        codes: Codes,
        queries: Codes,
        k: int,
        *,
        n_bits: int,
        rows_mask: Mask | None,
        radius: int | None,
        threads: int,
    ) -> tuple[Distances, Rows]:
        """The ``k`` nearest codes of each query, exactly, ties by row, padded with -1.

        Args:
            codes: (N, n_bytes) uint8, N >= 1; may be read-only and memory-mapped.
            queries: (Q, n_bytes) uint8, Q >= 1.
            k: from 1 to N.
            n_bits: width; no distance is larger.
            rows_mask: (N,) bool, True = may be found; None = all.
            radius: largest distance that counts, inclusive; None = any.
            threads: how many may be used, at least 1.

        Returns:
            distances (Q, k) int32 and rows (Q, k) int64.
        """
        ...

    def range_search(
        self,
        codes: Codes,
        queries: Codes,
        radius: int,
        *,
        n_bits: int,
        rows_mask: Mask | None,
        threads: int,
    ) -> RangeHits:
        """All codes with a distance of at most ``radius``; arguments as in ``search``."""
        ...


def check_whole(value: Any, what: str, *, least: int = 1) -> int:
    """A parameter as a whole number of at least ``least``; ``what`` is its name in the message."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or number < least:
        raise InputError(f"{what} must be a whole number of at least {least}, not {value!r}")
    return number


def check_queries(queries: Any, *, n_bits: int) -> Codes:
    """Queries as (Q, n_bytes) codes; a single one gives one row."""
    return check_codes(one_row(queries), n_bits=n_bits, what="queries")


def check_k(k: Any) -> int:
    """``k`` as a whole number of at least 1."""
    return check_whole(k, "k, the number of hits of a query,")


def check_radius(radius: Any, *, n_bits: int) -> int:
    """``radius`` as a whole number from 0 to ``n_bits``; a larger one means the same as ``n_bits``."""
    return min(check_whole(radius, "radius, the largest distance that counts,", least=0), n_bits)


def check_threads(threads: Any) -> int:
    """The number of threads as a whole number of at least 1."""
    return check_whole(threads, "the number of threads")


def check_padding(queries: int, k: int, count: int) -> None:
    """Refuse a ``k`` so far beyond ``count`` codes that the result would be hardly anything but padding."""
    if max(queries, 1) * (k - count) > _PADDING:  # of no queries as of one: their result has k columns as well
        asked = f"{k:,}" if k < 1 << 64 else "2^64 or more"  # Python refuses to print what is very long
        raise InputError(
            f"k = {asked} hits of each query are far more than the {count:,} codes that there are; "
            "ask for at most as many"
        )


def check_mask(mask: Any, count: int) -> Mask:
    """A row mask, (count,) bool or a bitarray of that length, as a numpy array."""
    bitarray = sys.modules.get("bitarray")  # not loaded means that the mask is none
    if bitarray is not None and isinstance(mask, bitarray.bitarray):
        order: Any = mask.endian() if callable(mask.endian) else mask.endian
        bits = np.frombuffer(mask, dtype=np.uint8) if len(mask) else np.zeros(0, np.uint8)
        mask = np.unpackbits(bits, count=len(mask), bitorder=order).view(np.bool_)
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
        given = mask.dtype if isinstance(mask, np.ndarray) else type(mask).__name__
        raise InputError(
            f"a mask must be a numpy array of bool or a bitarray, True = may be found, and this is {given}"
        )
    if mask.shape != (count,):
        raise InputError(f"a mask must have one entry a code, the shape ({count},), and this has {mask.shape}")
    return np.ascontiguousarray(mask)
