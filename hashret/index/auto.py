"""The index that chooses: a scan, or multi-index hashing where that is faster. Exact in either case.

Whether hashing pays depends on how far the nearest codes are, so that is measured: rows of the index are taken as
queries, and the distance of their tenth neighbour says how many buckets hashing has to look into. If that alone costs
more than a scan, no table is made. Otherwise tables are made, both ways are timed on the sample, for single queries
and for batches, for few hits and for many: the hundredth neighbour is farther, and takes more buckets. The tables are
kept if they clearly win for few hits, and used wherever they clearly win. The choice is made at the first search, and
again when the codes have doubled. Queries may be farther from the codes than these are from each other, captions from
pictures above all: where most of them end in a scan after all, scans are chosen from then on. ``info`` explains the
choice. Must not know how either way works.

*Source:* the number of buckets within a radius, Norouzi, Punjani, Fleet: Fast Exact Search in Hamming Space with
Multi-Index Hashing, TPAMI 2014, section 3.2.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from hashret.codes import Codes
from hashret.index.asymmetric import AsymmetricHits, search_asymmetric
from hashret.index.flat import FlatIndex
from hashret.index.mih import PROBE_NS, MIHIndex, MIHStats
from hashret.index.mih_tables import plan
from hashret.index.storage import read_index
from hashret.kernels import Hits, RangeHits, native
from hashret.kernels.contract import Mask, check_k, check_queries

_LEAST = 1 << 17  # codes; a scan of fewer takes a tenth of a millisecond
_BATCH = 16  # queries that count as a batch
_BATCHES, _SINGLE = 5, 48  # that are timed: how far the tenth neighbour is, and so what hashing costs, differs much
_SAMPLE = _BATCHES * _BATCH + _SINGLE  # rows taken as queries
_NEIGHBOUR, _FAR_NEIGHBOUR = 10, 100  # hits that are asked for on trial
_MANY = 32  # hits from which the trial of more counts
_WATCHED, _IN_VAIN = 64, 2 / 3  # queries, and the share of them that hashing leaves to a scan, from which it is dropped
_CLEAR = 0.9  # of the time of a scan: tables take memory, and queries may be farther than those of the trial


@dataclass(frozen=True)
class AutoInfo:
    """What ``AutoIndex`` chose, and why.

    Attributes:
        single: "flat" or "mih", for fewer than 16 queries at a time.
        batch: the same for 16 and more.
        many: both of these where 32 hits and more of a query are asked for.
        count: codes at the time of the choice.
        reason: why, in a sentence.
        distance: median distance of a query to its tenth neighbour; None where it was not measured.
        buckets: buckets that hashing looks into at that distance; None where it was not measured.
        flat_ms: time of a scan for ten hits of a query alone and of one of a batch; None where it was not measured.
        mih_ms: the same of hashing.
    """

    single: str
    batch: str
    count: int
    reason: str
    distance: float | None = None
    buckets: float | None = None
    flat_ms: tuple[float, float] | None = None
    mih_ms: tuple[float, float] | None = None
    many: tuple[str, str] = (FlatIndex.kind, FlatIndex.kind)


class AutoIndex:
    """Exact search by whatever is faster for these codes: a scan or multi-index hashing.

    Args:
        n_bits: width of the codes, 1 to 4,096.
        backend: of the scan; "auto", "native", "faiss" or "numpy".

    Raises:
        InputError: no such width.
        ConfigError: no such back end.
    """

    def __init__(self, n_bits: int, *, backend: str = "auto") -> None:
        self._flat = FlatIndex(n_bits, backend=backend)
        self._mih: MIHIndex | None = None  # where there is one, it owns the codes, and the flat index lies over them
        self._info: AutoInfo | None = None
        self._watched: dict[
            tuple[bool, bool], tuple[int, int]
        ] = {}  # (many, batch): queries hashed, and scanned after all
        self._lock = threading.Lock()

    @property
    def n_bits(self) -> int:
        """Width of a code."""
        return self._flat.n_bits

    @property
    def codes(self) -> Codes:
        """(N, n_bytes) uint8, a read-only view."""
        return self._flat.codes

    def __len__(self) -> int:
        return len(self._flat)

    def __repr__(self) -> str:
        return f"AutoIndex(n_bits={self.n_bits}, codes={len(self)})"

    def info(self) -> AutoInfo:
        """What is chosen for the codes as they are, and why."""
        with self._lock:
            if self._info is None or (len(self) >= _LEAST and len(self) >= 2 * self._info.count):
                return self._choose(None)
            return self._info

    def choose(self, queries: Codes) -> AutoInfo:
        """Choose anew, for queries like these instead of rows of the index.

        Args:
            queries: (Q, n_bytes) uint8, of which the first 128 are tried.
        """
        with self._lock:
            some = check_queries(queries, n_bits=self.n_bits)[:_SAMPLE]
            return self._choose(some if len(some) else None)

    def add(self, codes: Codes) -> None:
        """Append codes; they get the rows N to N + M - 1.

        Raises:
            CodeError: they do not fit ``n_bits``; nothing was added.
        """
        with self._lock:
            if self._mih is None:
                self._flat.add(codes)
            else:
                self._mih.add(codes)
                self._flat.refresh(self._mih.codes)

    def search(self, queries: Codes, k: int, *, mask: Mask | None = None, radius: int | None = None) -> Hits:
        """The ``k`` nearest codes of each query, exactly, ordered by (distance, row).

        Args, Returns and Raises: as in ``FlatIndex.search``.
        """
        index = self._chosen(queries, check_k(k))
        hits = index.search(queries, k, mask=mask, radius=radius)
        if isinstance(index, MIHIndex) and not index.last.reason:  # one says why nobody looked into the tables
            self._watch(_way(queries, k), index.last)
        return hits

    def range_search(self, queries: Codes, radius: int, *, mask: Mask | None = None) -> RangeHits:
        """All codes within ``radius`` (inclusive) of each query, those of one query ordered by (distance, row).

        Args and Raises: as in ``FlatIndex.range_search``.
        """
        return self._chosen(queries).range_search(queries, radius, mask=mask)

    def search_asymmetric(
        self, relaxed: npt.ArrayLike, k: int, *, oversample: int = 4, mask: Mask | None = None
    ) -> AsymmetricHits:
        """As ``FlatIndex.search_asymmetric``."""
        return search_asymmetric(self, relaxed, k, oversample=oversample, mask=mask)

    def save(self, path: str | Path) -> None:
        """Write the file of the index that was chosen, at once or not at all.

        Raises:
            StorageError: the file cannot be written; an existing one is as it was.
        """
        (self._mih or self._flat).save(path)

    @classmethod
    def open(cls, path: str | Path, *, mmap: bool = True, backend: str = "auto") -> Self:
        """Open the file of a flat index or of multi-index hashing.

        Args and Raises: as in ``FlatIndex.open``.
        """
        index = cls(1, backend=backend)
        if read_index(path, mmap=True).kind == MIHIndex.kind:
            index._mih = MIHIndex.open(path, mmap=mmap, backend=backend)
            index._flat = FlatIndex.over(index._mih.codes, n_bits=index._mih.n_bits, backend=backend)
        else:
            index._flat = FlatIndex.open(path, mmap=mmap, backend=backend)
        return index

    def verify(self) -> None:
        """Check the opened file, if there is one, and the codes.

        Raises:
            CorruptError: a block of the file differs from its checksum.
        """
        (self._mih or self._flat).verify()

    def _chosen(self, queries: Codes, k: int = 1) -> FlatIndex | MIHIndex:
        info = self.info()
        many, batch = _way(queries, k)
        ways = info.many if many else (info.single, info.batch)
        if self._mih is not None and ways[batch] == MIHIndex.kind:
            return self._mih
        return self._flat

    def _watch(self, way: tuple[bool, bool], last: MIHStats) -> None:
        """Count what became of hashed queries; where most were scanned after all, scan such queries at once."""
        with self._lock:
            hashed, scanned = (a + b for a, b in zip(self._watched.get(way, (0, 0)), (last.queries, last.scanned)))
            self._watched[way] = hashed, scanned
            info, (many, batch) = self._info, way
            if info is None or hashed < _WATCHED or scanned < _IN_VAIN * hashed:
                return
            ways = list(info.many if many else (info.single, info.batch))
            if ways[batch] == FlatIndex.kind:
                return
            ways[batch] = FlatIndex.kind
            changed = {"many": tuple(ways)} if many else dict(zip(("single", "batch"), ways))
            reason = f"{info.reason}; of {hashed:,} queries {scanned:,} were scanned after all"
            self._info = replace(info, reason=reason, **changed)

    def _choose(self, queries: Codes | None) -> AutoInfo:
        """Find out, and make or drop the tables accordingly."""
        mih, info = self._compare(queries)
        if mih is None and self._mih is not None:
            self._flat = FlatIndex.over(self._mih.codes, n_bits=self.n_bits, backend=self._flat.backend)
        elif mih is not None and mih is not self._mih:
            self._flat = FlatIndex.over(mih.codes, n_bits=self.n_bits, backend=self._flat.backend)
        self._mih, self._info, self._watched = mih, info, {}
        return info

    def _compare(self, queries: Codes | None) -> tuple[MIHIndex | None, AutoInfo]:
        count, flat = len(self), FlatIndex.kind
        layout = plan(count, n_bits=self.n_bits)
        if count < _LEAST:
            return None, AutoInfo(flat, flat, count, f"{count} codes are scanned in no time")
        if layout.reason:
            return None, AutoInfo(flat, flat, count, layout.reason)
        if not native.available():
            return None, AutoInfo(flat, flat, count, "hashing needs the C extension, which is not built")
        itself = queries is None  # a row of the index, which finds itself: one hit more is what a query like it finds
        if queries is None:
            queries = np.take(self.codes, np.linspace(0, count - 1, _SAMPLE).astype(np.int64), axis=0)
        few, more = _NEIGHBOUR + itself, _FAR_NEIGHBOUR + itself
        distance = float(np.median(self._flat.search(queries, few).distances[:, -1]))
        buckets = _buckets(layout.widths, distance)
        flat_ms = _times(self._flat, queries, few)
        found = f"the tenth neighbour is {distance:g} bits away, which takes {buckets:,.0f} buckets"
        if buckets * PROBE_NS > flat_ms[0] * 1e6:
            reason = f"{found}; that alone is slower than a scan of {flat_ms[0]:.2f} ms"
            return None, AutoInfo(flat, flat, count, reason, distance, buckets, flat_ms)
        index = self._mih
        if index is None:
            index = MIHIndex(self.n_bits, backend=self._flat.backend)
            index.add(self.codes)
        mih_ms = _times(index, queries, few)
        reason = (
            f"{found}; a query takes {mih_ms[0]:.2f} ms by hashing and {flat_ms[0]:.2f} ms by a scan, "
            f"and in a batch {mih_ms[1]:.2f} and {flat_ms[1]:.2f} ms"
        )
        single, batch = _faster(mih_ms, flat_ms)
        if flat == single == batch:
            return None, AutoInfo(flat, flat, count, reason, distance, buckets, flat_ms, mih_ms)
        far_ms = [_times(each, queries, more) for each in (index, self._flat)]
        reason += f"; for {_FAR_NEIGHBOUR} hits {far_ms[0][0]:.2f} and {far_ms[1][0]:.2f} ms"
        info = AutoInfo(single, batch, count, reason, distance, buckets, flat_ms, mih_ms, _faster(*far_ms))
        return index, info


def _way(queries: Codes, k: int) -> tuple[bool, bool]:
    """Whether many hits are asked for, and for many queries."""
    return k >= _MANY, isinstance(queries, np.ndarray) and queries.ndim == 2 and len(queries) >= _BATCH


def _buckets(widths: tuple[int, ...], distance: float) -> float:
    """Buckets to look into, in tables of these widths, until all codes within ``distance`` are found."""
    radius = int(distance) // len(widths)
    return float(sum(math.comb(width, i) for width in widths for i in range(radius + 1)))


def _faster(hashed: tuple[float, float], scanned: tuple[float, float]) -> tuple[str, str]:
    """The way that is faster for a query alone, and for one of a batch: hashing where it clearly is."""
    single, batch = (MIHIndex.kind if h < _CLEAR * s else FlatIndex.kind for h, s in zip(hashed, scanned))
    return single, batch


def _times(index: FlatIndex | MIHIndex, queries: Codes, k: int) -> tuple[float, float]:
    """Milliseconds for a query alone, and for one of a batch.

    No query is asked twice if there are enough: what it needs would be in the cache, which helps hashing alone.
    """
    queries = np.resize(queries, (max(_SAMPLE, len(queries)), queries.shape[1]))
    index.search(queries[-1], k)  # not measured

    def taken(some: Codes) -> float:
        start = time.perf_counter()
        index.search(some, k)
        return 1e3 * (time.perf_counter() - start) / len(some)

    # batches first: they bring into the caches what queries have in common, as in an index that is in use
    together = [taken(queries[first : first + _BATCH]) for first in range(0, _BATCHES * _BATCH, _BATCH)]
    alone = [taken(query[None]) for query in queries[_BATCHES * _BATCH : _SAMPLE]]
    return float(np.median(alone)), float(np.median(together))
