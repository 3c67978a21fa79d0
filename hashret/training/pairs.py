"""Features of paired items, and batches of them.

Features of all images lie in one table and those of all captions in another; a batch is two lists of rows. Which rows
a batch holds depends on a generator only, so that an epoch can be run again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hashret.encoders import Encoded
from hashret.errors import TrainingError


class FeatureTable(Protocol):
    """Rows of features behind an encoder's frozen part."""

    def __len__(self) -> int:
        """Number of rows."""

    def batch(self, rows: Tensor) -> Encoded:
        """The features of (B,) int64 ``rows``."""


class VectorTable:
    """One vector an item, in memory on any device.

    Args:
        vectors: (N, D) float32.
    """

    def __init__(self, vectors: Tensor) -> None:
        self.vectors = vectors

    def __len__(self) -> int:
        return len(self.vectors)

    def batch(self, rows: Tensor) -> Encoded:
        vectors = self.vectors.index_select(0, rows.to(self.vectors.device))
        return Encoded(vectors[:, None], torch.ones(len(rows), 1, dtype=torch.bool, device=vectors.device), vectors)

    def mixtures(self, rows: Tensor, weights: Tensor) -> Encoded:
        """Mixtures of rows: (B, C) int64 ``rows`` under (B, C) ``weights``."""
        device = self.vectors.device
        parts = self.vectors[rows.to(device)]
        mixed = torch.einsum("bc,bcd->bd", weights.to(device, parts.dtype), parts)
        return Encoded(mixed[:, None], torch.ones(len(rows), 1, dtype=torch.bool, device=device), mixed)


class Reordered:
    """A table whose row i is row ``order[i]`` of another one.

    Args:
        table: the other one.
        order: (N,) int64.
    """

    def __init__(self, table: FeatureTable, order: Tensor) -> None:
        self.table = table
        self.order = order

    def __len__(self) -> int:
        return len(self.order)

    def batch(self, rows: Tensor) -> Encoded:
        return self.table.batch(self.order[rows.cpu()])


class TableOn:
    """A table on the CPU (in memory or on disk) whose batches go to a device."""

    def __init__(self, table: FeatureTable, device: torch.device) -> None:
        self.table = table
        self.device = device

    def __len__(self) -> int:
        return len(self.table)

    def batch(self, rows: Tensor) -> Encoded:
        tokens, mask, pooled = self.table.batch(rows.cpu())
        pooled = None if pooled is None else pooled.to(self.device)
        return Encoded(tokens.to(self.device), mask.to(self.device), pooled)


@dataclass(frozen=True)
class PairFeatures:
    """Images and captions, and which belongs to which.

    Args:
        image: N rows.
        text: M rows, the captions of an image side by side.
        owner: (M,) int64, the image row of each caption, ascending; every image has at least one.
        labels: (N, C) bool, or None.
        teacher: float vectors ((N, d), (M, d)) of a teacher, or None.
    """

    image: FeatureTable
    text: FeatureTable
    owner: Tensor
    labels: Tensor | None = None
    teacher: tuple[Tensor, Tensor] | None = None

    def __post_init__(self) -> None:
        if len(self.owner) != len(self.text):
            raise TrainingError(f"{len(self.text)} captions have {len(self.owner)} owners; each needs one")
        counts = torch.bincount(self.owner, minlength=len(self.image))
        if len(counts) != len(self.image) or bool((counts == 0).any()) or bool((self.owner.diff() < 0).any()):
            raise TrainingError("every image needs at least one caption, and captions must be ordered by image")

    def with_captions(self, order: Tensor) -> PairFeatures:
        """The same images, the m-th caption place now held by caption ``order[m]``.

        Args:
            order: (M,) int64 rows of captions; a row may come more than once, or not at all.
        """
        text: FeatureTable
        if isinstance(self.text, VectorTable):
            text = VectorTable(self.text.vectors[order.to(self.text.vectors.device)])
        else:
            text = Reordered(self.text, order)
        teacher = self.teacher and (self.teacher[0], self.teacher[1][order])
        return replace(self, text=text, teacher=teacher)

    @property
    def owners(self) -> np.ndarray:
        """``owner`` as numpy, for the metrics."""
        return self.owner.cpu().numpy()


@dataclass(frozen=True)
class Draw:
    """The rows of one batch of B pairs: (B,) int64 each.

    Args:
        image: rows of images.
        text: rows of their captions.
        second: rows of another caption of each image (the same one where an image has one), or None.
    """

    image: Tensor
    text: Tensor
    second: Tensor | None = None


def draws(
    owner: Tensor,
    *,
    batch_size: int,
    captions: int,
    passes: int,
    generator: torch.Generator,
    second: bool = False,
) -> Iterator[Draw]:
    """Batches of pairs: in a pass every image comes once, with ``captions`` of its captions, drawn at random.

    A pass leaves out what does not fill a batch, unless it holds no full batch at all. With ``second`` every draw
    names another caption of each image too.
    """
    counts = torch.bincount(owner)
    starts = counts.cumsum(0) - counts
    n_images = len(counts)
    per_batch = images_of(n_images, batch_size=batch_size, captions=captions)
    for _ in range(passes):
        order = torch.randperm(n_images, generator=generator)
        first = (torch.rand(n_images, generator=generator) * counts).long().clamp_max(counts - 1)
        for begin in range(0, n_images - per_batch + 1, per_batch):
            image = order[begin : begin + per_batch].repeat_interleave(captions)
            turn = first[image] + torch.arange(captions).repeat(per_batch)
            text = starts[image] + turn % counts[image]
            if not second:
                yield Draw(image, text)
                continue
            others = (counts[image] - 1).clamp_min(1)
            further = 1 + (torch.rand(len(image), generator=generator) * others).long().clamp_max(others - 1)
            yield Draw(image, text, starts[image] + (turn + further) % counts[image])


def mixtures(owner: Tensor, draw: Draw, *, share: float) -> tuple[Tensor, Tensor]:
    """Rows and weights (B, C) that mix the captions of each drawn image, C the most captions of an image.

    A ``share`` of the pairs gets a uniform (Dirichlet) mixture, the others their drawn caption alone. Random numbers
    are torch's global ones.
    """
    counts = torch.bincount(owner)
    starts = counts.cumsum(0) - counts
    place = torch.arange(int(counts.max()))[None, :]
    held = place < counts[draw.image, None]
    rows = torch.where(held, starts[draw.image, None] + place, draw.text[:, None])
    exponential = -torch.rand(rows.shape).clamp_min(1e-12).log() * held
    alone = (rows == draw.text[:, None]) & held
    mixed = torch.rand(len(rows), 1) < share
    return rows, torch.where(mixed, exponential / exponential.sum(1, keepdim=True), alone.float())


def steps_of(n_images: int, *, batch_size: int, captions: int, passes: int) -> int:
    """Number of batches that ``draws`` gives."""
    return passes * (n_images // images_of(n_images, batch_size=batch_size, captions=captions))


def images_of(n_images: int, *, batch_size: int, captions: int) -> int:
    """Number of images of a batch that ``draws`` gives; each comes with ``captions`` pairs."""
    return max(1, min(batch_size // captions, n_images))
