"""Contrastive losses: InfoNCE between any two spaces, and the joint recipe for straight-through codes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hashret.errors import ConfigError
from hashret.losses.base import (
    BatchOutputs,
    Dims,
    PrefixLoss,
    PrefixOptions,
    Space,
    Temperature,
    check_temperature,
    similarity,
)


def info_nce(
    cosines: Tensor,
    *,
    temperature: Tensor | float,
    excluded: Tensor | None = None,
    target: Tensor | None = None,
    soft: Tensor | None = None,
) -> Tensor:
    """InfoNCE with rows as queries and the diagonal as positives.

    L = -mean_i Σ_j y_ij log softmax_j(s_ij / τ), y the identity, or y_i = t_i·e_i + (1 - t_i)·p_i with p the soft
    targets (by default the model's own softmax, without gradient: then the gradient is that of the positive term
    weighted by t_i).

    Args:
        cosines: (…, B, C) similarities s; columns from B on are more negatives.
        temperature: τ.
        excluded: (B, C) bool, true where a column is no negative of a row (the diagonal must be false).
        target: (B,) t in [0, 1]; None: 1.
        soft: (…, B, C) rows summing to 1; used where ``target`` is below 1.

    Returns:
        (…) one loss a matrix.

    *Source:* van den Oord et al., arXiv 1807.03748, eq. 4; soft targets: Li et al. (ALBEF), NeurIPS 2021, eq. 6.
    """
    logits = cosines / temperature
    if excluded is not None:
        logits = logits.masked_fill(excluded, float("-inf"))
    log_p = logits.log_softmax(dim=-1)
    rows = -log_p.diagonal(dim1=-2, dim2=-1)
    if target is not None:
        p = log_p.detach().exp() if soft is None else soft
        # an excluded column has p = 0 and log p = -inf; its term is 0
        cross = -(p * log_p.masked_fill(torch.isneginf(log_p), 0.0)).sum(dim=-1)
        rows = target * rows + (1 - target) * cross
    return rows.mean(dim=-1)


def symmetric(cosines: Tensor, temperature: Tensor | float, outputs: BatchOutputs) -> Tensor:
    """The mean of InfoNCE from image to text and from text to image, for each of (…, B, B) matrices."""
    both = [
        info_nce(
            matrix,
            temperature=temperature,
            excluded=outputs.excluded,
            target=outputs.target,
        )
        for matrix in (cosines, cosines.transpose(-1, -2))
    ]
    return 0.5 * (both[0] + both[1])


@dataclass(frozen=True)
class InfoNCEOptions(PrefixOptions):
    """Options of ``infonce``.

    Args:
        between: the space of the image side and that of the text side.
        temperature: τ (its first value where it is learnt).
        learnable: whether τ is a parameter; it is kept in [0.01, 0.5].
    """

    between: tuple[Space, Space] = ("float", "float")
    temperature: float = 1 / 15
    learnable: bool = False

    def __post_init__(self) -> None:
        check_temperature(self.temperature)


class InfoNCE(PrefixLoss):
    """Symmetric InfoNCE between two spaces, at every prefix.

    L = ½ [NCE(s) + NCE(sᵀ)], s_ij = cos(image_i in space a, text_j in space b). Two rows of one group are not
    negatives of each other. A pair that is believed to match only by t has the targets t·e_i + (1 - t)·softmax(s_i/τ).

    *Source:* Radford et al. (CLIP), ICML 2021, fig. 3; ``info_nce`` for the rows.
    """

    Options: ClassVar[type] = InfoNCEOptions
    options: InfoNCEOptions
    reads_target = True

    def __init__(self, options: InfoNCEOptions, dims: Dims) -> None:
        super().__init__(options, dims)
        self.temperature = Temperature(options.temperature, learnable=options.learnable, low=0.01, high=0.5)

    def at(self, outputs: BatchOutputs, n_bits: int) -> Tensor:
        return symmetric(similarity(outputs, self.options.between, n_bits), self.temperature(), outputs)


@dataclass(frozen=True)
class JointInfoNCEOptions(PrefixOptions):
    """Options of ``joint_infonce``.

    Args:
        temperature: τ.
        spread: s; the temperature at n bits is τ_n = √(τ² + s²/n), as the cosine of n random bits spreads by 1/√n. It
            keeps short codes from learning what only long ones can say.
        float_weight: weight of float against float.
        code_weight: weight of code against code.
        cross_weight: weight of each of float against code and code against float.
        settled: prefixes in bits that the losses of longer codes take as they are, without a gradient: they are trained
            for their own and shorter lengths alone. Nothing where no code is longer.
    """

    temperature: float = 1 / 15
    float_weight: float = 0.5
    code_weight: float = 0.5
    cross_weight: float = 0.25
    spread: float = 0.0
    settled: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if not self.spread >= 0:
            raise ConfigError(f"the spread of a temperature must not be negative, and is {self.spread}")
        weights = (self.float_weight, self.code_weight, self.cross_weight)
        if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
            raise ConfigError(
                f"float_weight, code_weight and cross_weight are numbers of 0 or more, one of them above 0, and not "
                f"{', '.join(map(str, weights))}"
            )


class JointInfoNCE(PrefixLoss):
    """One contrastive loss over float vectors, straight-through codes and both mixtures.

    L = w_f·NCE(f, g) + w_c·NCE(b_f, b_g) + w_x·NCE(f, b_g) + w_x·NCE(b_f, g), f and g the normalised logits,
    b = sign with the gradient of tanh, each NCE symmetric. The float terms keep the codes from over-fitting; the
    cross terms train the search of stored codes with an unquantised query. Targets below 1 as in ``infonce``.

    *Source:* own; straight-through: Bengio et al., arXiv 1308.3432; float query against binary documents:
    Yamada et al. (BPR), ACL 2021, sec. 3.
    """

    Options: ClassVar[type] = JointInfoNCEOptions
    options: JointInfoNCEOptions
    reads_target = True

    def __init__(self, options: JointInfoNCEOptions, dims: Dims) -> None:
        super().__init__(options, dims)
        applied = [n for n, _ in self.lengths]
        if strange := {n for n in options.settled if n < max(applied)} - set(applied):
            raise ConfigError(f"only lengths that a loss is applied at can be settled, and not {sorted(strange)}")
        self.temperatures = [math.sqrt(options.temperature**2 + options.spread**2 / n) for n in applied]

    def forward(self, outputs: BatchOutputs, *, progress: float = 0.0) -> Tensor:
        options = self.options
        sides = (outputs.image, outputs.text)
        logits = [side.logits for side in sides]
        halves = [torch.stack([side.logits, side.code()]) for side in sides]  # (2, B, K) each
        weights = logits[0].new_tensor(
            [[options.float_weight, options.cross_weight], [options.cross_weight, options.code_weight]]
        )
        size, before = len(logits[0]), 0
        # products and squared norms of a prefix are those of the shorter one and of the bits between
        products = logits[0].new_zeros(2 * size, 2 * size)
        squares = [x.new_zeros(size) for x in logits]
        terms = []
        for (n_bits, share), temperature in sorted(zip(self.lengths, self.temperatures)):
            parts = [half[:, :, before:n_bits].flatten(0, 1) for half in halves]
            products = products + parts[0] @ parts[1].T
            squares = [s + x[:, before:n_bits].square().sum(dim=1) for s, x in zip(squares, logits)]
            norms = [torch.cat([s.clamp_min(1e-24).sqrt(), torch.full_like(s, n_bits**0.5)]) for s in squares]
            cosines = products / (norms[0][:, None] * norms[1][None, :])
            before = n_bits
            quarters = cosines.view(2, size, 2, size).transpose(1, 2)  # (image space, text space, B, B)
            terms.append(share * (weights * symmetric(quarters, temperature, outputs)).sum())
            if n_bits in options.settled:
                products, squares = products.detach(), [s.detach() for s in squares]
        return torch.stack(terms).sum()
