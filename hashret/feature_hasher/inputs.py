"""What a feature hasher takes beside features: which text belongs to which picture, and labels.

Refuses what cannot be learned from, with a sentence that names the row. Knows nothing of models.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from hashret.baselines.base import label_matrix
from hashret.errors import DataError
from hashret.training import PairFeatures
from hashret.training.pairs import VectorTable

Floats = NDArray[np.float32]


def owners_of(owner: ArrayLike | None, n_images: int, n_texts: int) -> NDArray[np.int64]:
    """(M,) int64, the image row of each text.

    Raises:
        DataError: owners that do not fit, fewer than two items, or an item without a text.
    """
    if owner is None:
        if n_images != n_texts:
            raise DataError(
                f"X has {n_images:,} rows and Y has {n_texts:,}; give one text a picture, or say with owner= which row "
                f"of X each row of Y belongs to"
            )
        owners = np.arange(n_texts)
    else:
        owners = np.asarray(owner)
        if owners.shape != (n_texts,) or (n_texts and owners.dtype.kind not in "iu"):
            raise DataError(
                f"owner must hold one integer for each of the {n_texts:,} rows of Y, and has shape {owners.shape} and "
                f"dtype {owners.dtype}"
            )
    if n_images < 2:
        raise DataError(
            f"learning and measuring need at least 2 pairs, and {n_images} was given (n_samples={n_images})"
        )
    if owners.min(initial=0) < 0 or owners.max(initial=0) >= n_images:
        raise DataError(f"owner holds rows from {owners.min()} to {owners.max()}, and X has {n_images:,} rows")
    missing = np.flatnonzero(np.bincount(owners, minlength=n_images) == 0)
    if len(missing):
        raise DataError(f"{len(missing):,} rows of X have no text, such as row {missing[0]}; leave them out")
    return owners.astype(np.int64)


def shared_labels(labels: ArrayLike | None, n_images: int) -> NDArray[np.bool_] | None:
    """(N, C) bool, from that or from one label a picture, or None.

    Raises:
        DataError: labels that do not fit, or a single one for all.
    """
    if labels is None:
        return None
    matrix = label_matrix(labels, n_images) > 0
    if matrix.shape[1] < 2:
        raise DataError("all labels are the same, and nothing can be learned from them; leave labels out")
    return matrix


def pairs_of(
    images: Floats,
    texts: Floats,
    owners: NDArray[np.int64],
    rows: NDArray[np.int64],
    where: torch.device,
    *,
    labels: NDArray[np.bool_] | None = None,
) -> PairFeatures:
    """The items at ascending ``rows`` with all of their texts."""
    place = np.full(len(images), -1)
    place[rows] = np.arange(len(rows))
    theirs = place[owners] >= 0
    return PairFeatures(
        VectorTable(torch.from_numpy(images[rows]).to(where)),
        VectorTable(torch.from_numpy(texts[theirs]).to(where)),
        torch.from_numpy(place[owners[theirs]]),
        labels=None if labels is None else torch.from_numpy(labels[rows]),
    )
