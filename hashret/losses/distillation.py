"""Distillation: similarities of codes follow those of float vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from hashret.errors import TrainingError
from hashret.losses.base import (
    BatchOutputs,
    Dims,
    PrefixLoss,
    PrefixOptions,
    Space,
    check_temperature,
    view,
)

Teacher = Literal["teacher", "float", "features"]


@dataclass(frozen=True)
class DistillationOptions(PrefixOptions):
    """Options of ``distillation``.

    Args:
        teacher: ``teacher``: vectors of the run's teacher model; ``float``: the model's own float vectors at
            full length, without gradient; ``features``: the pooled features, each modality against itself.
        space: the student's space.
        match: ``softmax``: cross-entropy of the rows; ``square``: squared difference of the cosines.
        temperature: τ of the softmax.
    """

    teacher: Teacher = "float"
    space: Space = "code"
    match: Literal["softmax", "square"] = "softmax"
    temperature: float = 1 / 15

    def __post_init__(self) -> None:
        check_temperature(self.temperature)


class Distillation(PrefixLoss):
    """The student's (B, B) cosines S follow the teacher's T.

    softmax: L = ½ [ CE(softmax(T/τ), softmax(S/τ)) over rows + the same over columns ]; square: L = mean (S - T)².
    With ``features`` T holds the cosines of the inputs inside each modality (the distances of the original space are
    preserved), and L is the mean over both modalities.

    *Source:* softmax: Hinton et al., arXiv 1503.02531, and Li et al. (ALBEF), NeurIPS 2021, eq. 6; square: Su et al.
    (DJSRH), ICCV 2019, eq. 8.
    """

    Options: ClassVar[type] = DistillationOptions
    options: DistillationOptions

    def __init__(self, options: DistillationOptions, dims: Dims) -> None:
        super().__init__(options, dims)
        if options.teacher == "teacher":
            self.needs = frozenset({"teacher"})

    def at(self, outputs: BatchOutputs, n_bits: int) -> Tensor:
        image = view(outputs.image, self.options.space, n_bits)
        text = view(outputs.text, self.options.space, n_bits)
        if self.options.teacher == "features":
            sides = ((outputs.image.pooled, image), (outputs.text.pooled, text))
            inner = [self._match(_cosines(pooled, pooled), student @ student.T, outputs) for pooled, student in sides]
            return 0.5 * (inner[0] + inner[1])
        if self.options.teacher == "float":
            target = _cosines(outputs.image.float_(), outputs.text.float_())
        elif outputs.teacher is None:
            raise TrainingError("a distillation loss asks for a teacher, and the run has none; set its key `teacher`")
        else:
            target = _cosines(*outputs.teacher)
        return self._match(target, image @ text.T, outputs)

    def _match(self, target: Tensor, student: Tensor, outputs: BatchOutputs) -> Tensor:
        if self.options.match == "square":
            return (student - target).square().mean()
        tau = self.options.temperature
        directions = ((target, student), (target.T, student.T))
        rows = [-((t / tau).softmax(dim=1) * (s / tau).log_softmax(dim=1)).sum(dim=1) for t, s in directions]
        return 0.5 * (rows[0] + rows[1]).mean()


def _cosines(a: Tensor, b: Tensor) -> Tensor:
    with torch.no_grad():
        return functional.normalize(a.float(), dim=1) @ functional.normalize(b.float(), dim=1).T
