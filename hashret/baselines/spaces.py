"""The space in which pictures and texts are compared before they are binarised: the given one, or that of CCA.

Methods that were made for one kind of features (LSH, signs, ITQ, RaBitQ) need a common space. ``given`` takes the two
features as vectors of one space already, as CLIP's are, up to a shift; ``cca`` finds one.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from hashret.baselines.base import Floats
from hashret.errors import InputError
from hashret.registry import nearest

Space = Literal["given", "cca"]


class Projection(NamedTuple):
    """Of one modality: (D,) mean and (D, d) weights into the common space."""

    mean: Floats
    weights: Floats

    def __call__(self, features: Floats) -> Floats:
        """(N, d) coordinates."""
        return (features - self.mean) @ self.weights


def common_space(
    images: Floats, texts: Floats, space: str, *, width: int | None = None, ridge: float = 1e-3, power: float = 1.0
) -> tuple[Projection, Projection]:
    """Projections of both modalities.

    Args:
        images: (n, D_image).
        texts: (n, D_text).
        space: "given" or "cca".
        width: coordinates to keep at most; all without.
        ridge: of CCA.
        power: of CCA.

    Raises:
        InputError: features of different widths in the given space, or another space.
    """
    if space == "cca":
        return cca(images, texts, width=width, ridge=ridge, power=power)
    if space != "given":
        raise InputError(f"there is no space {space!r}{nearest(space, ('given', 'cca'))}")
    if images.shape[1] != texts.shape[1]:
        raise InputError(
            f"image features are {images.shape[1]} wide and text features {texts.shape[1]}, so they do not live in one "
            "space; use the method's form with CCA"
        )
    identity = np.eye(images.shape[1])[:, :width]
    return Projection(images.mean(axis=0), identity), Projection(texts.mean(axis=0), identity)


def cca(
    images: Floats, texts: Floats, *, width: int | None = None, ridge: float = 1e-3, power: float = 1.0
) -> tuple[Projection, Projection]:
    """Canonical correlation analysis: ``T = C_xx^-½ C_xy C_yy^-½ = U Σ Vᵀ``, ``W_x = C_xx^-½ U Σ^p``.

    Args:
        images: (n, D_image).
        texts: (n, D_text).
        width: pairs of directions to keep; at most the smaller width.
        ridge: added to the covariances, as a share of their mean variance.
        power: p; directions count by their correlation to this power. 0 gives plain whitened coordinates.

    *Source:* Hotelling, "Relations between two sets of variates", Biometrika 1936; the scaling by correlations is that
    of Gong, Ke, Isard and Lazebnik, IJCV 2014 (arXiv 1212.4522), section 3.2.
    """
    x, y = images - images.mean(axis=0), texts - texts.mean(axis=0)
    left, right = _inverse_root(x.T @ x / len(x), ridge), _inverse_root(y.T @ y / len(y), ridge)
    u, correlations, vt = np.linalg.svd(left @ (x.T @ y / len(x)) @ right, full_matrices=False)
    keep = min(width or len(correlations), int((correlations > 1e-8).sum()) or 1)
    scale = correlations[:keep] ** power
    return (
        Projection(images.mean(axis=0), left @ u[:, :keep] * scale),
        Projection(texts.mean(axis=0), right @ vt[:keep].T * scale),
    )


def squared_distances(a: Floats, b: Floats) -> Floats:
    """(A, B) squared Euclidean distances of rows."""
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :] - 2 * a @ b.T
    distances: Floats = np.maximum(squares, 0.0)
    return distances


def _inverse_root(covariance: Floats, ridge: float) -> Floats:
    """``(C + ρ I)^-½``; ρ relative to the mean variance, so that the scale of features does not matter."""
    variance = float(np.trace(covariance)) / len(covariance)
    values, vectors = np.linalg.eigh(covariance + (ridge * variance + 1e-12) * np.eye(len(covariance)))
    root: Floats = (vectors / np.sqrt(np.maximum(values, 1e-300))) @ vectors.T
    return root
