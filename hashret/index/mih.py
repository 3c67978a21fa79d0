"""Exact multi-index hashing: nearest codes without reading them all, where the data allow it.

    codes ─► m tables of rows by a substring of log2(N) bits ─┐  near queries: probes of growing radius (C)
          └► FlatIndex ── rows added since the tables were made, and every query whose probes would cost more

The hits are byte for byte those of ``FlatIndex``. Before each step the cost of what is left to probe is compared with
that of a scan, so a query far from everything (uniform codes, wide codes) is scanned; ``last`` says how many were. The
tables need the C extension: without it, or for codes too few or too wide to gain, everything is scanned. Must not
know of ids, metadata or deletes; a mask hides rows.

*Source:* Norouzi, Punjani, Fleet, "Fast Search in Hamming Space with Multi-Index Hashing", CVPR 2012.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hashret.codes import Codes, bytes_for
from hashret.errors import CodeError, CorruptError
from hashret.index.asymmetric import AsymmetricHits, search_asymmetric
from hashret.index.flat import FlatIndex
from hashret.index.mih_tables import Tables, make_tables, open_payload, plan, to_payload
from hashret.index.storage import StoredIndex, read_index, write_index
from hashret.kernels import Hits, RangeHits, get_num_threads, native, range_search_checked, search_checked
from hashret.kernels.contract import Mask, check_k, check_mask, check_padding, check_queries, check_radius
from hashret.kernels.parallel import in_threads, pieces

PROBE_NS = 15.0
"""A look into a table, its cache miss overlapped with others."""
CANDIDATE_NS = 15.0
"""A look at a code, its cache miss overlapped with others."""
SCAN_WORD_NS = (0.05, 0.25)
"""Of a scan, for 8 bytes of a code: arithmetic that every query has, and reading that a batch has once."""

_NO_EXTENSION = "the C extension is not built"
_SLICE = 8192  # queries of a call, a second or two: between calls Ctrl-C comes through
_SELECTIVE = 8  # a mask that selects fewer than N / 8 rows: a scan of those is the fastest


@dataclass(frozen=True)
class MIHStats:
    """How a search was answered.

    Attributes:
        queries: how many there were.
        scanned: how many of them were answered by a scan.
        probes: looks into a table, of all queries.
        candidates: codes whose distance was computed outside of scans.
        reason: why everything was scanned, or "".
    """

    queries: int
    scanned: int
    probes: int = 0
    candidates: int = 0
    reason: str = ""


class MIHIndex:
    """Exact search by multi-index hashing.

    The tables are made by the first search, or by ``build``. Codes added later are scanned until they are a half of
    what the tables hold; then the next search makes the tables anew.

    Args:
        n_bits: width of the codes, 1 to 4,096.
        backend: of the scan: "auto", "native", "faiss" or "numpy".

    Raises:
        InputError: no such width.
        ConfigError: no such back end.
    """

    kind = "mih"

    def __init__(self, n_bits: int, *, backend: str = "auto") -> None:
        self._flat = FlatIndex(n_bits, backend=backend)
        self._tables: Tables | None = None
        self._stored: StoredIndex | None = None
        self._lock = threading.Lock()
        self.last = MIHStats(0, 0)
        """How the latest search was answered."""

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
        return f"MIHIndex(n_bits={self.n_bits}, codes={len(self)})"

    def add(self, codes: Codes) -> None:
        """Append codes; they get the rows N to N + M - 1. No table is touched.

        Args:
            codes: (M, n_bytes) uint8, or one code (n_bytes,).

        Raises:
            CodeError: they do not fit ``n_bits``; nothing was added.
        """
        self._flat.add(codes)

    def build(self) -> None:
        """Make the tables over all codes now, where they can pay."""
        with self._lock:
            self._tables = make_tables(self.codes, n_bits=self.n_bits)

    def info(self) -> dict[str, Any]:
        """What the index holds: tables, their widths, rows in them and beyond them, and memory in bytes."""
        tables, codes = self._tables, self.codes
        memory = codes.nbytes + (tables.nbytes if tables is not None else 0)
        return {
            "kind": self.kind,
            "n_bits": self.n_bits,
            "codes": len(codes),
            "tables": len(tables.widths) if tables is not None else 0,
            "widths": tables.widths if tables is not None else (),
            "in_tables": tables.count if tables is not None else 0,
            "scanned_always": len(codes) - (tables.count if tables is not None else 0),
            "memory_bytes": memory,
            "bytes_per_code": memory / len(codes) if len(codes) else 0.0,
            "reason": self._why_no_tables(),
        }

    def search(self, queries: Codes, k: int, *, mask: Mask | None = None, radius: int | None = None) -> Hits:
        """The ``k`` nearest codes of each query, exactly, ordered by (distance, row).

        Args, Returns and Raises: as in ``FlatIndex.search``.
        """
        queries, k = check_queries(queries, n_bits=self.n_bits), check_k(k)
        limit = self.n_bits if radius is None else check_radius(radius, n_bits=self.n_bits)
        check_padding(len(queries), k, len(self))
        mask, tables, codes = self._ready(len(queries), mask)
        scan = partial(search_checked, n_bits=self.n_bits, radius=limit, backend=self._flat.backend)
        if tables is None:
            return scan(codes, queries, k, mask=mask)
        hits = Hits(np.empty((len(queries), k), np.int32), np.empty((len(queries), k), np.int64))
        stats = np.zeros((len(queries), 4), np.int64)
        inside = None if mask is None else mask[: tables.count]
        threads = get_num_threads()
        for first in range(0, len(queries), _SLICE):
            some = slice(first, first + _SLICE)
            out = hits.distances[some], hits.rows[some], stats[some]
            self._call(tables, codes, queries[some], k, inside, limit, len(queries), threads, *out)
        probed = stats[:, 0] == 1
        self.last = _stats(stats)
        if probed.all() and len(codes) == tables.count:
            return hits
        if len(codes) > tables.count and probed.any():
            outside = None if mask is None else mask[tables.count :]
            rest = scan(codes[tables.count :], queries[probed], min(k, len(codes) - tables.count), mask=outside)
            hits.distances[probed], hits.rows[probed] = _merge(
                hits.distances[probed], hits.rows[probed], rest, tables.count
            )
        if not probed.all():
            scanned = scan(codes, queries[~probed], k, mask=mask)
            hits.distances[~probed], hits.rows[~probed] = scanned
        return hits

    def range_search(self, queries: Codes, radius: int, *, mask: Mask | None = None) -> RangeHits:
        """All codes within ``radius`` (inclusive) of each query, those of one query ordered by (distance, row).

        Args and Raises: as in ``FlatIndex.range_search``.
        """
        queries = check_queries(queries, n_bits=self.n_bits)
        radius = check_radius(radius, n_bits=self.n_bits)
        mask, tables, codes = self._ready(len(queries), mask)
        scan = partial(range_search_checked, n_bits=self.n_bits, backend=self._flat.backend)
        if tables is None:
            return scan(codes, queries, radius, mask=mask)
        stats = np.zeros((len(queries), 4), np.int64)
        inside = None if mask is None else mask[: tables.count]

        def part(start: int, end: int) -> _Triples:
            out = None, None, stats[start:end]
            found = self._call(tables, codes, queries[start:end], 0, inside, radius, len(queries), 1, *out)
            arrays = (np.frombuffer(a, t) for a, t in zip(found, (np.int64, np.int32, np.int64)))
            return _triples(RangeHits(*arrays), np.arange(start, end))

        found = []
        for first in range(0, max(1, len(queries)), _SLICE):
            count = min(_SLICE, len(queries) - first)
            parts = [(first + start, first + end) for start, end in pieces(count, get_num_threads())]
            found += in_threads(part, parts)
        probed = stats[:, 0] == 1
        self.last = _stats(stats)
        if len(codes) > tables.count and probed.any():
            outside = None if mask is None else mask[tables.count :]
            rest = scan(codes[tables.count :], queries[probed], radius, mask=outside)
            found.append(_triples(rest._replace(rows=rest.rows + tables.count), np.flatnonzero(probed)))
        if not probed.all():
            scanned = scan(codes, queries[~probed], radius, mask=mask)
            found.append(_triples(scanned, np.flatnonzero(~probed)))
        query, near, rows = (np.concatenate(parts) for parts in zip(*found))
        order = np.lexsort((rows, near, query))
        limits = np.concatenate([[0], np.cumsum(np.bincount(query, minlength=len(queries)))]).astype(np.int64)
        return RangeHits(limits, near[order].astype(np.int32), rows[order])

    def search_asymmetric(
        self, relaxed: npt.ArrayLike, k: int, *, oversample: int = 4, mask: Mask | None = None
    ) -> AsymmetricHits:
        """As ``FlatIndex.search_asymmetric``."""
        return search_asymmetric(self, relaxed, k, oversample=oversample, mask=mask)

    def save(self, path: str | Path) -> None:
        """Write codes and tables to one file, at once or not at all.

        Raises:
            StorageError: the file cannot be written; an existing one is as it was.
        """
        if self._tables is None:
            self.build()
        tables, codes = self._tables, self.codes  # in this order: another thread may add, and codes only grow
        payload = to_payload(codes, tables)
        write_index(path, payload, kind=self.kind, n_bits=self.n_bits, count=len(codes))

    @classmethod
    def open(cls, path: str | Path, *, mmap: bool = True, backend: str = "auto") -> Self:
        """Open what ``save`` wrote.

        Args:
            path: the file.
            mmap: map codes and tables; ``verify`` then checks their checksums on request. False reads and checks
                them now.
            backend: as in the constructor.

        Raises:
            CorruptError: foreign, truncated or damaged.
            VersionError: from a later hashret.
            StorageError: missing, unreadable, or another kind of index.
        """
        stored = read_index(path, mmap=mmap, kind=cls.kind)
        codes, tables = open_payload(stored)
        index = cls(stored.n_bits, backend=backend)
        try:
            index._flat = FlatIndex.over(codes, n_bits=stored.n_bits, backend=backend)
        except CodeError as error:
            raise CorruptError(
                f"the index file {str(path)!r} is damaged ({error}); build the index again from its codes and save it"
            ) from error
        index._tables, index._stored = tables, stored
        return index

    def verify(self) -> None:
        """Check the opened file, if there is one, and the codes.

        Raises:
            CorruptError: a block of the file differs from its checksum.
        """
        if self._stored is not None:
            self._stored.verify()
        self._flat.verify()

    def _ready(self, queries: int, mask: Mask | None) -> tuple[Mask | None, Tables | None, Codes]:
        """The checked mask, the tables if they are to be used, and the codes as they are now.

        All that follows is about these codes, whatever another thread adds meanwhile.
        """
        codes = self.codes
        if mask is not None:
            mask = check_mask(mask, len(codes))
        reason, tables = "", self._tables
        if _small(tables, codes):
            reason = self._why_no_tables()
            if not reason and queries:
                with self._lock:
                    if _small(self._tables, codes):  # no other thread has built them meanwhile
                        self._tables = make_tables(codes, n_bits=self.n_bits)
                tables = self._tables
        elif not native.available():
            reason = _NO_EXTENSION
        if not reason and tables is not None and tables.count > len(codes):
            reason = "the tables hold codes that were added during the search"
        if not reason and mask is not None and np.count_nonzero(mask) * _SELECTIVE < len(mask):
            reason = "the mask selects few rows"
        self.last = MIHStats(queries, queries, reason=reason)
        return mask, None if reason or not queries else tables, codes

    def _why_no_tables(self) -> str:
        if not native.available():
            return _NO_EXTENSION
        return plan(len(self), n_bits=self.n_bits).reason

    def _call(
        self,
        tables: Tables,
        codes: Codes,
        queries: Codes,
        k: int,
        mask: Mask | None,
        radius: int,
        batch: int,
        threads: int,
        *out: Any,
    ) -> Any:
        always, once = SCAN_WORD_NS
        words = (bytes_for(self.n_bits) + 7) // 8
        scan = len(codes) * words * (always + once / batch) / get_num_threads()
        costs = scan, PROBE_NS, CANDIDATE_NS
        known = codes[: tables.count]
        try:
            return native.extension().mih_search(
                known, queries, k, mask, self.n_bits, radius, tables.parts, costs, threads, *out
            )
        except ValueError as error:
            raise CorruptError(
                f"the tables of the index cannot be used ({error}); build it again from its codes and save it"
            ) from error


def _small(tables: Tables | None, codes: Codes) -> bool:
    """Whether the tables lack so many of the codes that they are to be made again."""
    return tables is None or 2 * (len(codes) - tables.count) > tables.count


_Triples = tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.int64]]


def _triples(hits: RangeHits, queries: npt.NDArray[np.int64]) -> _Triples:
    """(query, distance, row) of every hit."""
    return np.repeat(queries, np.diff(hits.limits)), hits.distances, hits.rows


def _merge(distances: Any, rows: Any, rest: Hits, offset: int) -> tuple[Any, Any]:
    """The nearest of two sets of hits; the second is of rows from ``offset`` on."""
    k = distances.shape[1]
    near = np.concatenate([distances, rest.distances], axis=1)
    at = np.concatenate([rows, np.where(rest.rows < 0, -1, rest.rows + offset)], axis=1)
    order = np.lexsort((at, np.where(at < 0, np.iinfo(np.int32).max, near)), axis=1)[:, :k]
    return np.take_along_axis(near, order, axis=1), np.take_along_axis(at, order, axis=1)


def _stats(stats: npt.NDArray[np.int64]) -> MIHStats:
    probed, probes, candidates, _ = (stats[0] if len(stats) == 1 else stats.sum(axis=0)).tolist()
    return MIHStats(len(stats), len(stats) - probed, probes, candidates)
