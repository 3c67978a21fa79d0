"""From a data set to features in memory: what the towers' frozen parts make of its pictures and captions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hashret.data import Dataset
from hashret.encoders import CachedFeatures, cached_prefix
from hashret.errors import DataError, TrainingError
from hashret.model import CrossModalHasher, Tower
from hashret.training.pairs import FeatureTable, PairFeatures, TableOn, VectorTable
from hashret.training.validation import batches, logits_of

RELAXED_SIZE = 0.5  # root mean square of logits before tanh
CALIBRATION_ROWS = 2048


def usable(dataset: Dataset, split: str, *, max_captions: int | None = None, limit: int | None = None) -> Dataset:
    """The records of a split that have a picture and a caption, cut to what is asked for.

    Raises:
        TrainingError: there are fewer than two.
    """
    try:
        part = dataset.split(split)
    except DataError as error:
        raise TrainingError(
            f"training needs the split {split!r}: {error} Make splits with hashret.data.split_records, or name others "
            f"in data.train and data.val"
        ) from error
    records = [replace(r, captions=r.captions[:max_captions]) for r in part if r.image is not None and r.captions]
    records = records[:limit]
    if len(records) < 2:
        raise TrainingError(
            f"the split {split!r} of {dataset.name!r} has {len(records)} records with a picture and a caption"
            f"{'' if limit is None else f' in the first {limit}'}; training needs at least 2"
        )
    return replace(part, records=tuple(records))


def pair_features(hasher: CrossModalHasher, dataset: Dataset, *, cache_dir: Path | None, label: str) -> PairFeatures:
    """The features of all pictures and captions of ``dataset``, from the cache where they are there."""
    captions, owner = dataset.captions_flat()
    items: dict[str, Sequence[Any]] = {"image": [record.image for record in dataset], "text": captions}
    tables: dict[str, FeatureTable] = {}
    for modality, listed in items.items():
        tower = hasher.tower(modality)
        cached = cached_prefix(tower.encoder, listed, cache_dir=cache_dir, label=f"{label} {modality}s")
        tables[modality] = table_for(tower, cached)
    labels = dataset.label_matrix()
    named = torch.from_numpy(labels) if labels.any() else None  # a split keeps the names of the whole data set
    return PairFeatures(tables["image"], tables["text"], torch.from_numpy(owner), labels=named)


def table_for(tower: Tower, cached: CachedFeatures) -> FeatureTable:
    """Vectors in memory where the tower needs no tokens; else the cached tokens, mapped from disk."""
    device = tower.beta.device
    if tower.from_pooled and cached.pooled is not None:
        return VectorTable(torch.from_numpy(np.array(cached.pooled)).to(device))
    return TableOn(cached, device)


def fit_adapters(hasher: CrossModalHasher, pairs: PairFeatures) -> None:
    """Fit both adapters on the training features."""
    hasher.eval()
    hasher.tower("image").fit_adapter(batches(pairs.image))
    hasher.tower("text").fit_adapter(batches(pairs.text))


def calibrate(hasher: CrossModalHasher, pairs: PairFeatures) -> None:
    """Set the steepness of each tower's tanh so that relaxed codes keep what bits throw away, and learn the rounding.

    Trained logits are several units large, where tanh is flat: a relaxed query would be hardly finer than a code. At
    a root mean square of 0.5 before tanh it is nearly linear, and the order of an unquantised query is kept. Codes
    change only where a rounding is learned.
    """
    samples: dict[str, np.ndarray] = {}
    for modality in ("image", "text"):
        table = getattr(pairs, modality)
        rows = torch.linspace(0, len(table) - 1, min(len(table), CALIBRATION_ROWS)).long()
        for output in hasher.project(modality, [table.batch(rows)]):
            size = output.logits.square().mean().sqrt().clamp_min(1e-6)
            hasher.tower(modality).beta.fill_(RELAXED_SIZE / float(size))
            samples[modality] = output.logits.cpu().numpy()
    hasher.learn_rounding(samples)


def teacher_vectors(
    directory: Path, hasher: CrossModalHasher, dataset: Dataset, pairs: PairFeatures, *, cache_dir: Path | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit float vectors of a saved model for the training pairs, in memory."""
    teacher = CrossModalHasher.load(directory).to(hasher.device)
    same = all(
        teacher.tower(m).encoder.prefix_fingerprint == hasher.tower(m).encoder.prefix_fingerprint
        and teacher.tower(m).from_pooled == hasher.tower(m).from_pooled
        for m in ("image", "text")
    )
    features = pairs if same else pair_features(teacher, dataset, cache_dir=cache_dir, label="teacher's")
    image, text = (
        torch.nn.functional.normalize(torch.from_numpy(logits_of(teacher, modality, table)), dim=1)
        for modality, table in (("image", features.image), ("text", features.text))
    )
    return image, text


def identity_of(dataset: Dataset, *, labels: bool = True) -> str:
    """What a resumed run checks: ids, captions, labels and splits, but not where pictures lie."""
    digest = hashlib.sha256()
    for record in dataset:
        tags = (record.labels,) if labels and record.labels else ()
        digest.update(repr((record.id, record.captions, record.split, *tags)).encode())
    return digest.hexdigest()
