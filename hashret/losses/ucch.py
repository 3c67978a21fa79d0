"""Contrast with a memory of binary codes, and a ranking loss between modalities that spares the hardest negatives."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from hashret.errors import ConfigError, TrainingError
from hashret.losses.base import BatchOutputs, Dims, PrefixLoss, PrefixOptions


@dataclass(frozen=True)
class BinaryMemoryOptions(PrefixOptions):
    """Options of ``binary_memory``.

    Args:
        memory: rows of the memory, at least the number of training images; must be given.
        negatives: rows of it that a batch is contrasted with, drawn anew each step.
        momentum: δ, how much of a row stays when its image comes by.
        contrast: β, weight of the contrast; the ranking loss has 1 - β.
        temperature: τ of the contrast.
        margin: m of the ranking loss, in cosine.
        shift: what is taken off a negative that is further away than the margin.
        softness: λ of the soft maximum over negatives.
    """

    memory: int = 0
    negatives: int = 4096
    momentum: float = 0.4
    contrast: float = 0.7
    temperature: float = 0.2
    margin: float = 0.2
    shift: float = 0.1
    softness: float = 0.05

    def __post_init__(self) -> None:
        if self.memory < 2:
            raise ConfigError(f"binary_memory needs memory, the number of training images or more; it is {self.memory}")
        if self.negatives < 1 or not (0 <= self.momentum < 1 and 0 <= self.contrast <= 1):
            raise ConfigError("binary_memory needs negatives >= 1, 0 <= momentum < 1 and 0 <= contrast <= 1")
        if not (self.temperature > 0 and self.softness > 0):
            raise ConfigError("binary_memory needs a temperature and a softness above 0")


class BinaryMemory(PrefixLoss):
    """L = β·L_c + (1 - β)·L_r, at every prefix, without labels.

    A memory keeps v_i for the pair of each image, v_i ← δ·v_i + (1 - δ)·(f_i + g_i)/2; its key is k_i = sign v_i. With
    cosines of relaxed codes,

        L_c = mean over h in {f, g} of -log [ exp(h_i·k_i/τ) / (exp(h_i·k_i/τ) + Σ_n exp(h_i·k_n/τ)) ]
        L_r = mean_i [ m + λ log Σ_j exp(S*_ij/λ) - S_ii ]₊ over both directions, S = cos(f, g),
        S*_ij = S_ij where S_ij ≥ S_ii - m, else S_ij - shift.

    τ, λ and δ are not known from the paper; the defaults are this package's.

    *Source:* Hu, Zhu, Lin, Peng, Peng & Peng (UCCH), TPAMI 2023, sections 3.3 and 3.4.
    """

    Options: ClassVar[type] = BinaryMemoryOptions
    options: BinaryMemoryOptions
    memory: Tensor

    def __init__(self, options: BinaryMemoryOptions, dims: Dims) -> None:
        super().__init__(options, dims)
        self.register_buffer("memory", torch.empty(options.memory, dims.n_bits).uniform_(-0.1, 0.1))

    def forward(self, outputs: BatchOutputs, *, progress: float = 0.0) -> Tensor:
        options, rows = self.options, outputs.group
        if int(rows.max()) >= options.memory:
            raise TrainingError(
                f"binary_memory has {options.memory:,} rows, and image {int(rows.max()):,} came by; set memory to the "
                "number of training images"
            )
        drawn = torch.randint(options.memory, (min(options.negatives, options.memory),), device=rows.device)
        own = rows[:, None] == drawn[None, :]
        relaxed = outputs.image.relaxed, outputs.text.relaxed
        terms = []
        for n_bits, weight in self.lengths:
            f, g = (functional.normalize(side[:, :n_bits], dim=1) for side in relaxed)
            keys = torch.where(self.memory[:, :n_bits] > 0, 1.0, -1.0).to(f.dtype) / math.sqrt(n_bits)
            positive, negative = keys[rows], keys[drawn]
            contrast = 0.5 * (self._contrast(f, positive, negative, own) + self._contrast(g, positive, negative, own))
            ranking = 0.5 * (self._ranking(f @ g.T, outputs.excluded) + self._ranking(g @ f.T, outputs.excluded))
            cost = options.contrast * contrast + (1 - options.contrast) * ranking
            terms.append(weight * cost.mean())
        if self.training:
            with torch.no_grad():
                seen = 0.5 * (relaxed[0] + relaxed[1]).to(self.memory.dtype)
                self.memory[rows] = options.momentum * self.memory[rows] + (1 - options.momentum) * seen
        return torch.stack(terms).sum()

    def _contrast(self, h: Tensor, positive: Tensor, negative: Tensor, own: Tensor) -> Tensor:
        """(B,)"""
        others = (h @ negative.T).masked_fill(own, float("-inf"))
        logits = torch.cat([(h * positive).sum(dim=1, keepdim=True), others], dim=1) / self.options.temperature
        return -logits.log_softmax(dim=1)[:, 0]

    def _ranking(self, cosines: Tensor, excluded: Tensor | None) -> Tensor:
        """(B,)"""
        options = self.options
        positive = cosines.diagonal()[:, None]
        shifted = torch.where(cosines >= positive - options.margin, cosines, cosines - options.shift)
        if excluded is not None:
            shifted = shifted.masked_fill(excluded, float("-inf"))
        soft = options.softness * (shifted / options.softness).logsumexp(dim=1)
        return (options.margin + soft - positive[:, 0]).clamp_min(0)
