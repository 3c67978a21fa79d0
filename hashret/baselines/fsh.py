"""Fusion similarity hashing: codes that reproduce one graph of both modalities, seen through a few anchors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hashret.baselines.base import Affine, Baseline, Floats
from hashret.baselines.spaces import squared_distances


class FSH(Baseline):
    """``min ‖K S - B Aᵀ‖² + μ Σ_t ‖B - X_t W_t‖²``, B (n, K) and A (m, K) of signs, code ``sign(x W_t)``.

    S (n, m) is the similarity of every pair to m anchor pairs. In each modality ``Z`` (n, m) holds a Gaussian weight
    of each item's nearest anchors, rows summing to 1, and ``Z Λ⁻¹ Z_aᵀ`` is the similarity of an item to an anchor by
    way of the anchors that both are near to, Λ the columns' sums and Z_a the anchors' own rows. S is the mean of both
    modalities, its rows and columns centred so that bits are balanced, and cut to [-1, 1]. Each bit of B and A is
    solved exactly, one after the other, given all others; W_t is a ridge regression.

    The paper's own rule of fusion is not known here; the mean of the two graphs stands in for it. At most ``rows``
    pairs are learned from, drawn at random.

    Args:
        n_bits: length of the codes.
        seed: of the rows, the anchors and the first signs.
        rows: pairs learned from at most.
        anchors: m at most.
        nearest: anchors of an item.
        coupling: μ, for each bit as a share of m.
        ridge: of the regressions, as a share of the features' mean square.
        rounds: of alternation.

    *Source:* Liu, Ji, Wu, Huang and Zhang, "Cross-modality binary code learning via fusion similarity hashing", CVPR
    2017; anchor graphs: Liu, Wang, Kumar and Chang, "Hashing with graphs", ICML 2011, section 3.
    """

    def __init__(
        self,
        *,
        n_bits: int,
        seed: int = 0,
        rows: int = 4000,
        anchors: int = 300,
        nearest: int = 20,
        coupling: float = 0.1,
        ridge: float = 0.1,
        rounds: int = 3,
    ) -> None:
        super().__init__(n_bits=n_bits, seed=seed)
        self.rows, self.anchors, self.nearest = rows, anchors, nearest
        self.coupling, self.ridge, self.rounds = coupling, ridge, rounds

    def _learn(self, images: Floats, texts: Floats, labels: Floats | None) -> tuple[Affine, Affine]:
        rng = np.random.default_rng(self.seed)
        chosen = np.sort(rng.permutation(len(images))[: self.rows])
        anchors = rng.permutation(len(chosen))[: self.anchors]
        sides = [side[chosen] for side in (images, texts)]
        similar = fused([anchor_similarity(side, anchors, nearest=self.nearest) for side in sides])
        means = [side.mean(axis=0) for side in sides]
        centred = [side - mean for side, mean in zip(sides, means)]
        solvers = [_ridge(side, self.ridge) for side in centred]
        codes, other = self._start(similar, rng)
        residual = self.n_bits * similar - codes @ other.T
        pull = self.coupling * len(anchors)
        for _ in range(self.rounds):
            linear = sum(side @ (solver @ codes) for side, solver in zip(centred, solvers))
            for k in range(self.n_bits):
                residual += np.outer(codes[:, k], other[:, k])
                codes[:, k] = _signs(residual @ other[:, k] + pull * linear[:, k])
                other[:, k] = _signs(residual.T @ codes[:, k])
                residual -= np.outer(codes[:, k], other[:, k])
        zero = np.zeros(self.n_bits)
        first, second = (Affine(mean, solver @ codes, zero) for mean, solver in zip(means, solvers))
        return first, second

    def _start(self, similar: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Signs of the leading singular vectors, and random ones where there are not enough."""
        u, _, vt = np.linalg.svd(similar, full_matrices=False)
        known = min(self.n_bits, u.shape[1])
        parts = []
        for vectors in (u[:, :known], vt[:known].T):
            more = rng.standard_normal((len(vectors), self.n_bits - known))
            parts.append(_signs(np.concatenate([vectors, more], axis=1)))
        return parts[0], parts[1]


def anchor_similarity(features: Floats, anchors: NDArray[np.int64], *, nearest: int) -> Floats:
    """(n, m) similarity of items to the anchors, rows of ``features``, by way of the anchors that both are near to."""
    squares = squared_distances(features, features[anchors])
    count = min(nearest, len(anchors))
    reach = np.partition(squares, count - 1, axis=1)[:, count - 1 : count]
    near = np.where(squares <= reach, np.exp(-squares / max(float(reach.mean()), 1e-12)), 0.0)
    near /= np.maximum(near.sum(axis=1, keepdims=True), 1e-12)
    similar: Floats = (near / np.maximum(near.sum(axis=0), 1e-12)) @ near[anchors].T
    return similar


def fused(similarities: list[Floats]) -> Floats:
    """Their mean, each of the same size, with centred rows and columns, in [-1, 1]."""
    mean = np.mean(np.stack([one / max(float(one.std()), 1e-12) for one in similarities]), axis=0, dtype=np.float64)
    mean = mean - mean.mean(axis=0) - mean.mean(axis=1, keepdims=True) + mean.mean()
    centred: Floats = np.clip(mean / max(float(np.quantile(np.abs(mean), 0.95)), 1e-12), -1.0, 1.0)
    return centred


def _ridge(features: Floats, ridge: float) -> Floats:
    """(D, n): times codes (n, K) it is the regression of codes on centred features."""
    gram = features.T @ features
    strength = ridge * float(np.trace(gram)) / len(gram) + 1e-12
    solver: Floats = np.asarray(np.linalg.solve(gram + strength * np.eye(len(gram)), features.T), dtype=np.float64)
    return solver


def _signs(values: Floats) -> Floats:
    return np.where(values > 0, 1.0, -1.0)
