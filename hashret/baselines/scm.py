"""Semantic correlation maximisation: linear codes whose inner products reproduce the similarity of labels."""

from __future__ import annotations

import numpy as np

from hashret.arrays import l2_normalised
from hashret.baselines.base import Affine, Baseline, Floats
from hashret.baselines.spaces import _inverse_root
from hashret.errors import InputError


class _SCM(Baseline):
    """Common part of both ways to solve ``min ‖sign(X W_x) sign(Y W_y)ᵀ - K S‖²``.

    S is the cosine of label vectors, stretched to [-1, 1]: with rows of labels of length 1, ``S = 2 L̃ L̃ᵀ - 1 1ᵀ``, so
    that ``Xᵀ S Y = 2 (Xᵀ L̃)(Yᵀ L̃)ᵀ - (Xᵀ 1)(Yᵀ 1)ᵀ`` never needs the (n, n) matrix.

    *Source:* Zhang and Li, "Large-scale supervised multimodal hashing with semantic correlation maximization",
    AAAI 2014.
    """

    needs_labels = uses_labels = True

    def __init__(self, *, n_bits: int, seed: int = 0, ridge: float = 1e-3) -> None:
        super().__init__(n_bits=n_bits, seed=seed)
        self.ridge = ridge

    def _whitened(self, images: Floats, texts: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Centred whitened features, and the whitening of each."""
        x, y = images - images.mean(axis=0), texts - texts.mean(axis=0)
        left, right = (_inverse_root(z.T @ z / len(z), self.ridge) for z in (x, y))
        return x @ left, y @ right, left, right

    def _maps(self, images: Floats, texts: Floats, left: Floats, right: Floats) -> tuple[Affine, Affine]:
        zero = np.zeros(self.n_bits)
        return Affine(images.mean(axis=0), left, zero), Affine(texts.mean(axis=0), right, zero)


class SCMOrth(_SCM):
    """Orthogonal projections, in closed form: the leading singular pairs of the whitened ``Xᵀ S Y``.

    Labels of C kinds span at most C directions; the bits beyond are of directions that say nothing, as in the paper.

    Raises:
        InputError: more bits than the narrower modality has coordinates.
    """

    def _learn(self, images: Floats, texts: Floats, labels: Floats | None) -> tuple[Affine, Affine]:
        x, y, left, right = self._whitened(images, texts)
        u, values, vt = np.linalg.svd(_similar(x, y, labels), full_matrices=False)
        if len(values) < self.n_bits:
            raise InputError(
                f"SCMOrth gives at most {len(values)} bits from features of {images.shape[1]} and {texts.shape[1]}, "
                f"not {self.n_bits}; SCMSeq gives any number"
            )
        return self._maps(images, texts, left @ u[:, : self.n_bits], right @ vt[: self.n_bits].T)


class SCMSeq(_SCM):
    """Bit by bit: each pair of projections fits what the earlier bits left of S.

    ``R_t = K S - Σ_{k<t} sign(X w_k) sign(Y v_k)ᵀ``; (w_t, v_t) is the leading singular pair of the whitened
    ``Xᵀ R_t Y``, which one rank-one term updates. Any number of bits.
    """

    def _learn(self, images: Floats, texts: Floats, labels: Floats | None) -> tuple[Affine, Affine]:
        x, y, left, right = self._whitened(images, texts)
        residual = self.n_bits * _similar(x, y, labels)
        columns = []
        for _ in range(self.n_bits):
            u, _, vt = np.linalg.svd(residual, full_matrices=False)
            first, second = u[:, 0], vt[0]
            columns.append((left @ first, right @ second))
            residual = residual - np.outer(x.T @ _signs(x @ first), y.T @ _signs(y @ second))
        return self._maps(images, texts, *(np.stack(side, axis=1) for side in zip(*columns)))


def _similar(x: Floats, y: Floats, labels: Floats | None) -> Floats:
    """``Xᵀ S Y`` for features (n, ·)."""
    matrix = np.asarray(labels)
    unit = l2_normalised(matrix)
    similar: Floats = 2.0 * (x.T @ unit) @ (y.T @ unit).T - np.outer(x.sum(axis=0), y.sum(axis=0))
    return similar


def _signs(values: Floats) -> Floats:
    return np.where(values > 0, 1.0, -1.0)
