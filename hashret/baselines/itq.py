"""Iterative quantisation: the rotation of a common space whose signs lose least."""

from __future__ import annotations

import numpy as np

from hashret.baselines.base import Affine, Floats
from hashret.baselines.simple import _InSpace
from hashret.baselines.spaces import Projection

ROTATION_ROWS = 10_000  # items that the rotation is fitted on; more change it little and cost time


class ITQ(_InSpace):
    """PCA of both modalities together, then ITQ: ``min ‖B - V R‖²``, ``B = sign(V R)``, R orthogonal.

    Given B, ``BᵀV = S Ω Ŝᵀ`` gives ``R = Ŝ Sᵀ``; given R, B are the signs; 50 rounds from a random rotation. Where
    more bits are asked for than there are coordinates d, R is a (d, n_bits) frame with orthonormal rows: the same
    problem, and the same solution.

    Args:
        n_bits: length of the codes.
        seed: of the first rotation, and of the training rows it is fitted on.
        space: "given" or "cca".
        rounds: of alternation.

    *Source:* Gong and Lazebnik, "Iterative quantization: a Procrustean approach to learning binary codes", CVPR 2011.
    """

    def __init__(self, *, n_bits: int, seed: int = 0, space: str | None = None, rounds: int = 50) -> None:
        super().__init__(n_bits=n_bits, seed=seed, space=space)
        self.rounds = rounds

    def _learn(self, images: Floats, texts: Floats, labels: Floats | None) -> tuple[Affine, Affine]:
        sides = self._spaces(images, texts, self.n_bits if self.space == "cca" else None)
        if self.space == "given":
            together = np.concatenate([sides[0](images), sides[1](texts)])
            _, vectors = np.linalg.eigh(together.T @ together)
            principal = vectors[:, ::-1][:, : self.n_bits]
            sides = tuple(Projection(side.mean, side.weights @ principal) for side in sides)  # type: ignore[assignment]
        rng = np.random.default_rng(self.seed)
        rows = rng.permutation(len(images))[: ROTATION_ROWS // 2]
        coordinates = np.concatenate([sides[0](images[rows]), sides[1](texts[rows])])
        rotation = rotate(coordinates, n_bits=self.n_bits, rng=rng, rounds=self.rounds)
        return tuple(  # type: ignore[return-value]
            Affine(side.mean, side.weights @ rotation, np.zeros(self.n_bits)) for side in sides
        )


class CCAITQ(ITQ):
    """ITQ in the space of canonical correlations, one rotation for both modalities.

    *Source:* Gong, Lazebnik, Gordo and Perronnin, "Iterative quantization", TPAMI 2013, section 4.
    """

    space = "cca"


def rotate(coordinates: Floats, *, n_bits: int, rng: np.random.Generator, rounds: int = 50) -> Floats:
    """The ITQ rotation (d, n_bits) of (n, d) coordinates, d <= n_bits."""
    width = coordinates.shape[1]
    rotation: Floats = np.linalg.qr(rng.standard_normal((n_bits, n_bits)))[0][:width]
    for _ in range(rounds):
        signs = np.where(coordinates @ rotation > 0, 1.0, -1.0)
        u, _, vt = np.linalg.svd(coordinates.T @ signs, full_matrices=False)
        rotation = u @ vt
    return rotation
