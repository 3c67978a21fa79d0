"""Semantics-preserving hashing: codes from a match of two distributions over pairs, then a kernel classifier a bit."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hashret._lazy import require
from hashret.arrays import l2_normalised
from hashret.baselines.base import ROWS, Baseline, Floats
from hashret.baselines.spaces import squared_distances


class Kernel(NamedTuple):
    """``Σ_a weights_a exp(-rate ‖x - anchor_a‖²) + offset``: (m, D), a number, (m, n_bits) and (n_bits,)."""

    anchors: Floats
    rate: float
    weights: Floats
    offset: Floats

    @property
    def width(self) -> int:
        """Of the features."""
        return len(self.anchors[0])

    def basis(self, features: NDArray[Any]) -> Floats:
        """(N, m), how near each item is to each anchor."""
        near: Floats = np.exp(-self.rate * squared_distances(np.asarray(features, dtype=np.float64), self.anchors))
        return near

    def __call__(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """(N, n_bits) float32."""
        relaxed = np.empty((len(features), self.weights.shape[1]), dtype=np.float32)
        for start in range(0, len(features), ROWS):
            rows = slice(start, start + ROWS)
            relaxed[rows] = self.basis(features[rows]) @ self.weights + self.offset
        return relaxed


class SePH(Baseline):
    """``min KL(P ‖ Q) + α mean (|H| - 1)²``, then for each bit and modality a logistic regression on kernels.

    P_ij is the cosine of the labels of i and j over the sum of all; ``Q_ij ∝ (1 + ¼ ‖h_i - h_j‖²)⁻¹`` of relaxed
    codes H (n, n_bits), ¼ ‖·‖² being the Hamming distance of signs. Solved by L-BFGS from small random numbers. The
    signs of H are then learned from Gaussian kernels around ``anchors`` training items, by Newton's steps with the
    bound ``¼ ΦᵀΦ`` in the place of the Hessian, one factorisation for all bits.

    KL costs O(n²) a step, so ``rows`` pairs at most are learned from, drawn at random. The paper searches items by
    codes that know both of their modalities; here each item is encoded from the one it has.

    Args:
        n_bits: length of the codes.
        seed: of the rows, the first H and the anchors.
        rows: pairs learned from at most.
        anchors: of the kernels at most.
        alpha: α.
        ridge: of the logistic regressions.
        rounds: of L-BFGS at most.
        steps: of the logistic regressions.

    *Source:* Lin, Ding, Hu and Wang, "Semantics-preserving hashing for cross-view retrieval", CVPR 2015; the bound:
    Böhning, "Multinomial logistic regression algorithm", 1992.
    """

    needs_labels = uses_labels = True

    def __init__(
        self,
        *,
        n_bits: int,
        seed: int = 0,
        rows: int = 2500,
        anchors: int = 500,
        alpha: float = 0.01,
        ridge: float = 0.1,
        rounds: int = 50,
        steps: int = 50,
    ) -> None:
        super().__init__(n_bits=n_bits, seed=seed)
        self.rows, self.anchors, self.alpha, self.ridge = rows, anchors, alpha, ridge
        self.rounds, self.steps = rounds, steps

    def _learn(self, images: Floats, texts: Floats, labels: Floats | None) -> tuple[Kernel, Kernel]:
        rng = np.random.default_rng(self.seed)
        chosen = np.sort(rng.permutation(len(images))[: self.rows])
        codes = self._codes(np.asarray(labels)[chosen], rng)
        anchors = rng.permutation(len(chosen))[: self.anchors]
        first, second = (self._regression(side[chosen], side[chosen][anchors], codes) for side in (images, texts))
        return first, second

    def _codes(self, labels: Floats, rng: np.random.Generator) -> Floats:
        """(n, n_bits) of zeros and ones."""
        unit = l2_normalised(labels)
        wanted = unit @ unit.T
        np.fill_diagonal(wanted, 0.0)
        wanted /= max(float(wanted.sum()), 1e-12)
        start = 0.1 * rng.standard_normal((len(labels), self.n_bits))
        found = require("scipy.optimize", extra="learn").minimize(
            lambda flat: objective(flat.reshape(start.shape), wanted, alpha=self.alpha),
            start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": self.rounds},
        )  # fmt: skip
        codes: Floats = (found.x.reshape(start.shape) > 0).astype(np.float64)
        return codes

    def _regression(self, features: Floats, anchors: Floats, codes: Floats) -> Kernel:
        mean = float(squared_distances(features, anchors).mean())
        empty = Kernel(anchors, 0.5 / max(mean, 1e-12), np.zeros((len(anchors), 1)), np.zeros(1))
        basis = np.concatenate([empty.basis(features), np.ones((len(features), 1))], axis=1)
        penalty = self.ridge * np.eye(basis.shape[1])
        inverse = np.linalg.inv(0.25 * basis.T @ basis + penalty)
        weights = np.zeros((basis.shape[1], self.n_bits))
        for _ in range(self.steps):
            weights += inverse @ (basis.T @ (codes - _logistic(basis @ weights)) - self.ridge * weights)
        return empty._replace(weights=weights[:-1], offset=weights[-1])


def objective(relaxed: Floats, wanted: Floats, *, alpha: float) -> tuple[float, Floats]:
    """The loss of relaxed codes (n, n_bits) under affinities (n, n), up to a constant, and its gradient, flat."""
    near = 1.0 / (1.0 + 0.25 * squared_distances(relaxed, relaxed))
    np.fill_diagonal(near, 0.0)
    total = float(near.sum())
    positive = near > 0
    loss = -float((wanted[positive] * np.log(near[positive])).sum()) + np.log(total)
    pull = (wanted - near / total) * near
    gradient = pull.sum(axis=1, keepdims=True) * relaxed - pull @ relaxed
    gap = np.abs(relaxed) - 1.0
    loss += alpha * float((gap**2).mean())
    gradient += alpha * 2 * gap * np.sign(relaxed) / relaxed.size
    return loss, gradient.ravel()


def _logistic(values: Floats) -> Floats:
    return 0.5 * (1.0 + np.tanh(0.5 * values))
