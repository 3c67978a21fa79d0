"""Relaxed codes whose signs are chosen together, so that they lose less when they are packed.

    coupling = learn_coupling(relaxed_images, relaxed_texts, weight=0.3, size=0.75, code_lengths=(64, 256))
    codes = pack(Rounding(coupling, size=0.75, code_lengths=(64, 256)).apply(relaxed))

The signs of a relaxed code are the code nearest to it; but what a search reads is a code's product with queries, and
bits are correlated: what one bit says wrongly another can make good. Here the code b of an item with relaxed code u is
one where no single bit can be turned to make

    (b - u)ᵀ C (b - u),   C = weight · E[c cᵀ] + (1 - weight) · I   over codes c = ±1 of training items

smaller. With C = E[c cᵀ] it is the error of an item's products with all codes, squared and summed; I keeps b near u
where few training items or few independent bits tell little. Needs numpy alone, so that exported models round as
their originals do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hashret.arrays import l2_normalised

Floats = NDArray[np.float32]

_TURNS = 1e-4  # least gain for which a bit is turned: above what float32 sums are off by
_BLOCK = 128  # items whose gains stay in cache together
_FAINT = np.float32(0.01)  # what a relaxed bit is where it was turned: next to nothing, on the side of the bit


def relaxed_codes(
    logits: Floats, *, beta: float, rounding: Rounding | None = None, n_bits: int | None = None
) -> Floats:
    """Relaxed codes, whose signs are the bits.

    Args:
        logits: (N, n_bits) float32, whole.
        beta: steepness of the tanh.
        rounding: what chooses the bits; None: each is the sign of its logit.
        n_bits: only the first bits of each code; None: all.

    Returns:
        (N, n_bits) float32 in (-1, 1).
    """
    relaxed: Floats = np.tanh(np.float32(beta) * logits)
    return relaxed[:, :n_bits] if rounding is None else rounding.apply(relaxed, n_bits=n_bits)


def learn_coupling(
    images: Floats, texts: Floats, *, weight: float, size: float, code_lengths: tuple[int, ...]
) -> Floats:
    """The coupling of training items, or the identity where signs serve them better.

    What serves better is seen by how well products of pictures' codes with texts' codes follow those of their relaxed
    codes, over all pairs. Signs win where all bits hang on a few numbers, such as texts that are known by ten topics.

    Args:
        images: (N, n_bits) relaxed codes.
        texts: (M, n_bits) relaxed codes.
        weight: see ``coupling_of``.
        size: see ``Rounding``.
        code_lengths: see ``Rounding``.

    Returns:
        (n_bits, n_bits) float32.
    """
    coupling = coupling_of((images, texts), weight=weight)
    rounding = Rounding(coupling, size, code_lengths)
    floats = l2_normalised(images) @ l2_normalised(texts).T
    rounded = _agreement(rounding.apply(images), rounding.apply(texts), floats)
    return coupling if rounded > _agreement(images, texts, floats) else np.eye(len(coupling), dtype=np.float32)


def coupling_of(samples: Sequence[Floats], *, weight: float) -> Floats:
    """How much an error in one bit counts together with an error in another.

    Args:
        samples: (N, n_bits) relaxed codes of training items, of each modality.
        weight: of the codes' second moments, 0 to 1; the rest is the identity, with which bits are signs.

    Returns:
        (n_bits, n_bits) float32, symmetric, 1 on the diagonal.
    """
    signs = _signs(np.concatenate(samples))
    coupling = (signs.T @ signs) * np.float32(weight / len(signs))
    np.fill_diagonal(coupling, 1.0)
    return coupling


@dataclass(frozen=True)
class Rounding:
    """Chooses bits by coordinate descent from the signs, always turning the bit that gains most.

    Prefixes are chosen first and then left as they are, so that a prefix of a code is the code of that length.

    Args:
        coupling: (n_bits, n_bits) float32, C; its diagonal must be 1.
        size: root mean square of a relaxed code u before it is compared with ±1.
        code_lengths: prefixes that are codes of their own, ascending; the last is n_bits.

    *Source:* coordinate descent over bits: Shen et al., Supervised discrete hashing, CVPR 2015, sec. 3.2; the error of
    products with queries as what to quantise by: Guo et al., Accelerating large-scale inference with anisotropic
    vector quantization, ICML 2020.
    """

    coupling: Floats
    size: float
    code_lengths: tuple[int, ...]

    @cached_property
    def _uncoupled(self) -> bool:
        # its diagonal alone, with which no bit is turned
        return bool(np.count_nonzero(self.coupling) == len(self.coupling))

    @cached_property
    def _doubled(self) -> NDArray[np.float64]:
        # products of many items round otherwise than those of one, and what turns first decides what turns next: in
        # float64 they differ too little for an item's company to show in its bits
        return self.coupling.astype(np.float64)

    def apply(self, relaxed: Floats, *, n_bits: int | None = None) -> Floats:
        """Relaxed codes whose signs are the chosen bits, each item by itself.

        Args:
            relaxed: (N, n_bits) float32, whole relaxed codes.
            n_bits: only the first bits of each code; None: all.

        Returns:
            (N, n_bits) float32: ``relaxed``, but 0.01 or -0.01 where a bit was turned.
        """
        wanted = self.code_lengths[-1] if n_bits is None else n_bits
        rounded = relaxed[:, :wanted].copy()
        if self._uncoupled:
            return rounded
        for begin in range(0, len(relaxed), _BLOCK):
            signs = self._chosen(relaxed[begin : begin + _BLOCK], wanted)
            block = rounded[begin : begin + _BLOCK]
            np.copyto(block, signs * _FAINT, where=(block > 0) != (signs > 0))
        return rounded

    def _chosen(self, relaxed: Floats, wanted: int) -> Floats:
        """±1 for each bit that is wanted."""
        signs = _signs(relaxed)
        start = 0
        for end in self.code_lengths:
            part = relaxed[:, :end]
            target = l2_normalised(part) * np.float32(self.size * end**0.5)
            free = slice(start, end)
            pull = (signs[:, :end] - target).astype(np.float64) @ self._doubled[:end, free]
            signs[:, free] = _turned(signs[:, free], pull.astype(np.float32), self.coupling[free, free])
            if end >= wanted:
                break
            start = end
        return signs[:, :wanted]


def _agreement(images: Floats, texts: Floats, floats: Floats) -> float:
    """Pearson's correlation of the products of all codes with ``floats``; NaN where either never changes."""
    products = _signs(images) @ _signs(texts).T
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.corrcoef(products.ravel(), floats.ravel())[0, 1])


def _signs(relaxed: Floats) -> Floats:
    return np.where(relaxed > 0, np.float32(1), np.float32(-1))


def _turned(signs: Floats, pull: Floats, coupling: Floats) -> Floats:
    """``signs`` with bits turned until none gains.

    Args:
        signs: (N, W) ±1.
        pull: (N, W), half of the error's slope by each bit.
        coupling: (W, W), with 1 on the diagonal.
    """
    result, signs = signs.copy(), signs.copy()
    rows = np.arange(len(signs))  # of ``result`` that ``signs`` and ``gains`` still hold
    gains = signs * pull - 1  # a quarter of what the error loses when the bit is turned
    for _ in range(signs.shape[1]):
        best = gains.argmax(axis=1)
        gain = gains[np.arange(len(best)), best]
        turn = gain > _TURNS
        if not turn.all():
            result[rows] = signs
            if not turn.any():
                return result
            rows, signs, gains, best, gain = rows[turn], signs[turn], gains[turn], best[turn], gain[turn]
        here = np.arange(len(best))
        before = signs[here, best]
        gains -= (2 * before)[:, None] * coupling[best] * signs
        gains[here, best] = -gain
        signs[here, best] = -before
    result[rows] = signs
    return result
