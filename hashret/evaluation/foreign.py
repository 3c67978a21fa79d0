"""Codes of any origin, from arrays on disk, so that they are measured as codes of hashret are.

    codes     (N, n_bytes) uint8 packed (numpy.packbits, FAISS, "ubinary"), int8 ("binary"),
              or one number a bit, (N, n_bits): bool, 0 and 1, or -1 and 1
    owner     (M,) the row of each caption's picture; not needed where caption n belongs to picture n
    labels    (I,) one label a picture (numbers or strings), or (I, C) of zeros and ones

Bytes that are all 0 or 1 may be either form. They are numbers where most columns hold both, which the bytes of no code
do that is worth its bits; else the other array decides, or the length in bits.

Reads .npy files and never a pickle. Knows nothing of models or data sets.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashret.arrays import NO_ARRAY
from hashret.codes import Codes, bytes_for
from hashret.errors import DataError
from hashret.evaluation.coded import Coded


def read_array(path: str | Path, *, what: str) -> NDArray[Any]:
    """An array from a .npy file.

    Raises:
        DataError: there is none, or it is no plain array.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(f"there is no file {str(path)!r} with the {what}") from error
    except NO_ARRAY as error:
        raise DataError(
            f"the {what} in {str(path)!r} cannot be read ({error}); give one array of numbers that numpy.save wrote"
        ) from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{str(path)!r} holds several arrays; save the {what} alone, with numpy.save")
    return array


def as_codes(array: NDArray[Any], *, n_bits: int | None = None, what: str = "codes") -> tuple[Codes, int]:
    """Packed codes from an array in any of the usual forms, and their length in bits.

    Args:
        array: (N, n_bytes) of bytes, uint8 or (less 128) int8, or (N, n_bits) of one number a bit.
        n_bits: length of the codes; told from the array without.
        what: they are, for the error.

    Raises:
        CodeError: ``n_bits`` out of range.
        DataError: the array is neither of the two, or may be both.
    """
    if array.ndim != 2 or not array.shape[1]:
        raise DataError(
            f"the {what} have the shape {array.shape}; codes have a row an item: (N, n_bytes) or (N, n_bits)"
        )
    width, values = array.shape[1], _values(array)
    plain, packed = values is not None, array.dtype in (np.uint8, np.int8)
    if n_bits is None and len(_lengths(array)) > 1:
        raise DataError(
            f"the {what} are {width} wide, bytes that are all 0 or 1 (or -1 and 1): one number a bit, or packed codes "
            f"of which little is set; say which by their whole length in bits, --bits {width} or --bits {8 * width}"
        )
    if packed and (width == bytes_for(n_bits) if n_bits else not plain):
        if array.dtype == np.int8:  # as sentence-transformers writes "binary": bytes less 128
            array = array.astype(np.int16) + 128
        return np.ascontiguousarray(array, dtype=np.uint8), n_bits or 8 * width
    if plain and width == (n_bits or width):
        low = -1 if -1 in values else 0  # type: ignore[operator]
        if not ((array == low) | (array == 1)).all():
            raise DataError(f"the {what} hold other values than {low} and 1; a bit is one of two")
        return np.packbits(array > 0, axis=1), width
    if plain or packed:
        forms = f"{bytes_for(n_bits or width)} bytes or {n_bits} numbers"
        raise DataError(
            f"the {what} are {width} wide, and a code of {n_bits} bits is {forms}; give their whole length in bits, "
            f"beside shorter ones where those are wanted: --bits 64,256"
        )
    raise DataError(
        f"the {what} are {array.dtype} and neither packed bytes (uint8) nor one of two numbers a bit (0 and 1, or -1 "
        f"and 1); take signs first: numpy.save('codes.npy', hashret.pack(vectors))"
    )


def length_of(*arrays: NDArray[Any], at_least: int | None = None) -> int | None:
    """The one length in bits that all the arrays can have; None where there is none, or where there are two.

    Args:
        arrays: as for ``as_codes``.
        at_least: this length is to be cut from them, or is theirs.
    """
    if any(array.ndim != 2 or not array.shape[1] for array in arrays):
        return None
    common = set.intersection(*(_lengths(array, at_least) for array in arrays))
    longer = {n_bits for n_bits in common if n_bits >= (at_least or 0)}
    return longer.pop() if len(longer) == 1 else None


def _lengths(array: NDArray[Any], wanted: int | None = None) -> set[int]:
    """Every length in bits that the array may have by its form, two where bytes look like numbers; or ``wanted``."""
    width, plain, packed = array.shape[1], _values(array) is not None, array.dtype in (np.uint8, np.int8)
    if wanted and ((packed and width == bytes_for(wanted)) or (plain and width == wanted)):
        return {wanted}
    if plain and packed and len(array) and (array.min(axis=0) != array.max(axis=0)).mean() > 0.5:
        packed = False
    return ({width} if plain else set()) | ({8 * width} if packed else set())


def _values(array: NDArray[Any]) -> set[int] | None:
    """The numbers that bits are written as; None where the array holds others."""
    values = set(np.unique(array[: 1 << 12]).tolist()) if array.dtype.kind in "biuf" else None
    return values if values is not None and (values <= {0, 1} or values <= {-1, 1}) else None


def as_coded(
    image_codes: NDArray[Any],
    text_codes: NDArray[Any],
    *,
    n_bits: int | None = None,
    owner: NDArray[Any] | None = None,
    labels: NDArray[Any] | None = None,
) -> Coded:
    """Somebody's codes, ready to be measured.

    Args:
        image_codes: (I, …) in any form that ``as_codes`` takes.
        text_codes: (M, …) likewise; of the same length in bits.
        n_bits: their length; told from the arrays without.
        owner: (M,) rows; caption n belongs to picture n without.
        labels: (I,) or (I, C), of the pictures.

    Raises:
        CodeError: ``n_bits`` out of range, or padding bits that are set.
        DataError: arrays that cannot be used, or that do not fit each other.
    """
    image_codes, text_codes = np.asarray(image_codes), np.asarray(text_codes)
    n_bits = length_of(image_codes, text_codes) if n_bits is None else n_bits
    images, image_bits = as_codes(image_codes, n_bits=n_bits, what="image codes")
    texts, text_bits = as_codes(text_codes, n_bits=n_bits, what="text codes")
    if image_bits != text_bits:
        raise DataError(f"the image codes have {image_bits} bits and the text codes {text_bits}; both need one length")
    if owner is None:
        if len(images) != len(texts):
            raise DataError(
                f"there are {len(images):,} image codes and {len(texts):,} text codes; give the row of each caption's "
                f"picture with --owner owner.npy, or the data that they were made from with --data"
            )
        owner = np.arange(len(texts), dtype=np.int64)
    return Coded(images, texts, image_bits, np.asarray(owner), labels=None if labels is None else np.asarray(labels))
