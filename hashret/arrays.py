"""Arrays that users hand in, read in one place: matrices of features, and labels.

Refuses what cannot be meant with a sentence that says where and why. Knows numpy alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hashret.errors import DataError

_LARGEST = 1e15  # squares of larger features, and sums of them, leave float32
_KINDS = {"b": "numbers", "i": "numbers", "u": "numbers", "f": "numbers", "U": "words", "S": "bytes"}


def matrix_of(features: ArrayLike, what: str, *, dtype: Any = np.float32) -> NDArray[Any]:
    """(N, D) of ``dtype``, finite.

    Args:
        features: anything that numpy makes a matrix of real numbers of.
        what: it is called in errors.
        dtype: of the result.

    Raises:
        DataError: something else.
    """
    if hasattr(features, "toarray"):
        raise DataError(f"{what} is sparse, and sparse input is not supported; give {what}.toarray()")
    try:
        given = np.asarray(features)
        if given.dtype.kind not in "fiubO":
            reason = "Complex data not supported" if given.dtype.kind == "c" else f"its dtype is {given.dtype}"
            raise TypeError(reason)
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is refused below
            values = np.ascontiguousarray(given, dtype=dtype)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} must be a matrix of real numbers: {error}") from error
    if given.ndim != 2:
        raise DataError(
            f"{what} must be a matrix (items, width), not an array of shape {given.shape}. Reshape your data: a single "
            f"item is x.reshape(1, -1)"
        )
    if not given.shape[1]:
        raise DataError(f"{what} has 0 feature(s) (shape={given.shape}) while a minimum of 1 is required.")
    strange = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(strange):
        more = f" and {len(strange) - 1:,} more" if len(strange) > 1 else ""
        raise DataError(f"{what} holds NaN or infinity in row {strange[0]}{more}; leave those rows out or repair them")
    largest = max(abs(float(values.max(initial=0))), abs(float(values.min(initial=0))))
    if largest > _LARGEST or 0 < largest < 1 / _LARGEST:
        raise DataError(f"{what} is up to {largest:.0e} large, where squares lose their meaning; scale it to about 1")
    return values


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
    try:
        values = np.asarray(labels)
    except ValueError as error:
        raise DataError(tags) from error
    if values.dtype == object:
        kinds = {type(label) for label in values.ravel()}
        if kinds & {list, tuple, set, np.ndarray}:
            raise DataError(tags)
        if len(kinds) > 1 or not kinds <= {str, int, bool, float}:
            names = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise DataError(f"{what} must all be numbers or all be words, and are {names}; leave unlabelled items out")
        values = np.array(values.tolist())
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
