"""A learnt code for every label: items are pulled to those of their labels and kept away from the others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from hashret.errors import ConfigError
from hashret.losses.base import BatchOutputs, Dims, Need, PrefixLoss, PrefixOptions, Space, given, view


@dataclass(frozen=True)
class ProxiesOptions(PrefixOptions):
    """Options of ``proxies``.

    Args:
        space: of the items.
        match: ``hinge``: cosines as they are; ``softmax``: cross-entropy over the labels.
        threshold: the cosine that strangers may have (``hinge``).
        apart: α, weight of keeping items apart that share no label (``hinge``; only items with several labels).
        temperature: of the softmax.
    """

    space: Space = "relaxed"
    match: Literal["hinge", "softmax"] = "hinge"
    threshold: float = 0.0
    apart: float = 0.8
    temperature: float = 0.1

    def __post_init__(self) -> None:
        if not (-1 <= self.threshold < 1 and self.apart >= 0 and self.temperature > 0):
            raise ConfigError("proxies need -1 <= threshold < 1, apart >= 0 and a temperature above 0")


class Proxies(PrefixLoss):
    """Proxies p_c, one a label, learnt beside the heads; h stands for f and g in turn. At every prefix:

    hinge: L = mean over (i, c) with label of (1 - cos(h_i, p_c)) + mean over those without of [cos(h_i, p_c) - t]₊
    + α·mean of [cos - t]₊ over pairs of items that share no label and have several each, image-image, text-text and
    image-text. softmax: L = -mean_i Σ_c y_ic log softmax_c(cos(h_i, p_c)/τ), y_i the labels of i over their number.

    The paper takes the threshold t from a table of how far so many codes of so many bits can be apart; here it is an
    option.

    *Source:* hinge: Huo et al. (DSPH), TCSVT 2024; softmax: Zhai & Wu, "Classification is a strong baseline for deep
    metric learning", BMVC 2019, eq. 2.
    """

    Options: ClassVar[type] = ProxiesOptions
    options: ProxiesOptions
    needs: frozenset[Need] = frozenset({"labels"})

    def __init__(self, options: ProxiesOptions, dims: Dims) -> None:
        super().__init__(options, dims)
        if not dims.n_labels:
            raise ConfigError("the loss proxies needs labels, and the data has none; label it, or leave the loss out")
        self.proxies = nn.Parameter(torch.randn(dims.n_labels, dims.n_bits) / math.sqrt(dims.n_bits))

    def at(self, outputs: BatchOutputs, n_bits: int) -> Tensor:
        labels = given(outputs.labels, "labels").bool()
        proxies = functional.normalize(self.proxies[:, :n_bits], dim=1)
        sides = [
            functional.normalize(view(side, self.options.space, n_bits), dim=1)
            for side in (outputs.image, outputs.text)
        ]
        cosines = [side @ proxies.to(side.dtype).T for side in sides]
        if self.options.match == "softmax":
            return 0.5 * torch.stack([self._softmax(one, labels) for one in cosines]).sum()
        terms = [_mean(1 - one, labels) + _mean(self._excess(one), ~labels) for one in cosines]
        several = labels.sum(dim=1) > 1
        strangers = (labels.float() @ labels.float().T == 0) & several[:, None] & several[None, :]
        for a, b in ((0, 0), (1, 1), (0, 1)):
            terms.append(self.options.apart * _mean(self._excess(sides[a] @ sides[b].T), strangers))
        return torch.stack(terms).sum()

    def _excess(self, cosines: Tensor) -> Tensor:
        return (cosines - self.options.threshold).clamp_min(0)

    def _softmax(self, cosines: Tensor, labels: Tensor) -> Tensor:
        share = labels / labels.sum(dim=1, keepdim=True).clamp_min(1)
        rows = -(share * (cosines / self.options.temperature).log_softmax(dim=1)).sum(dim=1)
        return rows.mean()


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """The mean of values where ``where`` is true, 0 where it never is."""
    return (values * where).sum() / where.sum().clamp_min(1)
