"""Ranking losses on triplets: all negatives, semi-hard ones, or the hardest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from hashret.errors import ConfigError
from hashret.losses.base import BatchOutputs, PrefixLoss, PrefixOptions, Space, similarity

Negatives = Literal["sum", "mean", "semi", "hardest"]
Softening = Literal["exponential", "linear"]


def margins(target: Tensor | None, *, margin: float, softening: Softening, like: Tensor) -> Tensor:
    """(B,) the margin of each pair: the whole one where it surely matches, 0 where it does not.

    Exponential: α·(10^y - 1)/9; linear: α·y.

    *Source:* Huang et al. (NCR), NeurIPS 2021, eq. 9 with m = 10.
    """
    if target is None:
        return like.new_full((len(like),), margin)
    return margin * ((10**target - 1) / 9 if softening == "exponential" else target)


def hinge(cosines: Tensor, *, margin: Tensor, excluded: Tensor | None, negatives: Negatives) -> Tensor:
    """(B,) the hinge of each row against its negatives, [α_i - s_ii + s_ij]₊.

    ``sum`` and ``mean`` run over all negatives, ``hardest`` takes the most similar one, ``semi`` the most similar one
    that is less similar than the positive (the least similar one where there is none).

    Args:
        cosines: (B, B), positives on the diagonal.
        margin: (B,) α_i.
        excluded: (B, B) bool, true where a column is neither positive nor negative; None: nowhere.
    """
    negative = ~torch.eye(len(cosines), dtype=torch.bool, device=cosines.device)
    if excluded is not None:
        negative &= ~excluded
    positive = cosines.diagonal()[:, None]
    cost = (margin[:, None] - positive + cosines).clamp_min(0) * negative
    if negatives == "sum":
        return cost.sum(dim=1)
    if negatives == "mean":
        return cost.sum(dim=1) / negative.sum(dim=1).clamp_min(1)
    if negatives == "hardest":
        return cost.max(dim=1).values
    semi = negative & (cosines < positive)
    hard = cosines.masked_fill(~semi, float("-inf")).argmax(dim=1, keepdim=True)
    easy = cosines.masked_fill(~negative, float("inf")).argmin(dim=1, keepdim=True)
    chosen = torch.where(semi.any(dim=1, keepdim=True), hard, easy)
    return cost.gather(1, chosen).squeeze(1)


def symmetric_hinge(
    cosines: Tensor, outputs: BatchOutputs, *, margin: float, negatives: Negatives, softening: Softening
) -> Tensor:
    """The mean over i of the hinges of row i and of column i of (B, B) cosines."""
    each = margins(outputs.target, margin=margin, softening=softening, like=cosines)
    rows = [
        hinge(matrix, margin=each, excluded=outputs.excluded, negatives=negatives) for matrix in (cosines, cosines.T)
    ]
    return (rows[0] + rows[1]).mean()


@dataclass(frozen=True)
class TripletOptions(PrefixOptions):
    """Options of ``triplet``.

    Args:
        between: the space of the image side and that of the text side.
        margin: α, in cosine.
        negatives: which negatives count.
        softening: how a pair's target in [0, 1] shrinks its margin.
    """

    between: tuple[Space, Space] = ("relaxed", "relaxed")
    margin: float = 0.2
    negatives: Negatives = "hardest"
    softening: Softening = "exponential"

    def __post_init__(self) -> None:
        if not self.margin > 0:
            raise ConfigError(f"a margin must be above 0, and not {self.margin}")


class Triplet(PrefixLoss):
    """Bidirectional hinge ranking loss, at every prefix.

    L = 1/B Σ_i ( R_j [α_i - s_ii + s_ij]₊ + R_j [α_i - s_ii + s_ji]₊ ), R the sum or mean over j ≠ i, the hardest,
    or the semi-hard negative. Start a run with ``sum`` or ``mean``: the hardest negatives collapse an untrained head.

    *Source:* Faghri et al. (VSE++), BMVC 2018, eq. 4 (sum) and 6 (hardest), divided by B; semi-hard: Schroff et al.
    (FaceNet), CVPR 2015, sec. 3.2; margins by pair: NCR (``margins``).
    """

    Options: ClassVar[type] = TripletOptions
    options: TripletOptions
    reads_target = True

    def at(self, outputs: BatchOutputs, n_bits: int) -> Tensor:
        options = self.options
        cosines = similarity(outputs, options.between, n_bits)
        return symmetric_hinge(
            cosines, outputs, margin=options.margin, negatives=options.negatives, softening=options.softening
        )
