"""The likelihood of similar and dissimilar pairs, given their codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from hashret.errors import ConfigError
from hashret.losses.base import BatchOutputs, Dims, PrefixLoss, PrefixOptions, Space, given, similarity


@dataclass(frozen=True)
class PairLikelihoodOptions(PrefixOptions):
    """Options of ``pair_likelihood``.

    Args:
        similar: which pairs are: ``labels``: those that share a label or a group; ``pairs``: those of one group.
        between: the space of the image side and that of the text side.
        scale: θ at cosine 1; None: K/2, the paper's θ = ½ fᵀg, whose logistic is saturated almost everywhere in long
            codes (θ runs to ±512 at 1,024 bits; the default is the paper's at 32 bits).
        balance: whether similar and dissimilar pairs count half each, however many there are; else each pair counts
            the same.
    """

    similar: Literal["labels", "pairs"] = "labels"
    between: tuple[Space, Space] = ("relaxed", "relaxed")
    scale: float | None = 16.0
    balance: bool = True

    def __post_init__(self) -> None:
        if self.scale is not None and not self.scale > 0:
            raise ConfigError(f"a scale must be above 0, and not {self.scale}")


class PairLikelihood(PrefixLoss):
    """Negative log-likelihood of which of the B² pairs are similar, at every prefix.

    L = mean_ij [ S_ij·softplus(-θ_ij) + (1 - S_ij)·softplus(θ_ij) ] = mean_ij [ log(1 + e^θ_ij) - S_ij θ_ij ] without
    overflow, θ_ij = scale·cos(f_i, g_j). With ``balance`` L is half the mean of the first term over the similar pairs
    plus half that of the second over the others. The similar pairs of text j have S_ij = t_j, how far it is believed
    to match its image.

    *Source:* Jiang & Li (DCMH), CVPR 2017, the first term of eq. 1, divided by B².
    """

    Options: ClassVar[type] = PairLikelihoodOptions
    options: PairLikelihoodOptions
    reads_target = True

    def __init__(self, options: PairLikelihoodOptions, dims: Dims) -> None:
        super().__init__(options, dims)
        if options.similar == "labels":
            self.needs = frozenset({"labels"})

    def at(self, outputs: BatchOutputs, n_bits: int) -> Tensor:
        options = self.options
        cosines = similarity(outputs, options.between, n_bits)
        theta = cosines * (n_bits / 2 if options.scale is None else options.scale)
        similar = self._similar(outputs).to(theta.dtype)
        if outputs.target is not None:
            similar = similar * outputs.target
        parts = ((similar, functional.softplus(-theta)), (1 - similar, functional.softplus(theta)))
        sums, sizes = (torch.stack(values) for values in zip(*(((w * cost).sum(), w.sum()) for w, cost in parts)))
        least = torch.finfo(theta.dtype).tiny
        if options.balance:
            return (sums / sizes.clamp_min(least)).mean()
        return sums.sum() / sizes.sum().clamp_min(least)

    def _similar(self, outputs: BatchOutputs) -> Tensor:
        """(B, B) bool."""
        same = outputs.group[:, None] == outputs.group[None, :]
        if self.options.similar == "pairs":
            return same
        labels = given(outputs.labels, "labels").float()
        return same | (labels @ labels.T > 0)
