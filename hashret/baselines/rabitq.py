"""RaBitQ at one bit a coordinate: signs after a random rotation, searched by Hamming distance."""

from __future__ import annotations

import numpy as np

from hashret.baselines.base import Affine, Floats
from hashret.baselines.simple import _InSpace


class RaBitQ(_InSpace):
    """``o' = (o - c) / ‖o - c‖``, randomly rotated to n_bits coordinates; ``ō = sign(o') / √n_bits``.

    The codes alone are searched by Hamming distance, as any other. The paper stores two more numbers of each item,
    ``‖o - c‖`` and ``⟨ō, o'⟩``, for an unbiased estimate of a float query's cosine; they are no part of a code.

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
