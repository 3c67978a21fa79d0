"""Poolers: the tokens of one item to one vector. (B, N, D), mask (B, N) → (B, width).

No pooler lets an item's padding or its neighbours in the batch reach its vector.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from hashret.registry import Registry

POOLERS = Registry(
    "pooler",
    {
        "attention": "hashret.model.poolers:AttentionPooler",
        "first": "hashret.model.poolers:FirstPooler",
        "first_mean": "hashret.model.poolers:FirstMeanPooler",
        "gpo": "hashret.model.poolers:GPOPooler",
        "max": "hashret.model.poolers:MaxPooler",
        "mean": "hashret.model.poolers:MeanPooler",
    },
)


class Pooler(nn.Module):
    """Base: ``width`` is the width of the pooled vector."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Pool (B, N, D) tokens where (B, N) bool ``mask`` is true."""
        raise NotImplementedError


class FirstPooler(Pooler):
    """The first token, x_1 (CLS).

    *Source:* Devlin et al. (BERT), NAACL 2019, sec. 3; of pictures: Dosovitskiy et al. (ViT), ICLR 2021, sec. 3.1.
    """

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return tokens[:, 0]


class MeanPooler(Pooler):
    """The mean of the tokens, 1/N Σ_n x_n.

    *Source:* Reimers & Gurevych (Sentence-BERT), EMNLP 2019, sec. 3 (MEAN).
    """

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        weight = mask.unsqueeze(-1).to(tokens.dtype)
        return (tokens * weight).sum(1) / weight.sum(1).clamp_min(1)


class MaxPooler(Pooler):
    """The largest value of each dimension, max_n x_nd.

    *Source:* Reimers & Gurevych (Sentence-BERT), EMNLP 2019, sec. 3 (MAX).
    """

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return tokens.masked_fill(~mask.unsqueeze(-1), float("-inf")).amax(1)


class FirstMeanPooler(Pooler):
    """The first token beside the mean of the others: (B, 2D), [x_1; 1/(N-1) Σ_{n>1} x_n].

    *Source:* Oquab et al. (DINOv2), TMLR 2024, the features of its linear probes.
    """

    def __init__(self, width: int) -> None:
        super().__init__(2 * width)
        self.mean = MeanPooler(width)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return torch.cat([tokens[:, 0], self.mean(tokens[:, 1:], mask[:, 1:])], dim=1)


class AttentionPooler(Pooler):
    """Σ_n a_n x_n, a = softmax_n(wᵀ tanh(V x_n)).

    *Source:* Ilse et al., Attention-based Deep Multiple Instance Learning, ICML 2018, eq. 8.
    """

    def __init__(self, width: int, *, hidden: int = 256) -> None:
        super().__init__(width)
        self.score = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        scores = self.score(tokens).squeeze(-1).masked_fill(~mask, float("-inf"))
        return torch.einsum("bn,bnd->bd", scores.softmax(1), tokens)


class GPOPooler(Pooler):
    """Generalised pooling: the values of each dimension, sorted downwards, under learnt weights of their ranks.

    The weights of N ranks come from sinusoidal positions (32) → bidirectional GRU (32) → mean of both directions →
    linear → softmax(· / 0.1); they depend on N alone, so that mean, max and everything between can be learnt.

    *Source:* Chen et al. (VSE∞), CVPR 2021, sec. 4.
    """

    def __init__(self, width: int, *, hidden: int = 32, temperature: float = 0.1) -> None:
        super().__init__(width)
        self.hidden = hidden
        self.temperature = temperature
        self.gru = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        self.score = nn.Linear(hidden, 1, bias=False)

    def weights(self, lengths: Tensor, *, longest: int) -> Tensor:
        """(U, longest) weights of the ranks of ``lengths`` (U,) tokens, 0 beyond."""
        positions = _sinusoids(longest, self.hidden, like=self.score.weight)
        packed = pack_padded_sequence(
            positions.expand(lengths.shape[0], -1, -1), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        states, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=longest)
        scores = self.score(0.5 * (states[..., : self.hidden] + states[..., self.hidden :])).squeeze(-1)
        beyond = torch.arange(longest, device=scores.device)[None, :] >= lengths[:, None].to(scores.device)
        weights: Tensor = (scores / self.temperature).masked_fill(beyond, float("-inf")).softmax(1)
        return weights

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        ordered = tokens.masked_fill(~mask.unsqueeze(-1), float("-inf")).sort(dim=1, descending=True).values
        ordered = ordered.masked_fill(ordered == float("-inf"), 0.0)
        lengths, inverse = mask.sum(1).clamp_min(1).unique(return_inverse=True)  # type: ignore[no-untyped-call]
        weights = self.weights(lengths, longest=tokens.shape[1])[inverse]
        return torch.einsum("bn,bnd->bd", weights.to(ordered.dtype), ordered)


def _sinusoids(count: int, width: int, *, like: Tensor) -> Tensor:
    places = torch.arange(count, device=like.device, dtype=like.dtype)[:, None]
    steps = torch.arange(0, width, 2, device=like.device, dtype=like.dtype)
    angles = places * torch.exp(-math.log(10000.0) / width * steps)
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
