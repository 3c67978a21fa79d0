"""Hash heads: (B, D) features to (B, n_bits) logits."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from hashret.model.config import HeadConfig
from hashret.registry import Registry

HEADS = Registry(
    "hash head",
    {"linear": "hashret.model.heads:LinearHead", "residual_mlp": "hashret.model.heads:ResidualHead"},
)


class LinearHead(nn.Module):
    """W x + b, normalised by running statistics where ``batch_norm`` is set.

    *Source:* the hash layer of Cao et al. (HashNet), ICCV 2017, before its tanh; batch norm behind it: Hoe et al.
    (OrthoHash), NeurIPS 2021.
    """

    reads: ClassVar[tuple[str, ...] | None] = ("batch_norm",)

    def __init__(self, config: HeadConfig, *, width: int, n_bits: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, n_bits)
        self.norm = nn.BatchNorm1d(n_bits, affine=False) if config.batch_norm else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.norm(self.linear(features))
        return logits


class ResidualHead(LinearHead):
    """W x + b + MLP(x), MLP = dropout → D → hidden → GELU → dropout → n_bits.

    With ``own`` the first bits have an MLP of their own, and the others another.

    *Source:* a residual block with a linear shortcut, He et al., CVPR 2016, eq. 2; the MLP and ``own`` are ours.
    """

    reads = None

    def __init__(self, config: HeadConfig, *, width: int, n_bits: int) -> None:
        super().__init__(config, width=width, n_bits=n_bits)
        ends = [end for end in config.own if end < n_bits] + [n_bits]
        mlps = [
            nn.Sequential(
                nn.Dropout(config.input_dropout),
                nn.Linear(width, config.hidden),
                nn.GELU(),
                nn.Dropout(config.dropout),
                nn.Linear(config.hidden, end - start),
            )
            for start, end in zip([0, *ends], ends)
        ]
        # one MLP keeps the name that models saved before there were several know it by
        self.mlp = mlps[0] if len(mlps) == 1 else nn.ModuleList(mlps)

    def forward(self, features: Tensor) -> Tensor:
        if isinstance(self.mlp, nn.ModuleList):
            correction = torch.cat([mlp(features) for mlp in self.mlp], dim=-1)
        else:
            correction = self.mlp(features)
        logits: Tensor = self.norm(self.linear(features) + correction)
        return logits
