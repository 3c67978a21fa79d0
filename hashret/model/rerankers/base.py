"""What all re-rankers share: each item is projected once, and pairs of projected items are scored.

The score starts as a multiple of the cosine of both float vectors, so that an untrained re-ranker orders pairs as the
float vectors of the model do; what it learns is added to that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from hashret.model.config import RerankerConfig
from hashret.model.lengths import by_length
from hashret.model.outputs import TowerOutput

START_SCALE = 10.0  # cosines of matching and other pairs lie about 0.2 apart; times 10 that is a logit worth having


class Projected(NamedTuple):
    """A batch of B items of one modality as a re-ranker reads them.

    Attributes:
        tokens: (B, N, width); 0 where the mask is false.
        mask: (B, N) bool.
        vector: (B, n_bits) the float vectors of the model, of unit length.
    """

    tokens: Tensor
    mask: Tensor
    vector: Tensor

    def rows(self, rows: Tensor) -> Projected:
        """The items at (P,) int64 ``rows``."""
        return Projected(*(part.index_select(0, rows) for part in self))

    def cut(self, length: int) -> Projected:
        """The first ``length`` tokens of each item."""
        return Projected(self.tokens[:, :length], self.mask[:, :length], self.vector)


class Reranker(nn.Module):
    """Base: ``forward(image, text)`` gives the logits that P row-aligned pairs match.

    A tower that works on pooled features alone has no tokens: its pooled vector stands for them as the one token of
    its item. A subclass writes ``evidence``, and names what it reads of the configuration.

    Args:
        config: the sizes.
        widths: of tokens (or of pooled vectors in their place), by modality.
        n_bits: length of a whole code.
    """

    reads: ClassVar[tuple[str, ...] | None] = None

    def __init__(self, config: RerankerConfig, *, widths: Mapping[str, int], n_bits: int) -> None:
        super().__init__()
        self.config = config
        self.inputs = nn.ModuleDict(
            {
                modality: nn.Sequential(nn.LayerNorm(widths[modality]), nn.Linear(widths[modality], config.width))
                for modality in ("image", "text")
            }
        )
        self.scale = nn.Parameter(torch.tensor(START_SCALE))
        self.bias = nn.Parameter(torch.zeros(()))

    def project(self, modality: str, output: TowerOutput) -> Projected:
        """What depends on one item alone, so that it need not be done again for every pair."""
        if output.tokens is None or output.mask is None:
            tokens = output.pooled[:, None]
            mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        else:
            tokens, mask = output.tokens, output.mask
        # padding may hold anything: it is emptied before the norm, so that no NaN can hide behind a mask
        tokens = self.inputs[modality](tokens.masked_fill(~mask.unsqueeze(-1), 0.0))
        return Projected(tokens.masked_fill(~mask.unsqueeze(-1), 0.0), mask, output.float_())

    def evidence(self, image: Projected, text: Projected) -> Tensor:
        """(P,) what tokens add to the logits of P row-aligned pairs; 0 before training."""
        raise NotImplementedError

    def score(self, image: Projected, text: Projected) -> Tensor:
        """(P,) logits of P row-aligned pairs of projected items: evidence + scale · cosine + bias (*Source:* own)."""
        cosine = (image.vector * text.vector).sum(dim=1)
        return (self._evidence(image, text) + self.scale * cosine + self.bias).float()

    def _evidence(self, image: Projected, text: Projected) -> Tensor:
        if not self.training:
            return self.evidence(image, text)
        return by_length(lambda rows, length: self.evidence(image.rows(rows), text.rows(rows).cut(length)), text.mask)

    def forward(self, image: TowerOutput, text: TowerOutput) -> Tensor:
        """(P,) logits that row i of ``image`` and row i of ``text`` match."""
        return self.score(self.project("image", image), self.project("text", text))

    def matcher(self, image: TowerOutput, text: TowerOutput) -> Callable[[Tensor, Tensor], Tensor]:
        """A function from (P,) int64 rows of ``image`` and of ``text`` to (P,) logits; items are projected once."""
        images, texts = self.project("image", image), self.project("text", text)

        def match(image_rows: Tensor, text_rows: Tensor) -> Tensor:
            return self.score(images.rows(image_rows), texts.rows(text_rows))

        return match


def silent(width: int) -> nn.Linear:
    """A linear read-out (…, width) → (…, 1) that says 0 until it has learnt."""
    linear = nn.Linear(width, 1)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
