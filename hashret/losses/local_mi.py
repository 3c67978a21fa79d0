"""Local against global: every part of an item is told from the parts of other items by the item's own vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from hashret.errors import ConfigError
from hashret.losses.base import (
    BatchOutputs,
    Dims,
    PrefixLoss,
    PrefixOptions,
    Side,
    Space,
    check_temperature,
    given,
    view,
)


@dataclass(frozen=True)
class LocalMIOptions(PrefixOptions):
    """Options of ``local_mi``.

    Args:
        space: of the global vectors.
        temperature: τ.
        max_tokens: tokens used of an item, taken evenly from first to last; B·B·``max_tokens`` similarities are held
            for each prefix and modality.
    """

    space: Space = "float"
    temperature: float = 1 / 15
    max_tokens: int = 16

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if self.max_tokens < 1:
            raise ConfigError(f"max_tokens must be at least 1, and is {self.max_tokens}")


class LocalMI(PrefixLoss):
    """Mutual information between an item's tokens and its global vector, inside each modality, at every prefix.

    L = ½ Σ over both sides of mean_i mean_n -log( e(l_in, m_i) / ( e(l_in, m_i) + Σ_{j≠i,n'} e(l_jn', m_i) ) ),
    e(l, m) = exp(lᵀm / τ), m_i the item's vector and l_in the first bits of its n-th token's projection to ``n_bits``
    dimensions, normalised. Items of one group are no negatives of each other; tokens outside the mask do not count.

    *Source:* Yang et al. (TCL), CVPR 2022, sec. 3.3, without the momentum twin; Hjelm et al. (Deep InfoMax), ICLR 2019,
    sec. 3.2.
    """

    Options: ClassVar[type] = LocalMIOptions
    options: LocalMIOptions
    needs = frozenset({"tokens"})

    def __init__(self, options: LocalMIOptions, dims: Dims) -> None:
        super().__init__(options, dims)
        missing = [modality for modality in ("image", "text") if modality not in dims.token_widths]
        if missing:
            raise ConfigError(
                f"the loss local_mi needs tokens, and the tower of {' and '.join(missing)} gives pooled features only; "
                f"set its encoder's output to tokens"
            )
        widths = {modality: dims.token_widths[modality] for modality in ("image", "text")}
        self.projections = nn.ModuleDict({name: nn.Linear(width, dims.n_bits) for name, width in widths.items()})

    def forward(self, outputs: BatchOutputs, *, progress: float = 0.0) -> Tensor:
        same = outputs.group[:, None] == outputs.group[None, :]
        terms = []
        for name, side in (("image", outputs.image), ("text", outputs.text)):
            tokens, mask = spread(given(side.tokens, "tokens"), side.mask, most=self.options.max_tokens)
            projection = self.projections[name]
            local = projection(tokens.to(next(projection.parameters()).dtype))
            terms += [share * self._side(local, mask, side, n_bits, same, outputs) for n_bits, share in self.lengths]
        return 0.5 * torch.stack(terms).sum()

    def _side(
        self, local: Tensor, mask: Tensor, side: Side, n_bits: int, same: Tensor, outputs: BatchOutputs
    ) -> Tensor:
        """The loss of one modality at one prefix; local is (B, N, K), mask (B, N), same (B, B)."""
        parts = functional.normalize(local[:, :, :n_bits], dim=2)
        scores = parts @ view(side, self.options.space, n_bits).T / self.options.temperature  # (B, N, B): j, n', i
        positive = scores.diagonal(dim1=0, dim2=2).T  # (B, N)
        no_negative = same[:, None, :] | ~mask[:, :, None]
        negative = scores.masked_fill(no_negative, float("-inf")).flatten(0, 1).logsumexp(dim=0)  # (B,)
        costs = (torch.logaddexp(positive, negative[:, None]) - positive) * mask
        return (costs.sum(dim=1) / mask.sum(dim=1).clamp_min(1)).mean()


def spread(tokens: Tensor, mask: Tensor | None, *, most: int) -> tuple[Tensor, Tensor]:
    """At most ``most`` tokens of each item, evenly from its first one to its last one inside the mask.

    Args:
        tokens: (B, N, D).
        mask: (B, N) bool, or None for all.
        most: M.

    Returns:
        (B, min(N, M), D) tokens and their (B, min(N, M)) mask.
    """
    if mask is None:
        mask = tokens.new_ones(tokens.shape[:2], dtype=torch.bool)
    if tokens.shape[1] <= most:
        return tokens, mask
    first = (~mask).to(torch.uint8).argsort(dim=1, stable=True)  # the tokens that count, in their order
    counts = mask.sum(dim=1, keepdim=True)
    steps = torch.arange(most, device=tokens.device)[None, :]
    places = torch.where(counts > most, steps * counts // most, steps)
    chosen = first.gather(1, places)
    return tokens.gather(1, chosen[:, :, None].expand(-1, -1, tokens.shape[2])), mask.gather(1, chosen)
