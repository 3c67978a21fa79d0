"""Small batches for the tests of losses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hashret.losses import BatchOutputs
from hashret.model import TowerOutput

Make = Callable[..., BatchOutputs]


@pytest.fixture
def batch() -> Make:
    """A batch from two (B, K) matrices of logits; other fields by keyword."""

    def make(image: Tensor, text: Tensor, *, beta: float = 1.0, group: Tensor | None = None, **fields: object):
        group = torch.arange(len(image)) if group is None else group
        sides = (TowerOutput(logits=x, pooled=x, beta=beta) for x in (image, text))
        return BatchOutputs(*sides, group=group, **fields)

    return make


@pytest.fixture
def logits() -> tuple[Tensor, Tensor]:
    """Two (5, 8) float64 matrices that want a gradient, with a pair a row."""
    generator = torch.Generator().manual_seed(3)
    image = torch.randn(5, 8, generator=generator, dtype=torch.float64)
    text = image + 0.8 * torch.randn(5, 8, generator=generator, dtype=torch.float64)
    return image.requires_grad_(), text.requires_grad_()
