"""Hash heads: (B, D) features to (B, n_bits) logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hashret.model.config import HeadConfig
from hashret.registry import Registry

HEADS = Registry(
    "hash head",
    {"linear": "hashret.model.heads:LinearHead", "residual_mlp": "hashret.model.heads:ResidualHead"},
)


class LinearHead(nn.Module):
    """W x + b, normalised by running statistics where ``batch_norm`` is set."""

    def __init__(self, config: HeadConfig, *, width: int, n_bits: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, n_bits)
        self.norm = nn.BatchNorm1d(n_bits, affine=False) if config.batch_norm else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.norm(self.linear(features))
        return logits

    @torch.no_grad()
    def shift(self, offset: Tensor) -> None:
        """Take (n_bits,) ``offset`` from every item's logits, for good."""
        if isinstance(self.norm, nn.BatchNorm1d):
            assert self.norm.running_mean is not None and self.norm.running_var is not None
            self.norm.running_mean += offset * (self.norm.running_var + self.norm.eps).sqrt()
        else:
            self.linear.bias.sub_(offset)


class ResidualHead(LinearHead):
    """W x + b + MLP(x), MLP = dropout → D → hidden → GELU → dropout → n_bits."""

    def __init__(self, config: HeadConfig, *, width: int, n_bits: int) -> None:
        super().__init__(config, width=width, n_bits=n_bits)
        self.mlp = nn.Sequential(
            nn.Dropout(config.input_dropout),
            nn.Linear(width, config.hidden),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, n_bits),
        )

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.norm(self.linear(features) + self.mlp(features))
        return logits
