"""What a tower makes of a batch, and the three views of it: float, relaxed, code."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional


def sign(relaxed: Tensor) -> Tensor:
    """±1 with the gradient of ``relaxed`` (straight-through); +1 where it is above 0, as in a packed code.

    *Source:* Bengio et al., arXiv 1308.3432, sec. 4 (straight-through estimator).
    """
    hard = torch.where(relaxed > 0, 1.0, -1.0).to(relaxed.dtype)
    return relaxed + (hard - relaxed).detach()


@dataclass(frozen=True)
class TowerOutput:
    """A batch of B items after one tower.

    Args:
        logits: (B, n_bits) float32 from the hash head.
        pooled: (B, D) what the head was given.
        tokens: (B, N, D) after the mixers, or None.
        mask: (B, N) bool, true where a token counts, or None.
        beta: steepness of tanh.
    """

    logits: Tensor
    pooled: Tensor
    tokens: Tensor | None = None
    mask: Tensor | None = None
    beta: Tensor | float = 1.0

    @cached_property
    def relaxed(self) -> Tensor:
        """(B, n_bits) relaxed codes, tanh(beta · logits)."""
        return torch.tanh(self.beta * self.logits)

    def float_(self, n_bits: int | None = None) -> Tensor:
        """(B, n_bits) unit vectors: the logits z, cut to a prefix and l2-normalised, z[:n] / ‖z[:n]‖.

        *Source:* Faghri et al. (VSE++), BMVC 2018, sec. 2.1; prefixes: Kusupati et al., NeurIPS 2022, eq. 1.
        """
        return functional.normalize(self.logits[:, :n_bits], dim=1)

    def code(self, n_bits: int | None = None) -> Tensor:
        """(B, n_bits) ±1 with the gradient of the relaxed codes."""
        return self._signs[:, :n_bits]

    @cached_property
    def _signs(self) -> Tensor:
        return sign(self.relaxed)
