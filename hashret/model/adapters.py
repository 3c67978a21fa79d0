"""Adapters: fixed maps, fitted once on training features, that make features of any encoder alike."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from hashret.registry import Registry

ADAPTERS = Registry(
    "adapter",
    {
        "centre": "hashret.model.adapters:Centre",
        "none": "hashret.model.adapters:Plain",
        "standardise": "hashret.model.adapters:Standardise",
    },
)


class Plain(nn.Module):
    """Features as they are: (…, D) → (…, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Fit on batches (B, D) of training features."""

    def forward(self, features: Tensor) -> Tensor:
        return features


class Centre(Plain):
    """(x - mean) / ‖x - mean‖, with the mean of the training set.

    The mean of pretrained features carries most of the gap between two modalities and none of their content.

    *Source:* Liang et al., Mind the gap, NeurIPS 2022, which measure the gap as the difference of the means.
    """

    mean: Tensor

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.register_buffer("mean", torch.zeros(width))

    def fit(self, batches: Iterable[Tensor]) -> None:
        mean, _ = moments(batches, width=self.width)
        self.mean.copy_(mean)

    def forward(self, features: Tensor) -> Tensor:
        return functional.normalize(features - self.mean, dim=-1)


class Standardise(Plain):
    """(x - mean) / (std · √D) by dimension, with the mean and deviation of the training set: norms are about 1."""

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.full((width,), width**-0.5))

    def fit(self, batches: Iterable[Tensor]) -> None:
        mean, variance = moments(batches, width=self.width)
        self.mean.copy_(mean)
        # a dimension that never changes is left small instead of being blown up
        deviation = variance.sqrt().clamp_min(1e-3 * float(variance.mean().sqrt()) + 1e-12)
        self.scale.copy_(self.width**-0.5 / deviation)

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) * self.scale


def moments(batches: Iterable[Tensor], *, width: int) -> tuple[Tensor, Tensor]:
    """Mean and variance (D,) over the rows of all batches, summed in float64."""
    count = 0
    total = torch.zeros(width, dtype=torch.float64)
    squares = torch.zeros(width, dtype=torch.float64)
    for batch in batches:
        rows = batch.detach().to("cpu", torch.float64)
        count += len(rows)
        total += rows.sum(0)
        squares += rows.square().sum(0)
    mean = total / max(count, 1)
    return mean.float(), (squares / max(count, 1) - mean.square()).clamp_min(0).float()
