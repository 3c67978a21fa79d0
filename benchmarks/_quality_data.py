"""Features that ``quality.py`` compares methods on: pictures and captions through frozen encoders, or arrays of yours.

SPEC          what it is
a data set    whatever ``hashret.data.open_dataset`` takes, with the splits train and test (or val)
x.npz         image_train (n, D), text_train (m, E) and the same with _test; with label_train and label_test, items
              that share a label are relevant; with owner_train and owner_test, a picture has several texts
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _machine import name_of_data

from hashret.data import open_dataset, readable_images
from hashret.encoders import EncoderConfig, build_encoder, cached_prefix
from hashret.errors import DataError

IMAGE = EncoderConfig(kind="image", name="tf_efficientnet_lite0")
TEXT = EncoderConfig(kind="text", name="all-MiniLM-L6-v2", pool="mean")


@dataclass(frozen=True)
class Side:
    """One split: pictures (N, D), texts (M, E), each text's row of pictures (M,), and a label a picture or None."""

    images: np.ndarray
    texts: np.ndarray
    owner: np.ndarray
    labels: np.ndarray | None

    def pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Pictures, texts and labels row by row, for methods that take one text a picture."""
        labels = None if self.labels is None else self.labels[self.owner]
        return self.images[self.owner], self.texts, labels


@dataclass(frozen=True)
class Features:
    """What is learned from and what is measured on.

    Attributes:
        name: of the data set.
        features: which encoders made them.
        relevance: "instance" or "labels"; with labels, queries of the test part search the training part.
        split: which one is measured.
        train, test: the two parts.
        checksum: sha256 over every array.
    """

    name: str
    features: str
    relevance: str
    split: str
    train: Side
    test: Side
    checksum: str

    @property
    def stem(self) -> str:
        """What files about it are called: figures to choose by never stand where those of the test split do."""
        return self.name if self.split == "test" else f"{self.name}-{self.split}"


def load(
    spec: str, *, name: str | None = None, split: str, cache_dir: Path | None, limit: int | None = None
) -> Features:
    """The features of a data set.

    Args:
        spec: see above.
        name: what tables call it; None: the file's name, or its folder's where the file is only "captions".
        split: measured on; ``test``, or ``val`` while something is being chosen.
        cache_dir: where computed features are kept.
        limit: only the first pictures of each part.

    Raises:
        DataError: the file holds something else.
    """
    if spec.endswith(".npz"):
        what, train, test = "features of the file", *_arrays(Path(spec), split)
    else:
        dataset = open_dataset(spec)
        what = f"{IMAGE.name} and {TEXT.name}, frozen"
        train, test = (_encoded(dataset.split(part), cache_dir, limit) for part in ("train", split))
    train, test = (_first(side, limit) for side in (train, test))
    path = Path(spec)
    name = name or name_of_data(path)
    relevance = "instance" if train.labels is None else "labels"
    digest = hashlib.sha256(f"{split} {relevance}".encode())
    for side in (train, test):
        for array in (side.images, side.texts, side.owner, side.labels):
            digest.update(repr(None if array is None else (array.dtype, array.shape)).encode())
            digest.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
    return Features(name, what, relevance, split, train, test, digest.hexdigest())


def _encoded(part, cache_dir: Path | None, limit: int | None) -> Side:
    from dataclasses import replace

    records = tuple(record for record in part if record.image is not None and record.captions)[:limit]
    part = readable_images(replace(part, records=records))[0] if limit else replace(part, records=records)
    captions, owner = part.captions_flat()
    pooled = []
    for config, items in ((IMAGE, [record.image for record in part]), (TEXT, captions)):
        cached = cached_prefix(build_encoder(config), items, cache_dir=cache_dir, label=f"{config.kind} features")
        pooled.append(np.array(cached.pooled, dtype=np.float32))
    return Side(pooled[0], pooled[1], np.asarray(owner), None)


def _arrays(path: Path, split: str) -> tuple[Side, Side]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        sides = []
        for part in ("train", split):
            images, texts = arrays[f"image_{part}"], arrays[f"text_{part}"]
            owner = arrays.get(f"owner_{part}", np.arange(len(texts)))
            sides.append(Side(images, texts, owner, arrays.get(f"label_{part}")))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{str(path)!r} holds no features to compare methods on: {error}") from error
    return sides[0], sides[1]


def _first(side: Side, limit: int | None) -> Side:
    if limit is None or limit >= len(side.images):
        return side
    theirs = side.owner < limit
    labels = None if side.labels is None else side.labels[:limit]
    return Side(side.images[:limit], side.texts[theirs], side.owner[theirs], labels)
