"""The modality adversary: codes from which a classifier cannot tell images from texts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from hashret.errors import ConfigError
from hashret.losses.base import BatchOutputs, Dims, Loss, Space


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return -ctx.scale * gradients[0], None


def reverse_gradient(x: Tensor, *, scale: float) -> Tensor:
    """``x`` itself, whose gradient is multiplied by ``-scale``.

    *Source:* Ganin & Lempitsky, ICML 2015, eq. 9-10.
    """
    reversed_x: Tensor = _Reverse.apply(x, scale)  # type: ignore[no-untyped-call]
    return reversed_x


def ramp(progress: float, *, top: float) -> float:
    """λ(p) = top · (2 / (1 + e^(-10p)) - 1), from 0 to almost ``top``.

    *Source:* Ganin & Lempitsky, ICML 2015, sec. 4.
    """
    return top * (2 / (1 + math.exp(-10 * progress)) - 1)


class ModalityHead(nn.Module):
    """Classifier (B, n_bits) → (B,) logit of "this is an image": n_bits → 512 → 256 → 1, LeakyReLU, dropout 0.2.

    *Source:* the modality classifier of Wang et al. (ACMR), ACM MM 2017; the sizes are ours.
    """

    def __init__(self, n_bits: int, *, hidden: int = 512, dropout: float = 0.2) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_bits, hidden),
            nn.LeakyReLU(0.2),
            nn.Dropout(dropout),
            nn.Linear(hidden, max(hidden // 2, 1)),
            nn.LeakyReLU(0.2),
            nn.Linear(max(hidden // 2, 1), 1),
        )

    def forward(self, codes: Tensor) -> Tensor:
        logits: Tensor = self.layers(codes).squeeze(1)
        return logits


@dataclass(frozen=True)
class AdversaryOptions:
    """Options of ``adversary``.

    Args:
        mode: ``reverse``: classifier and towers learn in one step through a reversed gradient; ``alternate``: the
            classifier learns from detached codes, and the towers from flipped labels (make the steps take turns
            with a stage's key ``alternate``).
        top: λ_max, the largest weight of what the towers are given.
        ramp: whether λ rises from 0 over the stage; else it is ``top`` throughout.
        hidden: width of the classifier.
        dropout: of the classifier.
        space: what the classifier sees.
    """

    mode: Literal["reverse", "alternate"] = "reverse"
    top: float = 0.1
    ramp: bool = True
    hidden: int = 512
    dropout: float = 0.2
    space: Space = "relaxed"

    def __post_init__(self) -> None:
        if self.hidden < 1 or not 0 <= self.dropout < 1 or self.top < 0:
            raise ConfigError("an adversary needs hidden >= 1, 0 <= dropout < 1 and top >= 0")


class Adversary(Loss):
    """Adversarial modality classification on the codes.

    L_D = -1/(2B) Σ_i [ log D(f_i) + log(1 - D(g_i)) ]. ``reverse``: L = L_D on codes whose gradient is multiplied by
    -λ. ``alternate``: L = L_D(detached codes) + λ·L_flip with D fixed, L_flip = -1/(2B) Σ_i [ log(1 - D(f_i)) +
    log D(g_i) ] (the non-saturating form).

    *Source:* Wang et al. (ACMR), ACM MM 2017, eq. 1; Liu et al. (modality-invariant image-text embedding), TOMM 2019.
    """

    Options: ClassVar[type] = AdversaryOptions
    options: AdversaryOptions

    def __init__(self, options: AdversaryOptions, dims: Dims) -> None:
        super().__init__(options, dims)
        self.classifier = ModalityHead(dims.n_bits, hidden=options.hidden, dropout=options.dropout)

    def forward(self, outputs: BatchOutputs, *, progress: float = 0.0) -> Tensor:
        scale = ramp(progress, top=self.options.top) if self.options.ramp else self.options.top
        sides = [self._space(outputs.image), self._space(outputs.text)]
        codes = torch.cat(sides)
        labels = torch.cat([codes.new_ones(len(sides[0])), codes.new_zeros(len(sides[1]))])
        if self.options.mode == "reverse":
            logits = self.classifier(reverse_gradient(codes, scale=scale))
            return functional.binary_cross_entropy_with_logits(logits, labels)
        judged = functional.binary_cross_entropy_with_logits(self.classifier(codes.detach()), labels)
        fixed = {name: value.detach() for name, value in self.classifier.named_parameters()}
        fooled = functional_call(self.classifier, fixed, (codes,))
        return judged + scale * functional.binary_cross_entropy_with_logits(fooled, 1 - labels)

    def _space(self, side: Any) -> Tensor:
        if self.options.space == "float":
            vectors: Tensor = side.float_()
        else:
            vectors = side.relaxed if self.options.space == "relaxed" else side.code()
        return vectors
