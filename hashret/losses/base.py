"""What every loss sees and gives.

Must not know towers or trainers: a side of the batch is anything with logits, relaxed codes and the views below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from hashret.errors import ConfigError, TrainingError

T = TypeVar("T")
Space = Literal["float", "relaxed", "code"]
Need = Literal["labels", "matcher", "momentum", "second_caption", "teacher", "tokens"]


class Side(Protocol):
    """What one tower made of a batch of B items."""

    @property
    def tokens(self) -> Tensor | None:
        """(B, N, D) features of the parts, or None where the encoder gives pooled features only."""

    @property
    def mask(self) -> Tensor | None:
        """(B, N) bool, true where a token counts."""

    @property
    def pooled(self) -> Tensor:
        """(B, D) what the hash head was given."""

    @property
    def logits(self) -> Tensor:
        """(B, n_bits) what the hash head gave."""

    @property
    def relaxed(self) -> Tensor:
        """(B, n_bits) in (-1, 1)."""

    def float_(self, n_bits: int | None = None) -> Tensor:
        """(B, n_bits) logits, cut to a prefix and l2-normalised."""

    def code(self, n_bits: int | None = None) -> Tensor:
        """(B, n_bits) in {-1, +1}, with the gradient of the relaxed codes."""


@dataclass(frozen=True)
class Keys:
    """What the momentum twin made of this batch and of earlier ones; no gradient reaches it.

    Args:
        image: B rows, row i the twin's view of image i of the batch.
        text: likewise of the texts.
        image_queue: Q rows of earlier batches, Q from 0 to the length of the queue; only logits and their views.
        text_queue: likewise, row j the pair of row j of ``image_queue``.
        group: (Q,) int64, the groups of the queued rows.
    """

    image: Side
    text: Side
    image_queue: Side
    text_queue: Side
    group: Tensor


@dataclass(frozen=True)
class BatchOutputs:
    """One batch of B pairs after both towers.

    Args:
        image: the image side; row i belongs to row i of ``text``.
        text: the text side.
        group: (B,) int64; rows of one group show the same thing and are no negatives of each other.
        labels: (B, C) bool, or None.
        target: (B,) in [0, 1], how far a pair is believed to match, or None for 1.
        teacher: unit vectors ((B, d), (B, d)) of a float teacher for image and text, or None.
        second: the text side of another caption of each image, or None where no loss of the stage needs it.
        second_target: as ``target``, of ``second``.
        keys: the momentum twin's, or None likewise.
        match: from (P,) int64 rows of images and of texts of the batch to (P,) logits of the stage's re-ranker that
            they match, or None likewise.
    """

    image: Side
    text: Side
    group: Tensor
    labels: Tensor | None = None
    target: Tensor | None = None
    teacher: tuple[Tensor, Tensor] | None = None
    second: Side | None = None
    second_target: Tensor | None = None
    keys: Keys | None = None
    match: Callable[[Tensor, Tensor], Tensor] | None = None

    @cached_property
    def excluded(self) -> Tensor | None:
        """(B, B) bool, true off the diagonal where two rows are of one group: neither positive nor negative.

        None where no two rows are.
        """
        same = self.group[:, None] == self.group[None, :]
        same.fill_diagonal_(False)
        return same if bool(same.any()) else None


@dataclass(frozen=True)
class Dims:
    """The sizes of the model and the data, for losses with parameters of their own.

    Args:
        n_bits: length of a whole code.
        code_lengths: prefixes that are codes of their own.
        n_labels: number of labels; 0: the data has none.
        pooled_widths: of ``Side.pooled`` by modality.
        token_widths: of ``Side.tokens`` by modality; empty where a tower has none.
    """

    n_bits: int
    code_lengths: tuple[int, ...] = ()
    n_labels: int = 0
    pooled_widths: Mapping[str, int] = field(default_factory=dict)
    token_widths: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class PrefixOptions:
    """Options of every loss that is applied at prefixes of the code.

    Args:
        lengths: prefixes in bits; empty: the model's code lengths.
        length_weights: one a length, scaled to sum to 1; empty: equal.
    """

    lengths: tuple[int, ...] = ()
    length_weights: tuple[float, ...] = ()


class Loss(nn.Module):
    """A loss: ``forward(outputs, progress=…)`` gives a scalar.

    ``Options`` is the frozen dataclass of what a configuration may set; parameters of a loss (a temperature, a
    classifier) are trained in every stage that uses it. ``needs`` names what the loss reads of a batch beyond both
    sides and groups; the trainer provides it, or refuses the run with a sentence.
    """

    Options: ClassVar[type]
    needs: frozenset[Need] = frozenset()
    reads_target: ClassVar[bool] = False  # whether it believes a pair by ``BatchOutputs.target``

    def __init__(self, options: Any, dims: Dims) -> None:
        super().__init__()
        self.options = options
        self.dims = dims

    def forward(self, outputs: BatchOutputs, *, progress: float = 0.0) -> Tensor:
        """The loss of one batch.

        Args:
            outputs: the batch.
            progress: how far the stage is, from 0 to 1.
        """
        raise NotImplementedError


class PrefixLoss(Loss):
    """A loss averaged over prefixes of the code, so that every prefix is a good code (nested codes).

    L = Σ_n w_n · L(first n bits), Σ w_n = 1.

    *Source:* Kusupati et al., Matryoshka Representation Learning, NeurIPS 2022, eq. 1, applied to bits.
    """

    def __init__(self, options: PrefixOptions, dims: Dims) -> None:
        super().__init__(options, dims)
        lengths = options.lengths or dims.code_lengths or (dims.n_bits,)
        if any(not 1 <= length <= dims.n_bits for length in lengths):
            raise ConfigError(f"a loss cannot be applied at {list(lengths)} bits of a code of {dims.n_bits} bits")
        weights = options.length_weights or (1.0,) * len(lengths)
        if len(weights) != len(lengths) or not min(weights) >= 0 or not 0 < sum(weights) < math.inf:
            raise ConfigError(
                f"length_weights must be {len(lengths)} numbers of at least 0, one a length of {list(lengths)}, "
                f"and not {list(weights)}"
            )
        self.lengths = tuple((length, weight / sum(weights)) for length, weight in zip(lengths, weights))

    def forward(self, outputs: BatchOutputs, *, progress: float = 0.0) -> Tensor:
        terms = [weight * self.at(outputs, n_bits) for n_bits, weight in self.lengths]
        return torch.stack(terms).sum()

    def at(self, outputs: BatchOutputs, n_bits: int) -> Tensor:
        """The loss on the first ``n_bits`` bits."""
        raise NotImplementedError


def view(side: Side, space: Space, n_bits: int) -> Tensor:
    """(B, n_bits) unit vectors of one side: their inner products are cosines in [-1, 1].

    ``float``: the normalised logits. ``relaxed``: tanh codes over √n, which is a cosine where they are saturated.
    ``code``: ±1 over √n, so that 1 - cosine is twice the Hamming distance over n.
    """
    if space == "float":
        return side.float_(n_bits)
    bits = side.relaxed[:, :n_bits] if space == "relaxed" else side.code(n_bits)
    return bits / math.sqrt(n_bits)


def similarity(outputs: BatchOutputs, between: tuple[Space, Space], n_bits: int) -> Tensor:
    """(B, B) cosines: row i an image in space ``between[0]``, column j a text in space ``between[1]``."""
    return view(outputs.image, between[0], n_bits) @ view(outputs.text, between[1], n_bits).T


def given(value: T | None, what: str) -> T:
    """``value``, which a loss asked for through ``needs``.

    Raises:
        TrainingError: the batch has none.
    """
    if value is None:
        raise TrainingError(f"a loss of this stage reads {what}, and the batch has none")
    return value


def check_temperature(temperature: float) -> None:
    """Raises ConfigError where τ is not above 0, or endless."""
    if not 0 < temperature < math.inf:
        raise ConfigError(f"a temperature must be a number above 0, and not {temperature}")


class Temperature(nn.Module):
    """τ, a constant, or a parameter that is kept in [low, high]; calling it gives τ as it is now.

    The parameter itself is brought back into its bounds before each use, so that a step which left them can be undone
    by the next gradient.
    """

    def __init__(self, value: float, *, learnable: bool, low: float, high: float) -> None:
        super().__init__()
        if learnable and not low <= value <= high:
            raise ConfigError(f"a temperature that is learnt begins from {low} to {high}, and not at {value}")
        self.value, self.bounds = value, (math.log(low), math.log(high))
        self.log = nn.Parameter(torch.tensor(value).log()) if learnable else None

    def forward(self) -> Tensor | float:
        if self.log is None:
            return self.value
        with torch.no_grad():
            self.log.clamp_(*self.bounds)
        return self.log.exp()
