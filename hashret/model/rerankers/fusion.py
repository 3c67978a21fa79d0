"""The fusion re-ranker: a transformer in which the words of a text look at the tokens of a picture."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from hashret.model.config import RerankerConfig
from hashret.model.mixers import CrossMixer
from hashret.model.rerankers.base import Projected, Reranker, silent


class FusionBlock(nn.Module):
    """Words look at each other, then at the picture through a gate, then each is transformed (all pre-norm).

    x ← x + SelfAttention(LN(x)), x ← CrossMixer(x, y), x ← x + W₂ GELU(W₁ LN(x) + b₁) + b₂

    *Source:* a layer of the fusion encoder of Li et al. (ALBEF), NeurIPS 2021, sec. 3.1; norms before instead of after:
    Xiong et al., ICML 2020; the gate: see ``CrossMixer``.
    """

    def __init__(self, config: RerankerConfig) -> None:
        super().__init__()
        width = config.width
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, config.heads, dropout=config.dropout, batch_first=True)
        self.cross = CrossMixer(width, heads=config.heads, dropout=config.dropout)
        self.ffn = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, config.ffn),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.ffn, width),
            nn.Dropout(config.dropout),
        )

    def forward(self, x: Tensor, y: Tensor, x_mask: Tensor, y_mask: Tensor) -> Tensor:
        """(P, L, width) words after one block; ``y`` (P, N, width) are the tokens of the pictures."""
        normed = self.norm(x)
        x = x + self.attention(normed, normed, normed, key_padding_mask=~x_mask, need_weights=False)[0]
        x = self.cross(x, y, x_mask, y_mask)
        mixed: Tensor = x + self.ffn(x)
        return mixed


class FusionReranker(Reranker):
    """Words, a learnt token before them, query the picture in ``layers`` blocks; the learnt token gives the logit.

    *Source:* the fusion encoder with its matching head of Li et al. (ALBEF), NeurIPS 2021, sec. 3.1 and 3.2, and Yang
    et al. (TCL), CVPR 2022, sec. 3; one logit where they have two classes, which is the same model.
    """

    reads = ("width", "layers", "heads", "ffn", "dropout")

    def __init__(self, config: RerankerConfig, *, widths: Mapping[str, int], n_bits: int) -> None:
        super().__init__(config, widths=widths, n_bits=n_bits)
        self.first = nn.Parameter(torch.randn(config.width) * 0.02)
        self.blocks = nn.ModuleList(FusionBlock(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.read = silent(config.width)

    def evidence(self, image: Projected, text: Projected) -> Tensor:
        """(P,) what the learnt token read of each pair."""
        x = torch.cat([self.first.to(text.tokens.dtype).expand(len(text.tokens), 1, -1), text.tokens], dim=1)
        mask = functional.pad(text.mask, (1, 0), value=True)
        for block in self.blocks:
            x = block(x, image.tokens, mask, image.mask)
        evidence: Tensor = self.read(self.norm(x[:, 0])).squeeze(-1)
        return evidence
