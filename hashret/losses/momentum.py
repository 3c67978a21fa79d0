"""Contrast against the keys of a momentum twin: between the modalities, or inside each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hashret.errors import ConfigError
from hashret.losses.base import (
    BatchOutputs,
    Dims,
    PrefixLoss,
    PrefixOptions,
    Side,
    Space,
    Temperature,
    check_temperature,
    given,
    view,
)
from hashret.losses.infonce import info_nce


@dataclass(frozen=True)
class MomentumContrastOptions(PrefixOptions):
    """Options of ``momentum_contrast``.

    Args:
        within: images against image keys and texts against text keys, instead of each against the other's.
        space: of queries and keys.
        temperature: τ (its first value where it is learnt).
        learnable: whether τ is a parameter; it is kept in [0.001, 0.5].
        soft: share of the soft targets at the stage's end; it rises from 0.
    """

    within: bool = False
    space: Space = "code"
    temperature: float = 1 / 15
    learnable: bool = False
    soft: float = 0.0

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if not 0 <= self.soft <= 1:
            raise ConfigError(f"soft is a share of the targets, from 0 to 1, and not {self.soft}")


class MomentumContrast(PrefixLoss):
    """InfoNCE of the towers' vectors against keys of their momentum twins: those of this batch, then the queue.

    L = ½ [ Q(v, t̃) + Q(t, ṽ) ], or with ``within`` L = ½ [ Q(v, ṽ) + Q(t, t̃) ], where
    Q(x, k) = -mean_i Σ_j y_ij log softmax_j( x_iᵀ k_j / τ ), j over B + Q keys, y_i = c_i·e_i + (1 - c_i)·p_i,
    p_i = softmax_j( x̃_iᵀ k_j / τ ) of the twin's own query, c_i = (1 - a)·t_i, a the share of soft targets so far.
    t_i is how far pair i is believed to match; inside a modality it is 1, as an item always matches itself. Keys of a
    row's group other than its own are neither positive nor negative.

    *Source:* between modalities: Li et al. (ALBEF), NeurIPS 2021, eq. 1 and 6; within: Yang et al. (TCL), CVPR 2022,
    sec. 3.2; the queue: He et al. (MoCo), CVPR 2020, eq. 1.
    """

    Options: ClassVar[type] = MomentumContrastOptions
    options: MomentumContrastOptions
    needs = frozenset({"momentum"})

    def __init__(self, options: MomentumContrastOptions, dims: Dims) -> None:
        super().__init__(options, dims)
        self.temperature = Temperature(options.temperature, learnable=options.learnable, low=0.001, high=0.5)

    def forward(self, outputs: BatchOutputs, *, progress: float = 0.0) -> Tensor:
        keys = given(outputs.keys, "the keys of a momentum twin")
        queued = outputs.group[:, None] == keys.group[None, :]
        batch = queued.new_zeros(len(queued), len(queued)) if outputs.excluded is None else outputs.excluded
        excluded = torch.cat([batch, queued], dim=1)
        sure = torch.ones_like(outputs.image.logits[:, 0]) * (1 - self.options.soft * progress)
        if outputs.target is not None and not self.options.within:
            sure = sure * outputs.target
        image, text = (outputs.image, keys.image), (outputs.text, keys.text)
        image_keys, text_keys = (keys.image, keys.image_queue), (keys.text, keys.text_queue)
        if self.options.within:
            directions = ((*image, *image_keys), (*text, *text_keys))
        else:
            directions = ((*image, *text_keys), (*text, *image_keys))
        terms = []
        for n_bits, share in self.lengths:
            rows = [self._direction(sides, n_bits, excluded, sure, outputs.weight) for sides in directions]
            terms.append(share * 0.5 * (rows[0] + rows[1]))
        return torch.stack(terms).sum()

    def _direction(
        self, sides: tuple[Side, ...], n_bits: int, excluded: Tensor, sure: Tensor, weight: Tensor | None
    ) -> Tensor:
        """Q of queries, the twin's queries, keys of the batch and keys of the queue."""
        queries, twins, batch, queue = (view(side, self.options.space, n_bits) for side in sides)
        keys = torch.cat([batch, queue]).detach()
        tau = self.temperature()
        with torch.no_grad():
            soft = (twins @ keys.T / tau).masked_fill(excluded, float("-inf")).softmax(dim=1)
        return info_nce(queries @ keys.T, temperature=tau, excluded=excluded, target=sure, soft=soft, weight=weight)
