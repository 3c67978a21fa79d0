"""Mixers: the tokens of one item look at each other. (B, N, D), mask (B, N) → (B, N, width)."""

from __future__ import annotations

from torch import Tensor, nn

from hashret.errors import ConfigError
from hashret.model.config import MixerConfig


class SelfMixer(nn.Module):
    """A pre-norm transformer encoder over tokens; a token that is masked out is never looked at.

    *Source:* Messina et al. (TERN), ICPR 2020, fig. 2 (per modality, and shared between them).
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
        mixed: Tensor = self.blocks(tokens, src_key_padding_mask=~mask)
        return mixed


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
