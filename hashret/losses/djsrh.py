"""Joint-semantics reconstruction: codes reproduce one similarity that both modalities' features agree on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from hashret.errors import ConfigError
from hashret.losses.base import BatchOutputs, PrefixLoss, PrefixOptions


@dataclass(frozen=True)
class JointSemanticsOptions(PrefixOptions):
    """Options of ``joint_semantics``.

    Args:
        image_share: β, share of the pictures' similarity; the texts' has 1 - β.
        second_order: η, share of the similarity of similarities.
        scale: μ.
        inside: λ, weight of the terms inside a modality.
    """

    image_share: float = 0.6
    second_order: float = 0.4
    scale: float = 1.5
    inside: float = 0.1

    def __post_init__(self) -> None:
        if not (0 <= self.image_share <= 1 and 0 <= self.second_order <= 1 and self.scale > 0 and self.inside >= 0):
            raise ConfigError(
                f"joint_semantics needs shares from 0 to 1, a scale above 0 and inside of at least 0, and not {self}"
            )


class JointSemantics(PrefixLoss):
    """L = mean (cos(f, g) - S)² + λ mean (cos(f, f) - S)² + λ mean (cos(g, g) - S)², at every prefix, without labels.

    S̃ = β·cos(x, x) + (1 - β)·cos(y, y) of the features x, y that the heads are given;
    S = μ[(1 - η)·S̃ + η·S̃S̃ᵀ/B]. f and g are relaxed codes; a batch of B pairs gives (B, B) matrices.

    The paper's features are not negative, and it stretches their cosines from [0, 1] to [-1, 1]; those of centred
    features need no stretching. Its steepness of tanh grows from epoch to epoch, which is the stage's ``beta``.

    *Source:* Su, Zhong & Zhang (DJSRH), ICCV 2019, eq. 3, 5 and 8.
    """

    Options: ClassVar[type] = JointSemanticsOptions
    options: JointSemanticsOptions

    def at(self, outputs: BatchOutputs, n_bits: int) -> Tensor:
        options = self.options
        with torch.no_grad():
            inner = [functional.normalize(side.pooled.float(), dim=1) for side in (outputs.image, outputs.text)]
            mixed = options.image_share * inner[0] @ inner[0].T + (1 - options.image_share) * inner[1] @ inner[1].T
            second = mixed @ mixed.T / len(mixed)
            target = options.scale * ((1 - options.second_order) * mixed + options.second_order * second)
        f, g = (functional.normalize(side.relaxed[:, :n_bits], dim=1) for side in (outputs.image, outputs.text))
        weights = ((f, g, 1.0), (f, f, options.inside), (g, g, options.inside))
        return torch.stack([weight * (a @ b.T - target).square().mean() for a, b, weight in weights if weight]).sum()
