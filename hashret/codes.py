"""Codes: bits packed into bytes, and what can be said about them.

    bit j of a code  =  bit 7 - j % 8 of byte j // 8   (numpy.packbits), padding bits zero, a bit is x > 0

Packing, unpacking, checking and cutting codes, and a report on their quality. Every other module of the search
stalk takes codes in this form and no other. Must not know of distances, indexes or models.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hashret.errors import CodeError, InputError

Codes = npt.NDArray[np.uint8]

MAX_BITS = 4096
"""The widest code that every back end handles."""

_REPORT_ROWS = 16_384  # unpacked to float32 at 256 bits this is 16 MB


@dataclass(frozen=True)
class CodeReport:
    """How well a set of codes uses its bits.

    Attributes:
        count: number of codes.
        n_bits: width.
        ones: (n_bits,) float64, the share of ones of each bit.
        balance: mean over bits of ``1 - |2 * ones - 1|``; 1 where every bit splits the codes in half.
        entropy: mean entropy of a bit, in bits; 1 is best.
        max_correlation: largest |Pearson correlation| of two different bits; 0 is best. Constant bits have none.
        constant: number of bits that never change and so tell nothing.
        distinct: number of different codes.
    """

    count: int
    n_bits: int
    ones: npt.NDArray[np.float64]
    balance: float
    entropy: float
    max_correlation: float
    constant: int
    distinct: int


def bytes_for(n_bits: int) -> int:
    """Bytes of a packed code of ``n_bits`` bits.

    Raises:
        InputError: ``n_bits`` is no whole number from 1 to 4,096.
    """
    try:
        width = operator.index(n_bits)
    except TypeError:
        raise InputError(f"n_bits must be a whole number, not {n_bits!r}") from None
    if isinstance(n_bits, bool) or not 1 <= width <= MAX_BITS:
        raise InputError(f"n_bits must be from 1 to {MAX_BITS}, not {n_bits!r}")
    return (width + 7) // 8


def as_array(values: npt.ArrayLike) -> npt.NDArray[Any]:
    """What was given as an array.

    Raises:
        CodeError: rows of several lengths.
    """
    try:
        return np.asarray(values)
    except ValueError as error:
        raise CodeError(f"relaxed codes must be one array, with rows of one length ({error})") from None


def pack(relaxed: npt.ArrayLike) -> Codes:
    """Binarise and pack relaxed codes; a bit is ``x > 0``.

    Args:
        relaxed: (N, n_bits) float or bool; one code (n_bits,) gives one row.

    Returns:
        (N, n_bytes) uint8 codes, padding bits zero.

    Raises:
        CodeError: not float or bool, not one or two dimensions, or a NaN.
    """
    values = as_array(relaxed)
    if not (values.dtype == np.bool_ or np.issubdtype(values.dtype, np.floating)):
        raise CodeError(
            f"pack takes relaxed codes of floats or bools, and these are {values.dtype}; "
            "for whole numbers say what a set bit is, as in pack(values > 0)"
        )
    if values.ndim not in (1, 2):
        raise CodeError(f"pack takes relaxed codes of shape (N, n_bits), and these have the shape {values.shape}")
    values = np.atleast_2d(values)
    bytes_for(values.shape[1])
    if values.dtype == np.bool_:
        return np.packbits(values, axis=1)
    if np.isnan(values).any():
        row = int(np.flatnonzero(np.isnan(values).any(axis=1))[0])
        raise CodeError(f"the relaxed codes hold NaN, first in row {row}; a NaN has no sign, so repair the encoder")
    return np.packbits(values > 0, axis=1)


def unpack(codes: Codes, *, n_bits: int) -> npt.NDArray[np.bool_]:
    """The bits of packed codes.

    Args:
        codes: (N, n_bytes) uint8; one code (n_bytes,) gives one row.
        n_bits: width; the padding bits are cut off.

    Returns:
        (N, n_bits) bool.

    Raises:
        CodeError: the codes do not fit ``n_bits``.
    """
    checked = check_codes(one_row(codes), n_bits=n_bits)
    return np.unpackbits(checked, axis=1, count=n_bits).view(np.bool_)


def check_codes(codes: Any, *, n_bits: int, what: str = "codes") -> Codes:
    """``codes`` as C-contiguous packed codes, or an error that says what they are instead.

    Args:
        codes: (N, n_bytes) uint8; copied only where not C-contiguous.
        n_bits: width.
        what: what the message calls them.

    Raises:
        CodeError: no numpy array, another dtype, shape or width, or padding bits that are not zero.
    """
    n_bytes = bytes_for(n_bits)
    if not isinstance(codes, np.ndarray):
        raise CodeError(f"{what} must be a numpy array of uint8, not {type(codes).__name__}; use hashret.pack")
    codes = codes.view(np.ndarray)  # a matrix would stay one
    if codes.dtype != np.uint8:
        raise CodeError(f"{what} must be packed uint8, not {codes.dtype}; pack relaxed codes with hashret.pack")
    if codes.ndim != 2:
        raise CodeError(f"{what} must have the shape (N, {n_bytes}), not {codes.shape}")
    if codes.shape[1] != n_bytes:
        raise CodeError(
            f"{what} of {n_bits} bits are {n_bytes} bytes wide, and these are {codes.shape[1]} bytes "
            f"({codes.shape[1] * 8} bits) wide; check n_bits and the model that made them"
        )
    if n_bits % 8 and len(codes) and int(np.bitwise_or.reduce(codes[:, -1])) & _padding(n_bits):
        raise CodeError(
            f"{what} of {n_bits} bits must have zeros in the last {8 * n_bytes - n_bits} padding bits, "
            "and some have ones; pack them with hashret.pack or cut them with hashret.codes.prefix"
        )
    return np.ascontiguousarray(codes)


def one_row(codes: Any) -> Any:
    """A single code (n_bytes,) as one row; anything else as it is."""
    return codes[np.newaxis] if isinstance(codes, np.ndarray) and codes.ndim == 1 else codes


def prefix(codes: Codes, *, n_bits: int) -> Codes:
    """The first ``n_bits`` bits of (nested) codes, as codes of their own.

    Args:
        codes: (N, n_bytes) uint8, at least ``n_bits`` wide.
        n_bits: bits to keep; the new padding bits are zero.

    Returns:
        (N, bytes_for(n_bits)) uint8, a copy.

    Raises:
        CodeError: the codes are narrower than ``n_bits``.
    """
    n_bytes = bytes_for(n_bits)
    rows = one_row(codes)
    if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.ndim != 2:
        raise CodeError("prefix takes packed codes, (N, n_bytes) uint8; pack relaxed codes with hashret.pack")
    if rows.shape[1] < n_bytes:
        raise CodeError(f"{n_bits} bits cannot be cut from codes of {rows.shape[1] * 8} bits; ask for fewer")
    cut = np.array(rows[:, :n_bytes], order="C")
    if n_bits % 8:
        cut[:, -1] &= np.uint8(0xFF ^ _padding(n_bits))
    return cut


def report(codes: Codes, *, n_bits: int) -> CodeReport:
    """Measure how well codes use their bits.

    Args:
        codes: (N, n_bytes) uint8, N >= 1.
        n_bits: width.

    Raises:
        CodeError: the codes do not fit ``n_bits``, or there are none.
    """
    checked = check_codes(codes, n_bits=n_bits)
    count = len(checked)
    if not count:
        raise CodeError("a report needs at least one code, and there are none")
    together = np.zeros((n_bits, n_bits))
    for start in range(0, count, _REPORT_ROWS):
        bits = np.unpackbits(checked[start : start + _REPORT_ROWS], axis=1, count=n_bits).astype(np.float32)
        together += bits.T @ bits  # whole numbers below 2**24: exact in float32
    ones = together.diagonal() / count
    variance = ones * (1 - ones)
    varies = variance > 0
    correlation = np.zeros_like(together)
    if varies.any():
        covariance = together / count - np.outer(ones, ones)
        scale = np.sqrt(np.outer(variance, variance))
        np.divide(covariance, scale, out=correlation, where=scale > 0)
    np.fill_diagonal(correlation, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = np.where(varies, -ones * np.log2(ones) - (1 - ones) * np.log2(1 - ones), 0.0)
    return CodeReport(
        count=count,
        n_bits=n_bits,
        ones=ones,
        balance=float(np.mean(1 - np.abs(2 * ones - 1))),
        entropy=float(entropy.mean()),
        max_correlation=float(min(np.abs(correlation).max(), 1.0)),
        constant=int(n_bits - varies.sum()),
        distinct=len(np.unique(checked.view(np.dtype((np.void, checked.shape[1]))))),
    )


def _padding(n_bits: int) -> int:
    """The bits of the last byte that lie beyond ``n_bits``."""
    return (1 << (-n_bits % 8)) - 1
