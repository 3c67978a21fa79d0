"""Cross-modality similarity-sensitive hashing: bits as weak classifiers of pairs, boosted one after the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hashret.baselines.base import Affine, Baseline, Floats


class CMSSH(Baseline):
    """Each bit agrees on similar pairs and differs on others, as well as the pairs' weights w_k ask for.

    Pairs (x_k, y_k, s_k = ±1) are drawn from the training items: with labels, similar = a shared label; without,
    similar = the pair itself. For every bit, ``C = Σ_k w_k s_k x_k y_kᵀ`` gives the projections p, q as its leading
    singular pair; the thresholds a, b are searched by turns, exactly, for the largest
    ``r = Σ_k w_k s_k sign(pᵀx_k + a) sign(qᵀy_k + b)``; then ``w_k ← w_k exp(-α s_k f_k g_k)``, α = ½ log((1+r)/(1-r)),
    so that the next bit attends to the pairs that this one gets wrong.

    Args:
        n_bits: length of the codes.
        seed: of the pairs.
        pairs: similar ones drawn, and as many others.

    *Source:* Bronstein, Bronstein, Michel and Paragios, "Data fusion through cross-modality metric learning using
    similarity-sensitive hashing", CVPR 2010.
    """

    uses_labels = True

    def __init__(self, *, n_bits: int, seed: int = 0, pairs: int = 10_000) -> None:
        super().__init__(n_bits=n_bits, seed=seed)
        self.pairs = pairs

    def _learn(self, images: Floats, texts: Floats, labels: Floats | None) -> tuple[Affine, Affine]:
        means = images.mean(axis=0), texts.mean(axis=0)
        left, right, similar = self._draw(len(images), labels)
        x, y = images - means[0], texts - means[1]
        scales = [1.0 / max(float(np.sqrt((z**2).sum(axis=1).mean())), 1e-12) for z in (x, y)]
        x, y = x[left] * scales[0], y[right] * scales[1]
        weights = np.full(len(similar), 1.0 / len(similar))
        columns = []
        for _ in range(self.n_bits):
            u, _, vt = np.linalg.svd((x * (weights * similar)[:, None]).T @ y, full_matrices=False)
            first, second = x @ u[:, 0], y @ vt[0]
            offsets = [0.0, 0.0]
            for _ in range(2):
                offsets[0] = _threshold(first, weights * similar * _signs(second + offsets[1]))
                offsets[1] = _threshold(second, weights * similar * _signs(first + offsets[0]))
            agreement = similar * _signs(first + offsets[0]) * _signs(second + offsets[1])
            correlation = float(np.clip((weights * agreement).sum(), -0.999, 0.999))
            weights = weights * np.exp(-0.5 * np.log((1 + correlation) / (1 - correlation)) * agreement)
            weights /= weights.sum()
            columns.append((u[:, 0] * scales[0], vt[0] * scales[1], *offsets))
        p, q, a, b = (np.array(part) for part in zip(*columns))
        return Affine(means[0], p.T, a), Affine(means[1], q.T, b)

    def _draw(self, n: int, labels: Floats | None) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
        """Rows of pictures and texts, and whether they are similar (1 or -1), half of each kind."""
        rng = np.random.default_rng(self.seed)
        other = rng.integers(0, n, (2, 2 * self.pairs))
        if labels is None:
            same = np.tile(rng.integers(0, n, self.pairs), (2, 1))
            apart = other[0] != other[1]
        else:
            # A random label of a random item, and a random item that has it too.
            label, item = np.nonzero(labels.T)
            size = np.bincount(label, minlength=labels.shape[1])
            first = rng.integers(0, len(item), self.pairs)
            shared = label[first]
            place = (rng.random(self.pairs) * size[shared]).astype(np.int64)
            same = np.stack([item[first], item[(np.cumsum(size) - size)[shared] + place]])
            apart = np.array([not labels[a] @ labels[b] for a, b in other.T])
        different = other[:, apart][:, : self.pairs]
        left, right = np.concatenate([same, different], axis=1)
        return left, right, np.repeat([1.0, -1.0], [same.shape[1], different.shape[1]])


def _threshold(projected: Floats, gains: Floats) -> float:
    """The offset a with the largest ``Σ_k gains_k sign(projected_k + a)``, between two neighbouring values."""
    order = np.argsort(projected)
    values = projected[order]
    # Above the cut the sign is +1: the sum over all minus twice what lies below.
    sums = gains.sum() - 2 * np.concatenate([[0.0], np.cumsum(gains[order])])
    edges = np.concatenate([[values[0] - 1e-9], (values[:-1] + values[1:]) / 2, [values[-1] + 1e-9]])
    inner = sums.copy()
    inner[1:-1][values[:-1] == values[1:]] = -np.inf  # no cut between equal values
    return -float(edges[int(np.argmax(inner))])


def _signs(values: Floats) -> Floats:
    return np.where(values > 0, 1.0, -1.0)
