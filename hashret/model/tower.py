"""A tower: encoder → adapter → mixers → pooler → hash head."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from hashret.encoders import Encoded, Encoder
from hashret.errors import ConfigError
from hashret.model.adapters import ADAPTERS
from hashret.model.config import TowerConfig
from hashret.model.heads import HEADS
from hashret.model.mixers import Mixing, SelfMixer
from hashret.model.outputs import TowerOutput
from hashret.model.poolers import POOLERS


class Tower(nn.Module):
    """One modality's way from items to logits.

    Args:
        config: the parts.
        encoder: the built encoder.
        n_bits: length of a code.
        mixers: one for each entry of ``config.mixers``, some of them shared with another tower.

    Attributes:
        token_width: D of ``TowerOutput.tokens``; where there are none, of ``pooled``, which stands for them.
        pooled_width: D of ``TowerOutput.pooled``, what the hash head is given.
    """

    beta: Tensor

    def __init__(self, config: TowerConfig, encoder: Encoder, *, n_bits: int, mixers: list[SelfMixer]) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.from_pooled = config.pooler == "auto" and config.encoder.output == "pooled"
        if mixers and self.from_pooled:
            raise ConfigError("mixers work on tokens; set the encoder's output to tokens")
        if config.pooler != "auto" and config.encoder.output == "pooled":
            raise ConfigError(f"the pooler {config.pooler!r} works on tokens; set the encoder's output to tokens")
        self.adapter = ADAPTERS.load(config.adapter)(encoder.width)
        width = encoder.width
        self.mixers = nn.ModuleList()
        for mixer in mixers:
            self.mixers.append(Mixing(mixer, width=width))
            width = mixer.width
        self.token_width = width
        self.pooler = None
        if not self.from_pooled:
            self.pooler = POOLERS.load("mean" if config.pooler == "auto" else config.pooler)(width)
            width = self.pooler.width
        self.pooled_width = width
        self.head = HEADS.load(config.head.kind)(config.head, width=width, n_bits=n_bits)
        self.register_buffer("beta", torch.ones(()))

    @property
    def modality(self) -> str:
        """``image`` or ``text``."""
        modality: str = self.encoder.modality
        return modality

    @torch.no_grad()
    def fit_adapter(self, batches: Iterable[Encoded]) -> None:
        """Fit the adapter on what the encoder's frozen part made of the training items."""
        self.adapter.fit(self._rows(self.encoder.suffix(encoded)) for encoded in batches)

    def _rows(self, encoded: Encoded) -> Tensor:
        rows = encoded.pooled if self.from_pooled else encoded.tokens[encoded.mask]
        return cast(Tensor, rows)

    def forward(self, encoded: Encoded, *, noise: float = 0.0) -> TowerOutput:
        """From the output of the encoder's frozen part to logits.

        Args:
            encoded: a batch of B items after ``encoder.prefix``.
            noise: norm of Gaussian noise added to each adapted feature vector, as a part of 1.
        """
        encoded = self.encoder.suffix(encoded)
        tokens = mask = None
        if self.from_pooled:
            pooled: Tensor = _disturb(self.adapter(encoded.pooled.float()), noise)  # type: ignore[union-attr]
        else:
            mask = encoded.mask
            tokens = _disturb(self.adapter(encoded.tokens.float()), noise)
            for mixing in self.mixers:
                tokens = mixing(tokens, mask)
            pooled = self.pooler(tokens, mask)  # type: ignore[misc]
        logits = self.head(pooled).float()
        return TowerOutput(logits=logits, pooled=pooled, tokens=tokens, mask=mask, beta=self.beta)


def _disturb(features: Tensor, noise: float) -> Tensor:
    if not noise:
        return features
    return features + torch.randn_like(features) * (noise / math.sqrt(features.shape[-1]))
