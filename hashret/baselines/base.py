"""What every baseline is: fitted on paired features, then a map (mostly an affine one) and a sign for each modality.

    features (N, D) ─► (x - mean) W + offset = relaxed (N, n_bits) ─► codes

Checks input and packs codes, so that a method is only its way of finding the two maps. Knows features, never raw
pictures or words. Features are taken as they are: scaling them to length 1 is the caller's choice, centring is done
here by every method that says so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hashret.arrays import labels_of, matrix_of
from hashret.codes import Codes, bytes_for, pack
from hashret.errors import DataError, InputError

Floats = NDArray[np.float64]

ROWS = 16_384  # encoded at a time, so that float64 copies stay small


class Map(Protocol):
    """From features of one modality to relaxed codes, item by item."""

    @property
    def width(self) -> int:
        """Of the features."""

    def __call__(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """(N, n_bits) float32 of features (N, width)."""


class Affine(NamedTuple):
    """``(x - mean) @ weights + offset``: (D,), (D, n_bits) and (n_bits,)."""

    mean: Floats
    weights: Floats
    offset: Floats

    @property
    def width(self) -> int:
        """Of the features."""
        return len(self.mean)

    def __call__(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """(N, n_bits) float32."""
        relaxed = np.empty((len(features), self.weights.shape[1]), dtype=np.float32)
        for start in range(0, len(features), ROWS):
            rows = slice(start, start + ROWS)
            relaxed[rows] = (features[rows] - self.mean) @ self.weights + self.offset
        return relaxed


class Baseline(ABC):
    """A method that learns codes from paired features.

    Args:
        n_bits: length of the codes.
        seed: of everything random.
    """

    needs_labels: ClassVar[bool] = False
    uses_labels: ClassVar[bool] = False

    def __init__(self, *, n_bits: int, seed: int = 0) -> None:
        bytes_for(n_bits)  # refuses what cannot be a length
        self.n_bits = n_bits
        self.seed = seed
        self.image_map_: Map | None = None
        self.text_map_: Map | None = None

    def fit(self, image_features: ArrayLike, text_features: ArrayLike, labels: ArrayLike | None = None) -> Self:
        """Learn from pairs.

        Args:
            image_features: (n, D_image) float.
            text_features: (n, D_text) float, row by row the partner of the picture.
            labels: (n,) one label a pair, or (n, C) of zeros and ones; only methods with ``uses_labels`` read them.

        Raises:
            DataError: features that are not finite matrices of equally many rows, or labels that do not fit.
            InputError: the method needs labels, or cannot give so many bits from these features.
        """
        images, texts = (
            matrix_of(features, what, dtype=np.float64, squared=True)
            for features, what in ((image_features, "image features"), (text_features, "text features"))
        )
        if len(images) != len(texts) or len(images) < 2:
            raise DataError(
                f"pairs need as many pictures as texts, at least two: {len(images):,} rows of image features and "
                f"{len(texts):,} of text features were given"
            )
        if self.needs_labels and labels is None:
            raise InputError(f"{type(self).__name__} learns from labels, and fit was given none")
        matrix = label_matrix(labels, len(images)) if self.uses_labels and labels is not None else None
        self.image_map_, self.text_map_ = self._learn(images, texts, matrix)
        return self

    @abstractmethod
    def _learn(self, images: Floats, texts: Floats, labels: Floats | None) -> tuple[Map, Map]:
        """The maps of both modalities."""

    def relaxed_images(self, features: ArrayLike) -> NDArray[np.float32]:
        """(N, n_bits) float32, what the codes of pictures are the signs of."""
        return self._relaxed(features, self.image_map_, "image")

    def relaxed_texts(self, features: ArrayLike) -> NDArray[np.float32]:
        """(N, n_bits) float32, what the codes of texts are the signs of."""
        return self._relaxed(features, self.text_map_, "text")

    def encode_images(self, features: ArrayLike) -> Codes:
        """(N, n_bytes) uint8 codes of (N, D_image) features.

        Raises:
            DataError: features of another width than in ``fit``, or not finite.
            InputError: ``fit`` was not called.
        """
        return pack(self.relaxed_images(features))

    def encode_texts(self, features: ArrayLike) -> Codes:
        """(N, n_bytes) uint8 codes of (N, D_text) features; raises as ``encode_images``."""
        return pack(self.relaxed_texts(features))

    def _relaxed(self, features: ArrayLike, fitted: Map | None, what: str) -> NDArray[np.float32]:
        if fitted is None:
            raise InputError(f"{type(self).__name__} has not learned yet: call fit(image_features, text_features)")
        values = matrix_of(features, f"{what} features", dtype=np.float64, squared=True)
        if values.shape[1] != fitted.width:
            raise DataError(f"{what} features are {values.shape[1]} wide, and fit was given {fitted.width}")
        return fitted(values)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(n_bits={self.n_bits}, seed={self.seed})"


def label_matrix(labels: ArrayLike, n: int) -> Floats:
    """(n, C) of zeros and ones, from that or from one label a pair.

    Raises:
        DataError: another number of rows, other values, or no label at all.
    """
    values = labels_of(labels)
    if len(values) != n:
        raise DataError(f"labels must have one row for each of the {n:,} pairs, and have the shape {values.shape}")
    if values.ndim == 1:
        names, column = np.unique(values, return_inverse=True)
        matrix = np.zeros((n, len(names)))
        matrix[np.arange(n), column] = 1.0
        return matrix
    if not values.any():
        raise DataError("no pair has a label; leave labels out, or look whether they were read as they should be")
    return values.astype(np.float64)
