"""Mixers: tokens look at tokens. (B, N, D), mask (B, N) → (B, N, width).

``SelfMixer`` sees one item and may stand in a tower. ``CrossMixer`` sees a pair: it serves re-rankers, never a tower.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hashret.errors import ConfigError
from hashret.model.config import MixerConfig
from hashret.model.lengths import by_length


class SelfMixer(nn.Module):
    """A pre-norm transformer encoder over tokens; a token that is masked out is never looked at.

    In each layer x ← x + Attention(LN(x), LN(x)), x ← x + W₂ GELU(W₁ LN(x) + b₁) + b₂; after the last, x ← LN(x).

    *Source:* Messina et al. (TERN), ICPR 2020, fig. 2 (per modality, and shared between them); norms before instead of
    after: Xiong et al., On layer normalization in the transformer architecture, ICML 2020.
    """

    def __init__(self, config: MixerConfig, *, width: int) -> None:
        super().__init__()
        if width % config.heads:
            raise ConfigError(f"a mixer of width {width} cannot have {config.heads} heads; choose a divisor")
        self.width = width
        layer = nn.TransformerEncoderLayer(
            width,
            config.heads,
            dim_feedforward=config.ffn,
            dropout=config.dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.blocks = nn.TransformerEncoder(layer, config.layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        if not self.training:
            mixed: Tensor = self.blocks(tokens, src_key_padding_mask=~mask)
            return mixed

        def cut(rows: Tensor, length: int) -> Tensor:
            mixed = self.blocks(tokens[rows, :length], src_key_padding_mask=~mask[rows, :length])
            return functional.pad(mixed, (0, 0, 0, mask.shape[1] - length))

        return by_length(cut, mask)


class Mixing(nn.Module):
    """A mixer in its place in a tower: a projection of its own to the mixer's width, then the (maybe shared) mixer."""

    def __init__(self, mixer: SelfMixer, *, width: int) -> None:
        super().__init__()
        self.width = mixer.width
        self.project = nn.Identity() if width == mixer.width else nn.Linear(width, mixer.width)
        self.mixer = mixer

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        mixed: Tensor = self.mixer(self.project(tokens), mask)
        return mixed


class CrossMixer(nn.Module):
    """The tokens x of one item attend to the tokens y of another, and a gate says how much of it they take up.

    u = Attention(LN(x), y), x' = x + σ(W [x; u] + b) ⊙ u

    A token of y that is masked out is never looked at; one of x that is stays as it is.

    *Source:* the attention is that of Vaswani et al., NeurIPS 2017, sec. 3.2; the gate follows Wang et al. (CAMP),
    ICCV 2019, where it sees the product of both instead of both.

    Args:
        width: of both kinds of tokens.
        heads: attention heads; they divide ``width``.
        dropout: of attention weights, in training.
    """

    def __init__(self, width: int, *, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise ConfigError(f"a mixer of width {width} cannot have {heads} heads; choose a divisor")
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.gate = nn.Linear(2 * width, width)

    def forward(self, x: Tensor, y: Tensor, x_mask: Tensor, y_mask: Tensor) -> Tensor:
        """(P, N, width) tokens x after a look at (P, M, width) tokens y; masks (P, N) and (P, M) bool."""
        # a softmax over no token at all is NaN, in the gradient too: such an item is looked at and then left out
        seen = y_mask.any(dim=1, keepdim=True)
        update, _ = self.attention(self.norm(x), y, y, key_padding_mask=~(y_mask | ~seen), need_weights=False)
        update = update * (x_mask & seen).unsqueeze(-1)
        mixed: Tensor = x + torch.sigmoid(self.gate(torch.cat([x, update], dim=-1))) * update
        return mixed
