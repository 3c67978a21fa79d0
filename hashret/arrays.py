"""Arrays that users hand in, read in one place: matrices of features, and labels; and rows of length 1.

Refuses what cannot be meant with a sentence that says where and why. Knows numpy alone.
"""

from __future__ import annotations

from numbers import Real
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hashret.errors import DataError

NO_ARRAY = (OSError, EOFError, ValueError, TypeError, OverflowError, MemoryError, TokenError, BadZipFile)
"""What ``numpy.load`` raises for a file that is none of its own, is damaged, or claims to be larger than any memory."""

_KINDS = {"b": "numbers", "i": "numbers", "u": "numbers", "f": "numbers", "U": "words", "S": "bytes"}


def matrix_of(features: ArrayLike, what: str, *, dtype: Any = np.float32, squared: bool = False) -> NDArray[Any]:
    """(N, D) of ``dtype``, finite.

    Args:
        features: anything that numpy makes a matrix of real numbers of.
        what: it is called in errors.
        dtype: of the result.
        squared: refuse features so large or so small that their squares, and sums of them, leave ``dtype``.

    Raises:
        DataError: something else.
    """
    if hasattr(features, "toarray"):
        raise DataError(f"sparse input is not supported, and such is {what}; give x.toarray()")
    try:
        given = np.asarray(features)
        if given.dtype.kind not in "fiubOV" or given.dtype.names is not None:
            reason = "Complex data not supported" if given.dtype.kind == "c" else f"its dtype is {given.dtype}"
            raise TypeError(reason)
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is refused below
            values = np.ascontiguousarray(given, dtype=dtype)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # the last: a tensor with a gradient
        raise DataError(f"{what} must be a matrix of real numbers: {error}") from error
    if given.ndim != 2:
        raise DataError(
            f"{what} must be a matrix (items, width), not an array of shape {given.shape}. Reshape your data: a single "
            f"item is x.reshape(1, -1)"
        )
    if not given.shape[1]:
        raise DataError(f"0 feature(s) (shape={given.shape}) while a minimum of 1 is required of {what}")
    strange = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(strange):
        more = f" and {len(strange) - 1:,} more" if len(strange) > 1 else ""
        raise DataError(f"NaN or infinity in row {strange[0]}{more} of {what}; leave those rows out or repair them")
    largest = max(abs(float(values.max(initial=0))), abs(float(values.min(initial=0))))
    bound = 1e-3 * float(np.sqrt(np.finfo(dtype).max))
    if squared and (largest > bound or 0 < largest < 1 / bound):
        raise DataError(f"{largest:.0e} is the largest of {what}, whose squares lose their meaning; scale to about 1")
    return values


def l2_normalised(values: NDArray[Any]) -> NDArray[Any]:
    """(N, D) floats as rows of length 1; zero rows stay zero."""
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    unit: NDArray[Any] = values / np.where(norms > 0, norms, 1)
    return unit


def labels_of(labels: ArrayLike, what: str = "labels") -> NDArray[Any]:
    """(N,) one label an item, numbers or words, or an (N, C) multi-hot matrix of zeros and ones.

    A column (N, 1) of anything but bool is one label an item.

    Args:
        labels: numbers or words.
        what: they are called in errors.

    Raises:
        DataError: lists of several lengths, labels that are missing or of several kinds, another shape, or a matrix of
            other values.
    """
    tags = f"{what} are lists of several lengths; make a matrix (items, labels) of zeros and ones of them"
    try:  # numpy would make words of a mixed list, and a word of what is missing in it
        values = labels if isinstance(labels, np.ndarray) else np.asarray(labels, dtype=object)
    except ValueError:
        raise DataError(tags) from None
    if values.dtype == object:
        values = _of_one_kind(values, what, tags)
    if values.dtype.kind not in _KINDS:
        raise DataError(f"{what} must be numbers or words, and are {values.dtype}")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(f"{what} hold NaN or infinity; leave unlabelled items out")
    if values.ndim == 2 and values.shape[1] == 1 and values.dtype != np.bool_:
        values = values[:, 0]
    if values.ndim not in (1, 2):
        raise DataError(f"{what} are one an item, (N,), or a matrix (N, C), and have the shape {values.shape}")
    if (
        values.ndim == 2
        and values.dtype != np.bool_
        and not (kind_of(values) == "numbers" and np.isin(values, (0, 1)).all())
    ):
        raise DataError(f"the {what} hold other values than 0 and 1; a label matrix is multi-hot")
    return values


def kind_of(labels: NDArray[Any]) -> str:
    """What labels are: numbers, words or bytes."""
    return _KINDS[labels.dtype.kind]


def _of_one_kind(values: NDArray[Any], what: str, tags: str) -> NDArray[Any]:
    """An array of objects as one of numbers, of words or of bytes."""
    flat = values.ravel().tolist()
    if any(isinstance(label, list | tuple | set | np.ndarray) for label in flat):
        raise DataError(tags)
    kinds = {next((kind for kind in (str, bytes, Real) if isinstance(label, kind)), type(label)) for label in flat}
    if len(kinds) > 1 or not kinds <= {str, bytes, Real}:
        names = ", ".join(sorted({type(label).__name__ for label in flat}))
        raise DataError(f"{what} must all be numbers or all be words, and are {names}; leave unlabelled items out")
    return np.array(values.tolist())
