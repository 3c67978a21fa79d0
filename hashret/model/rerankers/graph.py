"""The graph re-ranker: how similar each word is to what it finds in the picture, reasoned over as a graph."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from hashret.model.config import RerankerConfig
from hashret.model.rerankers.base import Projected, Reranker, silent

SLOPE = 0.1  # of the leaky ReLU before similarities are normalised


def attended(image: Tensor, text: Tensor, image_mask: Tensor, text_mask: Tensor, *, sharpness: float) -> Tensor:
    """What each word finds in the picture: (P, L, D) unit vectors.

    s_nl = LeakyReLU(cos(v_n, t_l)), ŝ_nl = s_nl / √Σ_l s_nl², a_ln = softmax_n(λ ŝ_nl), c_l = Σ_n a_ln v_n / ‖·‖

    Args:
        image: (P, N, D) unit vectors of image tokens.
        text: (P, L, D) unit vectors of words.
        image_mask: (P, N) bool.
        text_mask: (P, L) bool.
        sharpness: λ.

    *Source:* Lee et al. (SCAN), ECCV 2018, text-image stacked cross attention, with the leaky ReLU of their
    implementation in the place of the ReLU.
    """
    similar = functional.leaky_relu(image @ text.transpose(1, 2), SLOPE) * text_mask[:, None, :]
    weights = sharpness * functional.normalize(similar, dim=2)
    # a large negative number, not minus infinity: a picture without tokens gives a mean of zeros, not NaN
    weights = weights.masked_fill(~image_mask.unsqueeze(-1), torch.finfo(weights.dtype).min).softmax(dim=1)
    return functional.normalize(weights.transpose(1, 2) @ image, dim=2)


class Similarity(nn.Module):
    """How x and y are alike, as a vector: W |x - y|² / ‖W |x - y|²‖.

    *Source:* Diao et al. (SGRAF), AAAI 2021, similarity representation learning.
    """

    def __init__(self, width: int, similarity_width: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, similarity_width)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return functional.normalize(self.project((x - y).square()), dim=-1)


class ReasoningStep(nn.Module):
    """Nodes take up each other: S ← ReLU(W (E S)), E = softmax((W_q S)(W_k S)ᵀ).

    *Source:* Diao et al. (SGRAF), AAAI 2021, similarity graph reasoning.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.out = (nn.Linear(width, width) for _ in range(3))

    def forward(self, nodes: Tensor, mask: Tensor) -> Tensor:
        """(P, K, D) nodes after one step; one that is masked out in (P, K) bool is never taken up."""
        edges = self.query(nodes) @ self.key(nodes).transpose(1, 2)
        edges = edges.masked_fill(~mask[:, None, :], float("-inf")).softmax(dim=2)
        return torch.relu(self.out(edges @ nodes))


class GraphReranker(Reranker):
    """Nodes are the similarity of the whole picture and text, and of each word and what it finds in the picture.

    After ``steps`` of reasoning the node of the whole gives the logit. The whole is the float vector of the hash
    heads, the one space that both towers already share.

    *Source:* the attention of Lee et al. (SCAN), ECCV 2018, and the similarity graph of Diao et al. (SGRAF), AAAI 2021,
    whose whole is a pooling of the tokens where here it is the float vector.
    """

    reads = ("width", "steps", "similarity_width", "sharpness", "dropout")

    def __init__(self, config: RerankerConfig, *, widths: Mapping[str, int], n_bits: int) -> None:
        super().__init__(config, widths=widths, n_bits=n_bits)
        self.whole = Similarity(n_bits, config.similarity_width)
        self.words = Similarity(config.width, config.similarity_width)
        self.steps = nn.ModuleList(ReasoningStep(config.similarity_width) for _ in range(config.steps))
        self.dropout = nn.Dropout(config.dropout)
        self.read = silent(config.similarity_width)

    def evidence(self, image: Projected, text: Projected) -> Tensor:
        """(P,) what the node of the whole says of each pair."""
        seen, said = functional.normalize(image.tokens, dim=2), functional.normalize(text.tokens, dim=2)
        found = attended(seen, said, image.mask, text.mask, sharpness=self.config.sharpness)
        whole = self.whole(image.vector, text.vector)
        nodes = torch.cat([whole[:, None], self.words(said, found)], dim=1)
        mask = functional.pad(text.mask, (1, 0), value=True)
        for step in self.steps:
            nodes = step(nodes, mask)
        evidence: Tensor = self.read(self.dropout(nodes[:, 0])).squeeze(-1)
        return evidence
