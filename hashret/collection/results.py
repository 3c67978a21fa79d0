"""What a collection gives back. Plain data; knows nothing of files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hashret.codes import Codes

_MANY = 4096  # dead rows; fewer slow no search down


class CollectionHits(NamedTuple):
    """The nearest items of each query, ordered by (distance, insertion).

    Attributes:
        ids: (Q, k) object, the ids as they were given; None where a query has fewer than k hits.
        distances: (Q, k) int32, number of differing bits; -1 where a query has fewer than k hits.
        metadata: Q lists of k dicts; None where a query has fewer than k hits.
    """

    ids: npt.NDArray[np.object_]
    distances: npt.NDArray[np.int32]
    metadata: list[list[dict[str, Any] | None]]


class CollectionRangeHits(NamedTuple):
    """All items within a radius; those of query i are ``limits[i]:limits[i + 1]``, by (distance, insertion).

    Attributes:
        limits: (Q + 1,) int64.
        ids: (T,) object, the ids as they were given.
        distances: (T,) int32, number of differing bits.
        metadata: T dicts; empty where none was given.
    """

    limits: npt.NDArray[np.int64]
    ids: npt.NDArray[np.object_]
    distances: npt.NDArray[np.int32]
    metadata: list[dict[str, Any]]


class CollectionAsymmetricHits(NamedTuple):
    """Items ordered by falling score, then by (distance, insertion).

    Attributes:
        ids: (Q, k) object, as in ``CollectionHits``.
        distances: (Q, k) int32, as in ``CollectionHits``.
        metadata: Q lists of k dicts, as in ``CollectionHits``.
        scores: (Q, k) float32, <relaxed, ±1 bits>, larger is nearer; -inf where a query has fewer than k hits.
    """

    ids: npt.NDArray[np.object_]
    distances: npt.NDArray[np.int32]
    metadata: list[list[dict[str, Any] | None]]
    scores: npt.NDArray[np.float32]


class Items(NamedTuple):
    """Stored items, in the order in which they were asked for.

    Attributes:
        ids: n ids.
        codes: (n, n_bytes) uint8.
        metadata: n dicts; empty where none was given.
    """

    ids: list[str | int]
    codes: Codes
    metadata: list[dict[str, Any]]


@dataclass(frozen=True)
class CollectionInfo:
    """What a collection is and holds.

    Attributes:
        path: the directory.
        version: of the format.
        n_bits: width of the codes.
        fingerprint: of the model that made the codes.
        model: where that model was.
        credits: whom to thank for the pictures.
        count: items.
        dead: rows of deleted and replaced items, which a compaction frees.
        generation: number of the codes file.
        indexes: metadata fields with an index.
        codes_bytes: size of the codes file.
        catalogue_bytes: size of the catalogue with its log.
    """

    path: str
    version: int
    n_bits: int
    fingerprint: str | None
    model: str | None
    credits: str | None
    count: int
    dead: int
    generation: int
    indexes: tuple[str, ...]
    codes_bytes: int
    catalogue_bytes: int

    @property
    def wasteful(self) -> bool:
        """Whether a compaction is worth its work: more rows are dead than live, and they are thousands."""
        return self.dead >= _MANY and self.dead > self.count


@dataclass(frozen=True)
class Verified:
    """What a verification has read and found in order.

    Attributes:
        count: items.
        rows: committed rows, dead ones included.
        blocks: blocks of codes whose checksum was right.
        codes_bytes: bytes of codes that were read.
    """

    count: int
    rows: int
    blocks: int
    codes_bytes: int


@dataclass(frozen=True)
class Salvaged:
    """What a salvage has saved.

    Attributes:
        count: items that were copied.
        lost: items whose id was readable and whose code or metadata was not.
        lost_ids: the ids of these.
        problems: what was found, a sentence each.
    """

    count: int
    lost: int
    lost_ids: tuple[str | int, ...]
    problems: tuple[str, ...]
