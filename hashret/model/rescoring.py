"""Scoring many pairs of items with a model's re-ranker, in batches and in bounded memory.

Each item is projected once and kept as float16 on the CPU; pairs are picked from there. Knows nothing of candidates,
orders or metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional

from hashret._lazy import progress
from hashret.errors import InputError
from hashret.model.outputs import TowerOutput
from hashret.model.rerankers import Projected, Reranker

if TYPE_CHECKING:
    from hashret.model.hasher import CrossModalHasher


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards every part is in the mode in which it was."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def required(hasher: CrossModalHasher) -> Reranker:
    """The re-ranker of ``hasher``.

    Raises:
        InputError: it has none.
    """
    if hasher.reranker is None:
        raise InputError("this model has no re-ranker; train one with model.reranker in its configuration")
    return hasher.reranker


def project_all(hasher: CrossModalHasher, modality: str, outputs: Iterable[TowerOutput]) -> Projected:
    """All items of ``outputs`` as the re-ranker reads them, float16 on the CPU.

    Raises:
        InputError: the model has no re-ranker, or there is no item.
    """
    reranker = required(hasher)
    parts: list[Projected] = []
    for output in outputs:
        with evaluating(hasher), torch.no_grad():
            tokens, mask, vector = reranker.project(modality, output)
        parts.append(Projected(tokens.to("cpu", torch.float16), mask.cpu(), vector.to("cpu", torch.float16)))
    if not parts:
        raise InputError(f"there are no {modality}s to re-rank; give at least one batch of them")
    longest = max(part.mask.shape[1] for part in parts)
    return Projected(
        torch.cat([_longer(part.tokens, longest) for part in parts]),
        torch.cat([functional.pad(part.mask, (0, longest - part.mask.shape[1])) for part in parts]),
        torch.cat([part.vector for part in parts]),
    )


def score_pairs(
    hasher: CrossModalHasher,
    image: Projected,
    text: Projected,
    image_rows: ArrayLike,
    text_rows: ArrayLike,
    *,
    batch_size: int = 512,
) -> np.ndarray:
    """The logits of pairs of projected items, in evaluation mode.

    Pairs of texts of one length share a batch, which is then cut to that length.

    Args:
        hasher: with a re-ranker.
        image: I items, on any device.
        text: M items.
        image_rows: (P,) int, the row in ``image`` of each pair.
        text_rows: (P,) int, its row in ``text``.
        batch_size: pairs scored together.

    Returns:
        (P,) float32.

    Raises:
        InputError: the model has no re-ranker, or rows that do not fit.
    """
    reranker = required(hasher)
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, and is {batch_size}")
    images, texts = _rows(image_rows, len(image.mask), "image"), _rows(text_rows, len(text.mask), "text")
    if len(images) != len(texts):
        raise InputError(f"a pair is an image row and a text row, and there are {len(images)} and {len(texts)}")
    scores = np.empty(len(images), dtype=np.float32)
    order = torch.argsort(_lengths(text.mask)[texts], stable=True)
    with evaluating(hasher), torch.no_grad():
        starts = range(0, len(order), batch_size)
        for begin in progress(starts, label="re-ranking", total=len(starts), unit="batch"):
            picked = order[begin : begin + batch_size]
            sides = (_cut(image, images[picked]), _cut(text, texts[picked]))
            on_device = (Projected(t.to(hasher.device).float(), m.to(hasher.device), v.to(hasher.device).float())
                         for t, m, v in sides)  # fmt: skip
            scores[picked.numpy()] = reranker.score(*on_device).cpu().numpy()
    return scores


def _longer(tokens: Tensor, longest: int) -> Tensor:
    return functional.pad(tokens, (0, 0, 0, longest - tokens.shape[1]))


def _lengths(mask: Tensor) -> Tensor:
    """(B,) the place behind the last token that counts."""
    return (mask.cpu() * torch.arange(1, mask.shape[1] + 1)).amax(dim=1)


def _cut(items: Projected, rows: Tensor) -> Projected:
    """The items at ``rows``, without the padding that all of them share."""
    picked = items.rows(rows.to(items.mask.device))
    longest = max(1, int(_lengths(picked.mask).max()))
    return Projected(picked.tokens[:, :longest], picked.mask[:, :longest], picked.vector)


def _rows(rows: ArrayLike, count: int, modality: str) -> Tensor:
    array = np.asarray(rows)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InputError(f"{modality}_rows must be a list of whole numbers, not {array.dtype} of shape {array.shape}")
    if array.size and not 0 <= array.min() <= array.max() < count:
        raise InputError(f"{modality}_rows must lie in 0 … {count - 1}, not {array.min()} … {array.max()}")
    return torch.from_numpy(array.astype(np.int64))
