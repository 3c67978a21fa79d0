"""What the approximate indexes on FAISS have in common, and what is done around FAISS for them.

    codes ─► FlatIndex (every code, exact) ── selective masks, missing hits, the truth for recall
          └► a structure of FAISS          ── everything else

FAISS answers with fewer hits than there are when its lists or its graph run dry; such a query is answered by the
exact scan, so a row is short only where nothing more may be found. A mask that selects few rows is left to the
exact scan too: it is faster there, and always right. What is returned has exact distances, in the order of
(distance, row); approximate means that a near code may be missing, and ``recall`` says how many are.

A saved file (``storage``) has as its payload the codes row by row, and behind them FAISS's own serialisation, if the
structure was built. Must not know which structure it is.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from hashret.codes import Codes, bytes_for, check_codes, one_row
from hashret.errors import CorruptError
from hashret.index.asymmetric import AsymmetricHits, search_asymmetric
from hashret.index.flat import FlatIndex
from hashret.index.storage import read_index, write_index
from hashret.kernels import Hits, RangeHits, get_num_threads
from hashret.kernels._faiss import counts_right, faiss_threads, load_faiss
from hashret.kernels.contract import Mask, check_k, check_mask, check_queries, check_radius
from hashret.kernels.parallel import in_threads, pieces

_SELECTIVE = 8  # a mask that selects fewer than N / 8 rows goes to the exact scan


class ApproximateIndex(ABC):
    """A structure of FAISS beside all codes; see ``IVFIndex`` and ``HNSWIndex``.

    Many threads may search at a time, but none while another adds or builds.

    Args:
        n_bits: width of the codes.
    """

    kind: ClassVar[str]

    def __init__(self, n_bits: int) -> None:
        self._flat = FlatIndex(n_bits)
        self._faiss: Any = None  # holds the first rows of the codes; all of them once it is built
        self._lock = threading.Lock()  # of what changes the two, and of what needs both as they fit

    @abstractmethod
    def _build(self) -> Any:
        """The structure over all codes, or None where there are too few for it to pay."""

    @abstractmethod
    def _find(self, queries: Codes, k: int, mask: Mask | None) -> tuple[Any, Any]:
        """FAISS's (Q, m) distances and rows of one part of the queries, in any order, missing ones with row -1."""

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
        return f"{type(self).__name__}(n_bits={self.n_bits}, codes={len(self)})"

    def add(self, codes: Codes) -> None:
        """Append codes; they get the rows N to N + M - 1.

        Raises:
            CodeError: they do not fit ``n_bits``; nothing was added.
        """
        new = check_codes(one_row(codes), n_bits=self.n_bits)
        with self._lock:
            self._flat.add(new)
            if self._faiss is not None and len(new):
                with faiss_threads(get_num_threads()):
                    self._faiss.add(new)

    def build(self) -> None:
        """Build the structure anew over all codes; the first search does it where it was not done before."""
        with self._lock:
            self._faiss = self._build()

    def search(self, queries: Codes, k: int, *, mask: Mask | None = None, radius: int | None = None) -> Hits:
        """About the ``k`` nearest codes of each query, ordered by (distance, row).

        Args, Returns and Raises: as in ``FlatIndex.search``; near codes may be missing, distances are exact.
        """
        queries, k = check_queries(queries, n_bits=self.n_bits), check_k(k)
        limit = self.n_bits if radius is None else check_radius(radius, n_bits=self.n_bits)
        allowed = len(self)
        if mask is not None:
            mask = check_mask(mask, len(self))
            allowed = int(np.count_nonzero(mask))
        if len(queries) and len(self) and self._faiss is None:
            self.build()
        if self._faiss is None or not len(queries) or allowed * _SELECTIVE < len(self) or 2 * k > allowed:
            return self._flat.search(queries, k, mask=mask, radius=radius)
        hits = Hits(np.empty((len(queries), k), np.int32), np.empty((len(queries), k), np.int64))

        def part(start: int, end: int) -> None:
            with faiss_threads(1):
                near, rows = self._find(queries[start:end], k, mask)
            if not counts_right(queries.shape[1]):
                different = self.codes[rows] ^ queries[start:end, None]
                near = np.bitwise_count(different).sum(axis=2, dtype=np.int32)
            missing = rows < 0 if mask is None else (rows < 0) | ~mask[rows]
            near, rows = np.where(missing, self.n_bits + 1, near), np.where(missing, -1, rows)
            order = np.lexsort((rows, near), axis=1)[:, :k]
            hits.distances[start:end] = np.take_along_axis(near, order, axis=1)
            hits.rows[start:end] = np.take_along_axis(rows, order, axis=1)

        in_threads(part, pieces(len(queries), get_num_threads()))
        short = np.flatnonzero(hits.rows[:, -1] < 0)
        if len(short):
            exact = self._flat.search(queries[short], k, mask=mask)
            hits.distances[short], hits.rows[short] = exact
        far = hits.distances > limit
        hits.distances[far], hits.rows[far] = -1, -1
        return hits

    def range_search(self, queries: Codes, radius: int, *, mask: Mask | None = None) -> RangeHits:
        """All codes within ``radius`` (inclusive), exactly, by a scan: FAISS has no (complete) answer to this."""
        return self._flat.range_search(queries, radius, mask=mask)

    def search_asymmetric(
        self, relaxed: npt.ArrayLike, k: int, *, oversample: int = 4, mask: Mask | None = None
    ) -> AsymmetricHits:
        """As ``FlatIndex.search_asymmetric``."""
        return search_asymmetric(self, relaxed, k, oversample=oversample, mask=mask)

    def recall(self, queries: Codes, k: int) -> float:
        """The share of the ``k`` nearest codes that a search finds, on queries of yours, against the exact scan.

        Any code at the distance of the k-th counts as found in its place, so ties cost nothing.

        Args:
            queries: (Q, n_bytes) uint8, Q >= 1.
            k: as in ``search``.
        """
        found, exact = self.search(queries, k), self._flat.search(queries, k)
        expected = exact.rows >= 0
        kth = np.where(expected, exact.distances, -1).max(axis=1, keepdims=True)
        hit = (found.rows >= 0) & (found.distances <= kth)
        return float(hit.sum() / max(1, expected.sum()))

    def save(self, path: str | Path) -> None:
        """Write codes and structure to one file, at once or not at all.

        Raises:
            StorageError: the file cannot be written; an existing one is as it was.
        """
        with self._lock:
            codes = self.codes
            if self._faiss is None and len(codes):
                self._faiss = self._build()
            parts = [codes.reshape(-1)]
            if self._faiss is not None:
                parts.append(load_faiss().serialize_index_binary(self._faiss))
            payload = np.concatenate(parts)
        write_index(path, payload, kind=self.kind, n_bits=self.n_bits, count=len(codes))

    @classmethod
    def open(cls, path: str | Path, *, mmap: bool = True) -> Self:
        """Open what ``save`` wrote; its checksums are compared first, for FAISS trusts what it reads.

        Args:
            path: the file.
            mmap: map the codes instead of reading them; the structure of FAISS is read in either case.

        Raises:
            CorruptError: foreign, truncated or damaged.
            VersionError: from a later hashret.
            StorageError: missing, unreadable, or another kind of index.
        """
        stored = read_index(path, mmap=mmap, kind=cls.kind)
        if mmap:
            stored.verify()
        n_bytes = bytes_for(stored.n_bits)
        end = stored.count * n_bytes
        index = cls(stored.n_bits)
        index._flat = FlatIndex.over(stored.payload[:end].reshape(-1, n_bytes), n_bits=stored.n_bits)
        if len(stored.payload) > end:
            index._faiss = load_faiss().deserialize_index_binary(stored.payload[end:])
            if (index._faiss.ntotal, index._faiss.d) != (stored.count, 8 * n_bytes):
                raise CorruptError(
                    f"the two parts of the index file {str(path)!r} do not belong together; build it again"
                )
            index._restore(index._faiss)
        return index

    @abstractmethod
    def _restore(self, structure: Any) -> None:
        """Take over the parameters that FAISS saved."""
