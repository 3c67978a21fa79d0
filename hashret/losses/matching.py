"""Image-text matching: a re-ranker learns to tell pairs from look-alikes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from hashret.losses.base import BatchOutputs, Loss, Space, check_temperature, given, similarity


@dataclass(frozen=True)
class MatchingOptions:
    """Options of ``matching``.

    Args:
        space: of the similarities that negatives are drawn by.
        temperature: τ of the draw; the lower, the harder the negatives.
    """

    space: Space = "code"
    temperature: float = 1 / 15

    def __post_init__(self) -> None:
        check_temperature(self.temperature)


class Matching(Loss):
    """Binary cross-entropy of the match logits z of each pair and of two hard negatives.

    L = the mean of t_i·softplus(-z_ii) + (1 - t_i)·softplus(z_ii), softplus(z_ij) and softplus(z_ji) over the rows i,
    t_i how far pair i is believed to match. For image i the text j, and for text i the image j, is drawn with the
    probability softmax_j(s_ij / τ) (s_ji of images) of the codes' similarities, j of another group. A row that all
    others share the group of has no negatives.

    *Source:* Li et al. (ALBEF), NeurIPS 2021, sec. 3.2 (matching with contrastive hard negatives).
    """

    Options: ClassVar[type] = MatchingOptions
    options: MatchingOptions
    reads_target = True
    needs = frozenset({"matcher"})

    def forward(self, outputs: BatchOutputs, *, progress: float = 0.0) -> Tensor:
        match = given(outputs.match, "match logits of a re-ranker")
        rows, texts, images = self._negatives(outputs)
        every = torch.arange(len(outputs.group), device=rows.device)
        logits = match(torch.cat([every, rows, images]), torch.cat([every, texts, rows]))
        labels = torch.zeros_like(logits)
        labels[: len(every)] = 1.0 if outputs.target is None else outputs.target.to(labels.dtype)
        return functional.binary_cross_entropy_with_logits(logits, labels)

    @torch.no_grad()
    def _negatives(self, outputs: BatchOutputs) -> tuple[Tensor, Tensor, Tensor]:
        """(R,) rows that have negatives, for each a text of another group, and for each an image."""
        space = self.options.space
        cosines = similarity(outputs, (space, space), self.dims.n_bits)
        same = outputs.group[:, None] == outputs.group[None, :]
        rows = (~same).any(dim=1).nonzero().squeeze(1)
        if not len(rows):
            return rows, rows, rows
        drawn = []
        for matrix in (cosines, cosines.T):
            chances = (matrix / self.options.temperature).masked_fill(same, float("-inf"))[rows].softmax(dim=1)
            drawn.append(torch.multinomial(chances, 1).squeeze(1))
        return rows, drawn[0], drawn[1]
