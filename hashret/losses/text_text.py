"""Matching a caption to another caption of the same image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from torch import Tensor

from hashret.errors import ConfigError
from hashret.losses.base import BatchOutputs, PrefixLoss, PrefixOptions, Space, check_temperature, given, view
from hashret.losses.infonce import symmetric
from hashret.losses.triplet import Negatives, Softening, symmetric_hinge


@dataclass(frozen=True)
class TextTextOptions(PrefixOptions):
    """Options of ``text_text``.

    Args:
        form: ``triplet`` or ``infonce``.
        between: the space of the caption and that of the other caption.
        margin: α of the triplet, in cosine.
        negatives: of the triplet.
        softening: how a pair's target in [0, 1] shrinks the margin of the triplet.
        temperature: τ of InfoNCE.
    """

    form: Literal["triplet", "infonce"] = "triplet"
    between: tuple[Space, Space] = ("relaxed", "relaxed")
    margin: float = 0.2
    negatives: Negatives = "hardest"
    softening: Softening = "exponential"
    temperature: float = 1 / 15

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if not self.margin > 0:
            raise ConfigError(f"a margin must be above 0, and not {self.margin}")


class TextText(PrefixLoss):
    """The loss of image-text pairs on pairs of captions, s_ij = cos(t_i, t'_j), t'_i another caption of image i.

    ``triplet``: the hinges of ``triplet``; ``infonce``: those of ``infonce``, both ways each. Captions of one group
    are no negatives of each other.

    *Source:* Qin et al. (MVSEN), JCST 2024, the text-text task, with the losses of the image-text task.
    """

    Options: ClassVar[type] = TextTextOptions
    options: TextTextOptions
    reads_target = True
    needs = frozenset({"second_caption"})

    def at(self, outputs: BatchOutputs, n_bits: int) -> Tensor:
        options = self.options
        second = given(outputs.second, "another caption of each image")
        if outputs.target is not None and outputs.second_target is not None:  # both captions have to be believed
            outputs = replace(outputs, target=outputs.target * outputs.second_target)
        cosines = view(outputs.text, options.between[0], n_bits) @ view(second, options.between[1], n_bits).T
        if options.form == "infonce":
            return symmetric(cosines, options.temperature, outputs)
        return symmetric_hinge(
            cosines, outputs, margin=options.margin, negatives=options.negatives, softening=options.softening
        )
