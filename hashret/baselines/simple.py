"""Baselines that learn next to nothing: random codes, random projections, signs and medians.

What a learned method has to beat, and what most people use.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashret.baselines.base import Affine, Baseline, Floats, Map
from hashret.baselines.spaces import Projection, common_space
from hashret.errors import InputError


class RandomCodes(Baseline):
    """Codes that know nothing of their item; their figures are those of chance.

    Drawn from the seed and the modality, one after the other, whatever the features.
    """

    def _learn(self, images: Floats, texts: Floats, labels: Floats | None) -> tuple[Affine, Affine]:
        zero = np.zeros(self.n_bits)
        first, second = (
            Affine(np.zeros(d), np.zeros((d, self.n_bits)), zero) for d in (images.shape[1], texts.shape[1])
        )
        return first, second

    def _relaxed(self, features: Any, fitted: Map | None, what: str) -> NDArray[np.float32]:
        rows = len(super()._relaxed(features, fitted, what))
        rng = np.random.default_rng([self.seed, len(what)])
        return rng.standard_normal((rows, self.n_bits), dtype=np.float32)


class _InSpace(Baseline):
    """Common part of methods that binarise a common space.

    Args:
        n_bits: length of the codes.
        seed: of everything random.
        space: "given" (both features live in one space, up to a shift) or "cca".
    """

    space = "given"

    def __init__(self, *, n_bits: int, seed: int = 0, space: str | None = None) -> None:
        super().__init__(n_bits=n_bits, seed=seed)
        self.space = space or type(self).space

    def _spaces(self, images: Floats, texts: Floats, width: int | None = None) -> tuple[Projection, Projection]:
        return common_space(images, texts, self.space, width=width)


class LSH(_InSpace):
    """Signs of random projections of centred features: ``b = sign(R (x - mean))``, ``R_kd ~ N(0, 1)``.

    Two vectors at the angle θ agree in a bit with probability ``1 - θ/π``.

    *Source:* Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002.
    """

    def _learn(self, images: Floats, texts: Floats, labels: Floats | None) -> tuple[Affine, Affine]:
        left, right = self._spaces(images, texts)
        random = np.random.default_rng(self.seed).standard_normal((left.weights.shape[1], self.n_bits))
        return tuple(  # type: ignore[return-value]
            Affine(side.mean, side.weights @ random, np.zeros(self.n_bits)) for side in (left, right)
        )


class CCALSH(LSH):
    """Random projections of the space of canonical correlations; any number of bits."""

    space = "cca"


class Sign(_InSpace):
    """``b = sign(x - mean)`` per modality, the first ``n_bits`` coordinates.

    Centring each modality closes the gap between pictures and texts in the space of CLIP and its like, where raw
    signs differ systematically.

    Raises:
        InputError: more bits than coordinates.
    """

    def _learn(self, images: Floats, texts: Floats, labels: Floats | None) -> tuple[Affine, Affine]:
        sides = self._spaces(images, texts, self.n_bits)
        self._enough(sides[0])
        return tuple(  # type: ignore[return-value]
            Affine(side.mean, side.weights, self._offset(side(x))) for side, x in zip(sides, (images, texts))
        )

    def _enough(self, side: Projection) -> None:
        if side.weights.shape[1] < self.n_bits:
            raise InputError(
                f"{type(self).__name__} gives one bit a coordinate, and there are {side.weights.shape[1]}, not "
                f"{self.n_bits}; use fewer bits, or a method that rotates (ITQ, LSH)"
            )

    def _offset(self, coordinates: Floats) -> Floats:
        return np.zeros(self.n_bits)


class Median(Sign):
    """``b = x > median`` per modality and coordinate, so that every bit is balanced on the training items."""

    def _offset(self, coordinates: Floats) -> Floats:
        middle: Floats = -np.median(coordinates, axis=0)
        return middle


class CCASign(Sign):
    """Signs of canonical coordinates; without further affinities this is cross-view hashing (CVH).

    *Source:* Kumar and Udupa, "Learning hash functions for cross-view similarity search", IJCAI 2011.
    """

    space = "cca"


class Ubinary(Sign):
    """``b = x > 0`` of the features as they are, without centring; nothing is learned.

    Used with float queries that rescore the nearest codes (``hashret.index.rescore``).

    *Source:* the "ubinary" precision of sentence-transformers' quantize_embeddings.
    """

    def _learn(self, images: Floats, texts: Floats, labels: Floats | None) -> tuple[Affine, Affine]:
        maps = super()._learn(images, texts, labels)
        return tuple(one._replace(mean=np.zeros_like(one.mean)) for one in maps)  # type: ignore[return-value]
