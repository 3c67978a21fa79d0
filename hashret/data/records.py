"""Records and data sets: what every layer above knows about pictures, captions, splits and labels.

Holds names, words and paths only. It decodes no picture, opens no caption file and knows no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hashret.errors import DataError
from hashret.registry import nearest


@dataclass(frozen=True)
class Record:
    """One item: a picture, its captions, and what is known about them.

    Attributes:
        id: the caller's key, unique in its data set.
        captions: any number of captions, none included.
        image: where the picture lies; None for an item of words only.
        split: ``"train"``, ``"val"``, ``"test"``, or any other name; None when it is in no split.
        labels: category names, none or several.
        metadata: whatever else the source said, as JSON-like values.
    """

    id: str
    captions: tuple[str, ...] = ()
    image: Path | None = None
    split: str | None = None
    labels: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Skipped:
    """What was left out, and why.

    Attributes:
        names: the ids or files, in the order in which they were met.
        reasons: a sentence for each of ``names``.
    """

    names: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many were left out."""
        return len(self.names)

    def __add__(self, other: Skipped) -> Skipped:
        return Skipped(self.names + other.names, self.reasons + other.reasons)

    def __str__(self) -> str:
        return self.summary()

    def summary(self, *, show: int = 5) -> str:
        """The count and the first ``show`` reasons on one line; the empty string when nothing was skipped."""
        if not self.names:
            return ""
        more = f"; and {self.count - show} more" if self.count > show else ""
        return f"skipped {self.count}: {'; '.join(self.reasons[:show])}{more}"


@dataclass(frozen=True)
class Dataset:
    """Records under a name.

    Attributes:
        name: what reports call it.
        records: the records, with distinct ids.
        credits: whom to thank and under which licence; printed by whatever shows the pictures.
        skipped: what the reader left out (missing picture files, empty captions, items with neither).
        vocabulary: the columns of ``label_matrix``; a subset keeps those of the whole. Left empty, they are
            the labels that occur, sorted.

    Raises:
        DataError: two records share an id.
    """

    name: str
    records: tuple[Record, ...]
    credits: str = ""
    skipped: Skipped = Skipped()
    vocabulary: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "records", tuple(self.records))
        counts = Counter(record.id for record in self.records)
        if len(counts) < len(self.records):
            twice = [name for name, count in counts.items() if count > 1]
            raise DataError(
                f"{len(twice)} ids occur more than once in {self.name!r}, such as {twice[0]!r}; "
                f"give every record an id of its own"
            )

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __getitem__(self, row: int) -> Record:
        return self.records[row]

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids, by row."""
        return tuple(record.id for record in self.records)

    @property
    def splits(self) -> dict[str, int]:
        """Split -> number of records, in the order of their first record; records in no split are not counted."""
        return dict(Counter(record.split for record in self.records if record.split is not None))

    def split(self, name: str) -> Dataset:
        """The records of one split.

        Raises:
            DataError: no record is in the split ``name``.
        """
        rows = [row for row, record in enumerate(self.records) if record.split == name]
        if not rows:
            raise DataError(f"{self.name!r} has no split {name!r}{nearest(name, tuple(self.splits))}")
        return self.subset(rows)

    def subset(self, rows: Iterable[int]) -> Dataset:
        """The records at ``rows``, in that order, with the label columns of the whole."""
        return replace(self, records=tuple(self.records[row] for row in rows), vocabulary=self.label_names)

    def paired(self) -> Dataset:
        """The records with a picture and a caption: those that can be learned from and measured."""
        return self.subset(
            row for row, record in enumerate(self.records) if record.image is not None and record.captions
        )

    @cached_property
    def label_names(self) -> tuple[str, ...]:
        """The names of the columns of ``label_matrix``."""
        return self.vocabulary or tuple(sorted({label for record in self.records for label in record.labels}))

    def label_matrix(self) -> np.ndarray:
        """(N, C) bool: whether record n carries ``label_names[c]``.

        Raises:
            DataError: a record carries a label that a given vocabulary does not hold.
        """
        column = {label: number for number, label in enumerate(self.label_names)}
        matrix = np.zeros((len(self.records), len(column)), dtype=bool)
        for row, record in enumerate(self.records):
            for label in record.labels:
                if label not in column:
                    raise DataError(
                        f"the record {record.id!r} has the label {label!r}, and the vocabulary of {self.name!r} does "
                        f"not hold it; add it there, or give no vocabulary"
                    )
                matrix[row, column[label]] = True
        return matrix

    def captions_flat(self) -> tuple[list[str], np.ndarray]:
        """Every caption in one list, and whose it is.

        Returns:
            The M captions, record by record, and ``owner`` (M,) int64: the row of each caption's record.
        """
        captions = [caption for record in self.records for caption in record.captions]
        counts = [len(record.captions) for record in self.records]
        return captions, np.repeat(np.arange(len(self.records), dtype=np.int64), counts)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over ids, captions, and size and modification time of every picture: tells data sets apart.

        Splits and labels are left out, for no feature depends on them. The pictures' bytes are not read.
        """
        digest = hashlib.sha256()
        for record in self.records:
            line = json.dumps([record.id, record.captions, _identity(record.image)])
            digest.update(line.encode() + b"\n")
        return digest.hexdigest()


def with_splits(dataset: Dataset, splits: Sequence[str | None]) -> Dataset:
    """``dataset`` with ``splits[row]`` as the split of each record."""
    records = tuple(replace(record, split=name) for record, name in zip(dataset.records, splits, strict=True))
    return replace(dataset, records=records)


def _identity(image: Path | None) -> tuple[int, int] | None:
    if image is None:
        return None
    try:
        status = image.stat()
    except OSError:
        return (-1, -1)
    return (status.st_size, status.st_mtime_ns)
