"""What is measured: the codes of pictures and captions, whose a caption is, and labels where there are any.

One value for codes of a model of hashret and for codes of anybody else, so that both are measured by the same lines.
Knows arrays; nothing of where they come from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashret.arrays import labels_of
from hashret.codes import Codes, check_codes, prefix
from hashret.errors import DataError, InputError
from hashret.evaluation.instance import check_owner

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

WAYS = ("i2t", "t2i")


@dataclass(frozen=True)
class Coded:
    """Pictures and captions as codes.

    Attributes:
        images: (I, n_bytes) uint8.
        texts: (M, n_bytes) uint8.
        n_bits: length of the codes.
        owner: (M,) int64, the row of each caption's picture.
        labels: (I,) one label a picture, or (I, C) multi-hot; None without any.
        floats: (I, n_bits) and (M, n_bits) float vectors behind the codes; column j gave bit j. None where unknown.
        relaxed: likewise the relaxed codes, for unquantised queries.

    Raises:
        CodeError: codes of the wrong width.
        DataError: owners or labels that do not fit the codes.
    """

    images: Codes
    texts: Codes
    n_bits: int
    owner: Rows
    labels: NDArray[Any] | None = None
    floats: tuple[Floats, Floats] | None = None
    relaxed: tuple[Floats, Floats] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", check_codes(self.images, n_bits=self.n_bits, what="image codes"))
        object.__setattr__(self, "texts", check_codes(self.texts, n_bits=self.n_bits, what="text codes"))
        if not len(self.images) or not len(self.texts):
            raise DataError(f"{len(self.images):,} pictures and {len(self.texts):,} captions: nothing to measure")
        object.__setattr__(self, "owner", check_owner(self.owner, len(self.images), len(self.texts)))
        if self.labels is None:
            return
        object.__setattr__(self, "labels", labels_of(self.labels))
        if len(self.labels) != len(self.images):
            raise DataError(f"there are {len(self.images):,} image codes and labels of {len(self.labels):,} pictures")

    @property
    def text_labels(self) -> NDArray[Any]:
        """(M,) or (M, C): a caption has the labels of its picture."""
        return self.known_labels[self.owner]

    @property
    def known_labels(self) -> NDArray[Any]:
        """The labels of the pictures.

        Raises:
            DataError: there are none.
        """
        if self.labels is None:
            raise DataError(
                "these measures call items relevant that share a label, and the data have no labels: give each record "
                'its own, "labels": ["dog", …] in a line of JSON or a column labels in CSV, or an array with --labels'
            )
        return self.labels

    def at(self, n_bits: int) -> tuple[Codes, Codes]:
        """The codes of pictures and of captions, cut to ``n_bits``.

        Raises:
            InputError: there are not as many bits.
        """
        if not 1 <= n_bits <= self.n_bits:
            raise InputError(f"a code length of {n_bits} bits cannot be cut from codes of {self.n_bits} bits")
        if n_bits == self.n_bits:
            return self.images, self.texts
        return prefix(self.images, n_bits=n_bits), prefix(self.texts, n_bits=n_bits)


def lengths_of(coded: Coded, code_lengths: Iterable[int]) -> tuple[int, ...]:
    """The code lengths asked for, ascending; that of the whole codes where none are."""
    return tuple(sorted({int(n_bits) for n_bits in code_lengths})) or (coded.n_bits,)


def by_way(coded: Coded, database: Coded | None, n_bits: int) -> dict[str, tuple[Codes, Codes, Any, Any]]:
    """Query codes, database codes and the labels of both, for "i2t" and "t2i".

    Raises:
        DataError: no labels, or a database with others than the queries'.
        InputError: there are not as many bits.
    """
    searched = database or coded
    images, texts = coded.at(n_bits)
    db_images, db_texts = searched.at(n_bits)
    return {
        "i2t": (images, db_texts, coded.known_labels, searched.text_labels),
        "t2i": (texts, db_images, coded.text_labels, searched.known_labels),
    }
