"""Predicting an item's labels from its features or codes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from hashret.errors import ConfigError
from hashret.losses.base import BatchOutputs, Dims, Loss, Side, given


@dataclass(frozen=True)
class LabelBCEOptions:
    """Options of ``label_bce``.

    Args:
        sees: what the head sees: ``pooled`` features, ``relaxed`` codes, or the ``float`` vectors, the normalised
            logits times √K, so that their entries are of a code's size.
        shared: whether one head serves both modalities; not on pooled features, which differ between them.
        positive_weight: how many times an absent label's term a present one's counts; above 1 for rare labels.
    """

    sees: Literal["pooled", "relaxed", "float"] = "pooled"
    shared: bool = False
    positive_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.shared and self.sees == "pooled":
            raise ConfigError("one label head cannot serve the pooled features of both modalities; set sees: relaxed")
        if not self.positive_weight > 0:
            raise ConfigError(f"positive_weight must be above 0, and not {self.positive_weight}")


class LabelBCE(Loss):
    """Multi-label classification of each item, a linear head a modality.

    L = ½ Σ over both sides of mean_i 1/C Σ_c [ p·y_ic·softplus(-z_ic) + (1 - y_ic)·softplus(z_ic) ], z = W x + b,
    p ``positive_weight``.

    *Source:* Qin et al. (MVSEN), JCST 2024, the multi-label task, in its usual form.
    """

    Options: ClassVar[type] = LabelBCEOptions
    options: LabelBCEOptions
    needs = frozenset({"labels"})

    def __init__(self, options: LabelBCEOptions, dims: Dims) -> None:
        super().__init__(options, dims)
        if not dims.n_labels:
            raise ConfigError("the loss label_bce needs labels, and the data has none; label it, or set data.keywords")
        names = ("both",) if options.shared else ("image", "text")
        widths = {name: dims.pooled_widths[name] if options.sees == "pooled" else dims.n_bits for name in names}
        self.heads = nn.ModuleDict({name: nn.Linear(width, dims.n_labels) for name, width in widths.items()})

    def forward(self, outputs: BatchOutputs, *, progress: float = 0.0) -> Tensor:
        labels = given(outputs.labels, "labels")
        terms = []
        for name, side in (("image", outputs.image), ("text", outputs.text)):
            logits = self.heads["both" if self.options.shared else name](self._inputs(side))
            costs = functional.binary_cross_entropy_with_logits(
                logits,
                labels.to(logits.dtype),
                pos_weight=logits.new_tensor(self.options.positive_weight),
                reduction="none",
            )
            terms.append(costs.mean())
        return 0.5 * torch.stack(terms).sum()

    def _inputs(self, side: Side) -> Tensor:
        """(B, D) in the precision of the head."""
        if self.options.sees == "float":
            inputs = side.float_() * math.sqrt(self.dims.n_bits)
        else:
            inputs = side.pooled if self.options.sees == "pooled" else side.relaxed
        return inputs.to(next(self.parameters()).dtype)
