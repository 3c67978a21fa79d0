"""RaBitQ at one bit a coordinate: rotated signs, and an unbiased estimate of the cosine from them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hashret.arrays import matrix_of
from hashret.baselines.base import Affine, Floats
from hashret.baselines.simple import _InSpace
from hashret.codes import Codes, pack, unpack
from hashret.errors import InputError


class Stored(NamedTuple):
    """What an index keeps of each item: ``n_bits / 8 + 8`` bytes.

    Attributes:
        codes: (N, n_bytes) uint8.
        norms: (N,) float32, ``‖o - c‖``.
        alignment: (N,) float32, ``⟨ō, o'⟩``, how well the code points along the item.
    """

    codes: Codes
    norms: NDArray[np.float32]
    alignment: NDArray[np.float32]


class RaBitQ(_InSpace):
    """``o' = (o - c) / ‖o - c‖``, randomly rotated to n_bits coordinates; ``ō = sign(o') / √n_bits``.

    The codes alone are searched by Hamming distance, as any other; with the two numbers of ``Stored`` a float query
    has the unbiased estimate ``⟨o', q⟩ ≈ ⟨ō, q⟩ / ⟨ō, o'⟩``, with an error of O(1/√n_bits).

    The rotation is orthogonal where n_bits is the width of the features, else a frame: fewer bits see a random
    subspace, more bits see each direction more than once. c is the mean of each modality.

    Args:
        n_bits: length of the codes.
        seed: of the rotation.
        space: "given" or "cca".

    *Source:* Gao and Long, "RaBitQ: quantizing high-dimensional vectors with a theoretical error bound for approximate
    nearest neighbor search", SIGMOD 2024.
    """

    def _learn(self, images: Floats, texts: Floats, labels: Floats | None) -> tuple[Affine, Affine]:
        sides = self._spaces(images, texts)
        width = sides[0].weights.shape[1]
        size = max(width, self.n_bits)
        square = np.linalg.qr(np.random.default_rng(self.seed).standard_normal((size, size)))[0]
        rotation = square[:width, : self.n_bits]
        return tuple(  # type: ignore[return-value]
            Affine(side.mean, side.weights @ rotation, np.zeros(self.n_bits)) for side in sides
        )

    def store_images(self, features: ArrayLike) -> Stored:
        """Codes and the two numbers of each picture, (N, D_image) features."""
        return self._store(self.relaxed_images(features))

    def store_texts(self, features: ArrayLike) -> Stored:
        """Codes and the two numbers of each text, (N, D_text) features."""
        return self._store(self.relaxed_texts(features))

    def estimate(self, queries: ArrayLike, stored: Stored) -> NDArray[np.float32]:
        """(Q, N) estimated cosines of relaxed queries with stored items.

        Args:
            queries: (Q, n_bits) float, from ``relaxed_texts`` or ``relaxed_images``.
            stored: of the other modality, or of the same.

        Raises:
            InputError: queries of another width.
        """
        values = matrix_of(queries, "queries", dtype=np.float64)
        if values.shape[1] != self.n_bits:
            raise InputError(f"queries have {values.shape[1]} coordinates, and the codes {self.n_bits} bits")
        unit = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
        signs = (unpack(stored.codes, n_bits=self.n_bits) * 2.0 - 1.0) / np.sqrt(self.n_bits)
        estimate: NDArray[np.float32] = (unit @ signs.T / np.maximum(stored.alignment, 1e-6)).astype(np.float32)
        return estimate

    def _store(self, rotated: NDArray[np.float32]) -> Stored:
        norms = np.linalg.norm(rotated, axis=1)
        alignment = np.abs(rotated).sum(axis=1) / np.maximum(norms, 1e-12) / np.sqrt(self.n_bits)
        return Stored(pack(rotated), norms, alignment.astype(np.float32))
