"""Penalties on the bits themselves: quantisation, balance, decorrelation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hashret.losses.base import BatchOutputs, Loss


@dataclass(frozen=True)
class NoOptions:
    """A loss without options; its weight is set beside it."""


class Quantisation(Loss):
    """Pulls relaxed codes to ±1.

    L = 1/(2BK) Σ_i ( ‖f_i - sign f_i‖² + ‖g_i - sign g_i‖² ); a sign is +1 above 0, else -1, and a constant.

    *Source:* after Jiang & Li (DCMH), CVPR 2017, the γ term of eq. 1, per bit; there both sides are pulled to one code,
    sign(f + g), and here each to its own, as the codes of both are stored.
    """

    Options: ClassVar[type] = NoOptions

    def forward(self, outputs: BatchOutputs, *, progress: float = 0.0) -> Tensor:
        return 0.5 * (_gap(outputs.image.relaxed) + _gap(outputs.text.relaxed))


class Balance(Loss):
    """Makes each bit on for half of the items.

    L = 1/K ( ‖mean_i f_i‖² + ‖mean_i g_i‖² ).

    *Source:* Jiang & Li (DCMH), CVPR 2017, the η term of eq. 1, with means for sums.
    """

    Options: ClassVar[type] = NoOptions

    def forward(self, outputs: BatchOutputs, *, progress: float = 0.0) -> Tensor:
        return outputs.image.relaxed.mean(0).square().mean() + outputs.text.relaxed.mean(0).square().mean()


class Decorrelation(Loss):
    """Makes bits say different things.

    L = ½ Σ over both sides of ‖ fᵀf / B - I ‖²_F / K².

    *Source:* Weiss et al. (Spectral Hashing), NeurIPS 2008, the constraint of eq. 2 as a penalty.
    """

    Options: ClassVar[type] = NoOptions

    def forward(self, outputs: BatchOutputs, *, progress: float = 0.0) -> Tensor:
        return 0.5 * (_off_identity(outputs.image.relaxed) + _off_identity(outputs.text.relaxed))


def _gap(relaxed: Tensor) -> Tensor:
    sign = torch.where(relaxed > 0, 1.0, -1.0).to(relaxed.dtype)
    return (relaxed - sign).square().mean()


def _off_identity(relaxed: Tensor) -> Tensor:
    gram = relaxed.T @ relaxed / len(relaxed)
    return (gram - torch.eye(len(gram), dtype=gram.dtype, device=gram.device)).square().mean()
